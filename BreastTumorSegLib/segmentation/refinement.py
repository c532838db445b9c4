"""Candidates of the tumour network looked at again, closely: a second network at 1 mm draws or drops them.

The first network sees 2 mm voxels of the whole breasts. This one sees a window around each of its candidates, with the
first one's probability as a further channel. Over the whole breasts, a network at 1 mm would find far too much.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from BreastTumorSegLib.core.boxes import Box, bounding_box, widened
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription, load_bundle
from BreastTumorSegLib.networks.inputs import IntensityScale, intensity_scale
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.resample import crop, resample
from BreastTumorSegLib.segmentation.tumor import MARGIN_MM, grow, seen_by, surest_of, within_breasts

WINDOW_MM = 48.0
"""Edge of a window, as in training; larger around candidates that do not fit."""
REACH_MM = 8.0
"""The first network stays inside a lesion; its edge is this far away at most."""


def load_refinement(tumor: Bundle, folder: Path | None = None) -> Bundle | None:
    """The model that draws what a tumour model finds; None where its lesions are grown.

    Raises:
        ModelError: It is missing or damaged.
    """
    named = tumor.description.refined_by
    return load_bundle(named, "refinement", folder) if named else None


def outlined(
    probability: np.ndarray,
    exam: Exam,
    breast: BreastMask,
    tumor: ModelDescription,
    refinement: Bundle | None,
    device: torch.device,
    events: Events,
) -> np.ndarray:
    """Each candidate of a tumour model drawn by a second network, or grown without one: how likely, float32 (Z, Y, X).

    0 is no tumour. Of what is drawn it is the second network's probability, of what is grown see `grow`.

    Raises:
        OutOfMemoryError: Memory ran out after every fallback.
        Cancelled: On request.
    """
    if refinement:
        close = refined(probability, exam, breast, refinement, tumor.threshold, tumor.peak, device, events)
        return np.where(close >= refinement.description.threshold, close, 0)
    gain, inside = exam.first_post - exam.pre, breast.labels > 0
    return grow(probability, gain, inside, exam.geometry, tumor.threshold, tumor.peak, tumor.lesion_weights, events)


def refined(
    probability: np.ndarray,
    exam: Exam,
    breast: BreastMask,
    bundle: Bundle,
    threshold: float,
    peak: float,
    device: torch.device,
    events: Events,
) -> np.ndarray:
    """Probability of the second network, float32 (Z, Y, X) on the exam's grid; 0 away from candidates.

    Args:
        probability: Of the first network, (Z, Y, X).
        bundle: For "refinement".
        threshold: A candidate is a connected part of this probability.
        peak: How sure a candidate must be, see `SURE_MM`.

    Raises:
        OutOfMemoryError: Memory ran out after every fallback.
        Cancelled: On request.
    """
    sure = _sure(probability, exam.geometry, threshold, peak)
    if not sure.any():
        return np.zeros(exam.geometry.shape, np.float32)
    described, engine = bundle.description, Engine(bundle, device, events)
    grid, _ = seen_by(described, breast, exam.geometry)
    likely = resample(probability, exam.geometry, grid)
    scale = _scale(exam, breast, bundle)
    # A quarter of a voxel keeps candidates that are small on the exam's grid.
    labels, _ = ndimage.label(resample(sure, exam.geometry, grid) >= 0.25, np.ones((3, 3, 3)))
    fine = np.zeros(grid.shape, np.float32)
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        events.check()
        window = _window(found, grid, described.network.multiple)
        image = _image(exam, bundle, scale, crop(grid, window), likely[window])
        near = ndimage.distance_transform_edt(labels[window] != number, grid.spacing_zyx) <= REACH_MM
        logits = engine.predict(_padded(image, described.network.multiple), torch.from_numpy(near))
        told = described.probability(logits[0]).numpy()
        fine[window] = np.maximum(fine[window], np.where(near, told, 0))
    return within_breasts(fine, grid, breast.labels, exam.geometry)


def _sure(probability: np.ndarray, geometry: Geometry, threshold: float, peak: float) -> np.ndarray:
    """The connected parts of a probability over the threshold that are sure enough, bool (Z, Y, X)."""
    labels, _ = ndimage.label(probability >= threshold, np.ones((3, 3, 3)))
    return np.append(False, surest_of(probability, labels, geometry.spacing_zyx) >= peak)[labels]


def _scale(exam: Exam, breast: BreastMask, bundle: Bundle) -> IntensityScale:
    """Of the breasts and a margin around them, as in training."""
    z, y, x = (round(MARGIN_MM / step) for step in exam.geometry.spacing_zyx)
    around = widened(bounding_box(breast.labels), (z, y, x), exam.geometry.shape)
    chosen = bundle.description.phases_of(exam.times)
    voxels = np.stack([exam.data[(index, *around)][::2, ::2, ::2] for index in chosen])
    return intensity_scale(torch.from_numpy(voxels.astype(np.float32)), bundle.description.normalisation)


def _window(candidate: Box, grid: Geometry, multiple: int) -> Box:
    """The part of the network's grid that is looked at for a candidate."""
    window = []
    for part, size, step in zip(candidate, grid.shape, grid.spacing_zyx, strict=True):
        wished = max(WINDOW_MM, (part.stop - part.start) * step + 2 * REACH_MM)
        edge = min(-(-round(wished / step) // multiple) * multiple, size)
        start = (part.start + part.stop - edge) // 2
        start = min(max(start, 0), size - edge)
        window.append(slice(start, start + edge))
    return window[0], window[1], window[2]


def _image(exam: Exam, bundle: Bundle, scale: IntensityScale, grid: Geometry, likely: np.ndarray) -> Tensor:
    """What the network sees of a window, (C, Z, Y, X): phases, and the first network's probability."""
    chosen = bundle.description.phases_of(exam.times)
    phases = np.stack([resample(exam.data[index], exam.geometry, grid) for index in chosen])
    return torch.cat([scale(torch.from_numpy(phases)), torch.from_numpy(likely)[None]])


def _padded(image: Tensor, multiple: int) -> Tensor:
    """As in training beyond the field: phases with their minimum, the probability with 0, at the far ends."""
    pads = [n for size in reversed(image.shape[1:]) for n in (0, max(-size % multiple, 2 * multiple - size))]
    phases = functional.pad(image[:-1], pads, value=float(image[:-1].min()))
    return torch.cat([phases, functional.pad(image[-1:], pads)])
