"""Lesion-wise detection."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Detection(NamedTuple):
    """Lesions of one exam, counted.

    Attributes:
        reference: Lesions in the reference.
        found: Those of them that a predicted lesion overlaps, by a voxel at least.
        predicted: Predicted lesions.
        false_positives: Those of them that overlap no lesion of the reference.
    """

    reference: int
    found: int
    predicted: int
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """Share of the reference's lesions that are found; NaN where it has none."""
        return self.found / self.reference if self.reference else float("nan")


def match_lesions(prediction: np.ndarray, reference: np.ndarray) -> Detection:
    """Count found and falsely predicted lesions; a lesion is a 26-connected part of a mask.

    Args:
        prediction: Tumour mask, (Z, Y, X) bool.
        reference: Tumour mask of the same shape.
    """
    predicted, predicted_count = lesion_parts(prediction)
    actual, count = lesion_parts(reference)
    overlap = prediction & reference
    right = len(np.unique(predicted[overlap]))
    return Detection(count, len(np.unique(actual[overlap])), predicted_count, predicted_count - right)


def lesion_parts(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the 26-connected parts of a mask from 1; the numbers, (Z, Y, X), and how many they are."""
    parts, count = ndimage.label(mask, np.ones((3, 3, 3), bool))
    return parts, count
