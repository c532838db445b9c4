"""Which simulated lesions can be seen at all."""

from __future__ import annotations

from math import pi

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.boxes import widened

LEAST_CONTRAST = 1.5
"""Of a lesion that can be seen: its mean enhancement above its surroundings' mean, in their standard deviations."""
RING_MM = (2.0, 8.0)
"""The surroundings: this far from the lesion, within the breasts."""
LEAST_ML = pi / 6 * 5**3 / 1000
"""A sphere of 5 mm: smaller ones are foci, see `decoys`."""
TOUCHING = np.ones((3, 3, 3))


def faint(enhancement: np.ndarray, tumor: np.ndarray, breast: np.ndarray, spacing: float) -> np.ndarray:
    """The parts of a tumour that nobody could tell from what is around them, or that are too small to be lesions.

    Args:
        enhancement: First post-contrast minus pre-contrast phase, (Z, Y, X).
        tumor: bool (Z, Y, X).
        breast: bool (Z, Y, X).
        spacing: Isotropic, mm.

    Returns:
        bool (Z, Y, X).
    """
    parts, _ = ndimage.label(tumor, TOUCHING)
    result = np.zeros(tumor.shape, bool)
    margin = round(RING_MM[1] / spacing) + 1
    for number, found in enumerate(ndimage.find_objects(parts), start=1):
        box = widened(found, (margin,) * 3, tumor.shape)
        part = parts[box] == number
        distance = ndimage.distance_transform_edt(~(tumor[box])) * spacing
        ring = (distance > RING_MM[0]) & (distance <= RING_MM[1]) & breast[box]
        small = part.sum() * spacing**3 / 1000 < LEAST_ML
        if small or not ring.any() or _contrast(enhancement[box], part, ring) < LEAST_CONTRAST:
            result[box] |= part
    return result


def _contrast(enhancement: np.ndarray, part: np.ndarray, ring: np.ndarray) -> float:
    around = enhancement[ring]
    return float((enhancement[part].mean() - around.mean()) / max(around.std(), 1e-6))
