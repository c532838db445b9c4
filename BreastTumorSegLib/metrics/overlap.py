"""Overlap of two masks."""

from __future__ import annotations

import numpy as np


def dice(a: np.ndarray, b: np.ndarray, empty: float) -> float:
    """Dice coefficient 2 |A and B| / (|A| + |B|), from 0 to 1 (Dice 1945).

    Args:
        a: Mask of any shape, bool.
        b: Mask of the same shape.
        empty: The answer where both masks are empty: NaN clinically (nothing to measure), 0 in the challenge.
    """
    return _ratio(2 * _count(a & b), _count(a) + _count(b), empty)


def precision(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Share of the predicted voxels that are in the reference; NaN where nothing is predicted."""
    return _ratio(_count(prediction & reference), _count(prediction))


def recall(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Share of the reference's voxels that are predicted; NaN where the reference is empty."""
    return _ratio(_count(prediction & reference), _count(reference))


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))


def _ratio(part: int, whole: int, undefined: float = float("nan")) -> float:
    return part / whole if whole else undefined
