"""What a reader's correction changed in an automatic mask."""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.core.boxes import Box, bounding_box, united
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.metrics.surface import hausdorff95
from BreastTumorSegLib.review.records import Change

ADDED, REMOVED = 1, 2


def compare(automatic: np.ndarray, corrected: np.ndarray, geometry: Geometry) -> Change:
    """What a correction changed of the whole tumour mask, whichever lesion a voxel belongs to.

    Args:
        automatic: Labels or mask, (Z, Y, X); over 0 is tumour.
        corrected: The same, corrected.
        geometry: Grid of both.
    """
    before, after, _ = _masks(automatic, corrected)
    added, removed = int(np.count_nonzero(after & ~before)), int(np.count_nonzero(before & ~after))
    return Change(
        voxels_added=added,
        voxels_removed=removed,
        added_ml=added * geometry.voxel_ml,
        removed_ml=removed * geometry.voxel_ml,
        automatic_ml=int(np.count_nonzero(before)) * geometry.voxel_ml,
        corrected_ml=int(np.count_nonzero(after)) * geometry.voxel_ml,
        dice=dice(before, after, empty=float("nan")),
        hd95_mm=hausdorff95(before, after, geometry.spacing_zyx),
    )


def added_removed(automatic: np.ndarray, corrected: np.ndarray) -> tuple[np.ndarray, Box]:
    """Where a correction added or removed tumour, in the tight box around both masks.

    Args:
        automatic: Labels or mask, (Z, Y, X); over 0 is tumour.
        corrected: The same, corrected.

    Returns:
        0 the same, 1 added, 2 removed, uint8, in the box; and the box, empty where both masks are. To have it whole:
        `whole[box] = labels`.
    """
    before, after, box = _masks(automatic, corrected)
    return np.where(before == after, 0, np.where(after, ADDED, REMOVED)).astype(np.uint8), box


def _masks(automatic: np.ndarray, corrected: np.ndarray) -> tuple[np.ndarray, np.ndarray, Box]:
    """Both masks, bool, in the tight box around them; and the box."""
    box = united(bounding_box(automatic), bounding_box(corrected))
    return automatic[box] > 0, corrected[box] > 0, box
