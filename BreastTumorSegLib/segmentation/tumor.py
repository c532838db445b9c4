"""The tumour probability, and masks grown from what the network is sure of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from BreastTumorSegLib.core.boxes import bounding_box as tight_box
from BreastTumorSegLib.core.boxes import shifted, widened
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, first_post_index
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.networks.bundle import Bundle, LesionWeights, ModelDescription
from BreastTumorSegLib.networks.inputs import bounding_box, breast_only, normalised, seconds_after_injection
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.candidates import LEAST_SURE, Candidate, judged
from BreastTumorSegLib.segmentation.engine import Engine, EngineOptions
from BreastTumorSegLib.segmentation.resample import crop, isotropic_grid, resample

MARGIN_MM = 10.0
"""Around the breast's box, so that the skin has air in front of it."""

SEEN_MM = 6.0
"""Around the breasts, of a network that sees them only: skin, and masks that are a little too small."""

SURE_MM = 1.25
"""A candidate is as sure as the highest probability in it after smoothing with a Gaussian of this standard deviation.
Single voxels of vessels and gland reach high probabilities, too, and interpolation lowers a lesion's highest one."""

GROW_FRACTIONS = (0.5, 0.6, 0.7, 0.8)
"""Growing takes voxels over this share of the seed's bright end; the next share is tried where it leaks."""

GROW_REACH_MM = 5.0
LEAK_FACTOR = 2.5
"""A lesion that grows to more than this many times its seed has leaked into gland or vessels."""

VESSEL_RADIUS_MM = 1.5
"""Branches whose middle is no deeper than this are cut off: they are vessels that lead to the lesion."""


def tumor_probability(
    exam: Exam,
    breast: BreastMask,
    bundle: Bundle,
    device: torch.device,
    events: Events,
    options: EngineOptions | None = None,
) -> np.ndarray:
    """Tumour probability (Z, Y, X) float32 on the exam's grid, 0 outside the breasts.

    Of a model with a partner it is that of the mean of their logits, by the model's share.
    """
    if not breast.labels.any():
        return np.zeros(exam.geometry.shape, np.float32)
    grid, inside = seen_by(bundle.description, breast, exam.geometry)
    told = [_logits(exam, grid, inside, member, device, events, options) for member in bundle.members]
    share = bundle.description.share
    logits = torch.lerp(told[1], told[0], share) if bundle.partner else told[0]
    probability = bundle.description.probability(logits)
    return within_breasts(probability.numpy(), grid, breast.labels, exam.geometry)


def _logits(
    exam: Exam,
    grid: Geometry,
    inside: Tensor,
    bundle: Bundle,
    device: torch.device,
    events: Events,
    options: EngineOptions | None,
) -> Tensor:
    """What one network says of its grid (Z, Y, X), right where `inside`."""
    description = bundle.description
    chosen = description.phases_of(exam.times)
    times = tuple(exam.times[index] for index in chosen)
    image = torch.from_numpy(np.stack([resample(exam.data[index], exam.geometry, grid) for index in chosen]))
    image = normalised(shown(description, image, inside), description.normalisation, first_post_index(times))
    engine = Engine(bundle, device, events, options)
    return engine.predict(image, inside, seconds_after_injection(times))[0]


def seen_by(description: ModelDescription, breast: BreastMask, geometry: Geometry) -> tuple[Geometry, Tensor]:
    """The grid of what a network sees of an exam, and the breasts on it, bool (Z, Y, X)."""
    grid = isotropic_grid(geometry, description.spacing_mm)
    inside = torch.from_numpy(resample(breast.coarse, breast.grid, grid) > 0.5)
    around = field_of(description, inside)
    return crop(grid, around), inside[around]


def within_breasts(values: np.ndarray, grid: Geometry, breast: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Values (Z, Y, X) of a network's grid on the exam's grid, float32, 0 outside the breasts' mask (Z, Y, X)."""
    whole = np.zeros(geometry.shape, np.float32)
    box = bounding_box(torch.from_numpy(breast > 0), 0)
    whole[box] = np.where(breast[box] > 0, resample(values, grid, crop(geometry, box)), 0)
    return whole


def field_of(description: ModelDescription, breast: Tensor) -> tuple[slice, slice, slice]:
    """The part of an exam that a network sees: all of it, or the box of the breasts, bool (Z, Y, X), and a margin."""
    if description.field == "exam":
        return bounding_box(torch.ones_like(breast), 0)
    return bounding_box(breast, round(MARGIN_MM / description.spacing_mm))


def shown(description: ModelDescription, phases: Tensor, breast: Tensor) -> Tensor:
    """Phases (C, Z, Y, X) of the field as the network is shown them; breasts bool (Z, Y, X)."""
    if description.field != "breast-only":
        return phases
    return breast_only(phases, breast, round(SEEN_MM / description.spacing_mm))


def grow(
    probability: np.ndarray,
    subtraction: np.ndarray,
    allowed: np.ndarray,
    geometry: Geometry,
    threshold: float,
    peak: float,
    weights: LesionWeights | None = None,
    events: Events | None = None,
) -> np.ndarray:
    """How likely each component of the probability is a lesion, grown over what enhances like it: float32 (Z, Y, X).

    0 is no tumour; without weights it is how sure the network is of the component. The network sees 2 mm voxels and
    stays inside the lesion; its components are seeds. A lesion takes the connected voxels within reach whose
    enhancement is over a share of the seed's 80th percentile.

    Args:
        probability: (Z, Y, X).
        subtraction: First post-contrast minus pre-contrast phase, (Z, Y, X).
        allowed: bool, where tumour can be: the breasts.
        threshold: Probability from which a voxel is a seed.
        peak: How sure a component must be, see `SURE_MM`; with weights, how likely it must be a lesion.
        weights: Of the features by which lesions are told.
        events: Asked whether to go on; growing takes milliseconds, so the stage "tumor" counts as done.

    Raises:
        Cancelled: On request.
    """
    likely = np.zeros(probability.shape, np.float32)
    for each in grown_candidates(probability, subtraction, allowed, geometry, threshold, peak, weights, events):
        likely[each.box] = np.maximum(likely[each.box], each.standing * each.mask)
    return likely


def grown_candidates(
    probability: np.ndarray,
    subtraction: np.ndarray,
    allowed: np.ndarray,
    geometry: Geometry,
    threshold: float,
    peak: float = 0.0,
    weights: LesionWeights | None = None,
    events: Events | None = None,
) -> list[Candidate]:
    """The candidates that `grow` puts together, those that reach the peak; its arguments and errors."""
    if weights is None:
        return list(_grown(probability, subtraction, allowed, geometry, threshold, peak, events or Events()))
    seen = list(_grown(probability, subtraction, allowed, geometry, threshold, LEAST_SURE, events or Events()))
    told = judged(seen, probability, subtraction, allowed, geometry, weights)
    return [each for each in told if each.standing >= peak]


def _grown(
    probability: np.ndarray,
    subtraction: np.ndarray,
    allowed: np.ndarray,
    geometry: Geometry,
    threshold: float,
    least: float,
    events: Events,
) -> Iterator[Candidate]:
    """Every component that is at least so sure, grown; none is empty."""
    seeds = probability >= threshold
    z, y, x = (int(np.ceil(GROW_REACH_MM / step)) for step in geometry.spacing_zyx)  # and more than smoothing reaches
    around = widened(tight_box(seeds), (z, y, x), probability.shape)
    sure, gain, free = (volume[around] for volume in (probability, subtraction, allowed))
    labels, _ = ndimage.label(seeds[around], np.ones((3, 3, 3)))
    surest = surest_of(sure, labels, geometry.spacing_zyx)
    for number, found in enumerate(ndimage.find_objects(labels)):
        events.progress("tumor", 1, 1)
        if surest[number] >= least:
            box = widened(found, (z, y, x), labels.shape)
            mask = _grow_one(labels[box] == number + 1, gain[box], free[box], geometry.spacing_zyx)
            if mask.any():
                yield Candidate(float(surest[number]), shifted(box, around), mask)


def surest_of(probability: np.ndarray, labels: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """How sure every label from 1 on is, (N,), see `SURE_MM`; looks around them only, not at the whole volume."""
    sigma = [SURE_MM / step for step in spacing]
    z, y, x = (int(np.ceil(3 * width)) for width in sigma)
    surest = []
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        box = widened(found, (z, y, x), labels.shape)
        smooth = ndimage.gaussian_filter(probability[box], sigma, mode="constant", truncate=3)
        surest.append(smooth[labels[box] == number].max())
    return np.array(surest)


def _grow_one(
    seed: np.ndarray, subtraction: np.ndarray, allowed: np.ndarray, spacing: tuple[float, float, float]
) -> np.ndarray:
    """One lesion, grown from its seed; the seed itself where every try leaks."""
    smooth = ndimage.gaussian_filter(subtraction, [0.6 / step for step in spacing])
    bright = float(np.percentile(smooth[seed], 80))
    near = allowed & (ndimage.distance_transform_edt(~seed, spacing) <= GROW_REACH_MM)
    for fraction in GROW_FRACTIONS:
        core = near & (smooth > fraction * bright)
        labels, _ = ndimage.label(core)
        grown = _without_branches(np.isin(labels, np.unique(labels[seed & core])) & core, spacing)
        if grown.sum() <= LEAK_FACTOR * seed.sum():
            return ndimage.binary_fill_holes(grown | _deeper_than(1.0, seed, spacing)) & allowed
    return seed


def _without_branches(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """A mask opened with a ball of `VESSEL_RADIUS_MM`; a lesion that is thin everywhere stays as it is."""
    core = _deeper_than(VESSEL_RADIUS_MM, mask, spacing)
    if not core.any():
        return mask
    return mask & (ndimage.distance_transform_edt(~core, spacing) <= VESSEL_RADIUS_MM)


def _deeper_than(depth: float, mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Voxels of a mask that are more than `depth` mm from the nearest voxel outside it."""
    return ndimage.distance_transform_edt(np.pad(mask, 1), spacing)[1:-1, 1:-1, 1:-1] > depth
