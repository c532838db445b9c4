"""The measures of the MAMA-MIA challenge (MICCAI 2025), as its released scoring code computes them."""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.metrics.surface import hausdorff95

HD_MAX = 150.0
"""Voxels by which the Hausdorff distance is divided."""


def normalised_hd95(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Hausdorff distance at the 95th percentile over 150; 0 where both masks are empty, 1 where one is.

    In voxels, not millimetres, because the released code drops the spacing; and a mask's voxels at the image's border
    are no contour for it (ITK's LabelContour). Not clipped: it can exceed 1.

    Args:
        prediction: Mask, (Z, Y, X) bool.
        reference: Mask of the same shape.
    """
    distance = hausdorff95(prediction, reference, (1.0, 1.0, 1.0), border=False)
    if np.isnan(distance):
        return 0.0
    return distance / HD_MAX if np.isfinite(distance) else 1.0


def performance(dice: float, norm_hd: float) -> float:
    """The challenge's performance score (Dice + 1 - NormHD) / 2; of a cohort, the mean over its cases."""
    return (dice + 1.0 - norm_hd) / 2


def rank_score(performance: float, fairness: float) -> float:
    """What the challenge ranks by: half performance, half fairness."""
    return (performance + fairness) / 2
