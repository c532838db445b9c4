"""The whole-breast mask, left and right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import LEFT, RIGHT
from BreastTumorSegLib.networks.bundle import Bundle
from BreastTumorSegLib.networks.inputs import joint_z_score
from BreastTumorSegLib.segmentation.inference import predict
from BreastTumorSegLib.segmentation.resample import isotropic_grid, resample

SMALLEST_SHARE = 0.1
"""A component smaller than this share of the largest one is no breast."""

STRAY_SHARE = 0.1
"""A component with less than this share on one side lies wholly on the other: one breast can't be both."""


@dataclass(frozen=True)
class BreastMask:
    """The mask on the exam's grid, and on the network's for what follows.

    Attributes:
        labels: uint8 (Z, Y, X), 0 background, 1 right, 2 left, on the exam's grid.
        coarse: The same on `grid`.
        grid: The network's grid.
    """

    labels: np.ndarray
    coarse: np.ndarray
    grid: Geometry


def segment_breast(
    pre: np.ndarray, geometry: Geometry, bundle: Bundle, device: torch.device, events: Events
) -> BreastMask:
    """Whole-breast mask of a pre-contrast phase (Z, Y, X), over its whole field of view."""
    grid = isotropic_grid(geometry, bundle.description.spacing_mm)
    image = joint_z_score(torch.from_numpy(resample(pre, geometry, grid))[None])
    logits = predict(bundle.network, image, bundle.description.network.multiple, device, events)
    shares = torch.softmax(logits, 0).numpy()
    foreground, side = 1 - shares[0], shares[LEFT] - shares[RIGHT]
    components = _components(foreground > bundle.description.threshold)
    side = _settle_sides(components, side)
    foreground = np.where(ndimage.binary_dilation(components > 0, iterations=2), foreground, 0)
    labels = _labels(resample(foreground, grid, geometry), resample(side, grid, geometry), bundle.description.threshold)
    return BreastMask(labels, _labels(foreground, side, bundle.description.threshold), grid)


def _labels(foreground: np.ndarray, side: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(foreground > threshold, np.where(side > 0, LEFT, RIGHT), 0).astype(np.uint8)


def _components(mask: np.ndarray) -> np.ndarray:
    """Labelled components without specks, holes filled."""
    filled = ndimage.binary_fill_holes(mask)
    labels, count = ndimage.label(filled)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    keep = np.flatnonzero(sizes >= SMALLEST_SHARE * sizes.max(initial=0)) + 1
    return np.where(np.isin(labels, keep), labels, 0)


def _settle_sides(components: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Give a component that lies nearly all on one side to that side, with its surroundings."""
    side = side.copy()
    for label in np.unique(components[components > 0]):
        inside = components == label
        left = float((side[inside] > 0).mean())
        if min(left, 1 - left) < STRAY_SHARE:
            around = ndimage.binary_dilation(inside, iterations=2)
            side[around] = 1.0 if left > 0.5 else -1.0
    return side
