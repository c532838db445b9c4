"""Diameter and size category of the largest lesion of a mask."""

import math

import numpy as np
import pytest

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.metrics.diameter import largest_diameter, size_agreement

NAN = math.nan
GRID = Geometry((60, 6, 5), (1.0, 2.0, 3.0))


def line(*voxels):
    """Lines of so many voxels along x, in rows that don't touch."""
    mask = np.zeros(GRID.shape, bool)
    for row, count in enumerate(voxels):
        mask[0, 2 * row, :count] = True
    return mask


def test_the_largest_lesion_is_the_longest_one():
    mask = line(21, 30)
    mask[2:4, 4:, 40:50] = True  # of 40 voxels, but only (81 + 4 + 9)^.5 mm from corner to corner
    assert largest_diameter(mask, GRID) == 29.0


def test_voxels_that_share_a_corner_are_one_lesion():
    mask = np.zeros(GRID.shape, bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert largest_diameter(mask, GRID) == pytest.approx((36 + 16 + 4) ** 0.5)


def test_one_voxel_measures_nothing_and_no_voxel_is_no_lesion():
    assert largest_diameter(line(1), GRID) == 0.0
    assert math.isnan(largest_diameter(line(), GRID))


@pytest.mark.parametrize(
    ("predicted", "actual", "categories", "right"),
    [
        (line(21), line(5), ("<= 20 mm", "<= 20 mm"), 1.0),  # 20 mm exactly
        (line(22), line(21), ("> 20 to <= 50 mm", "<= 20 mm"), 0.0),
        (line(51), line(22, 3), ("> 20 to <= 50 mm", "> 20 to <= 50 mm"), 1.0),
        (line(52), line(51), ("> 50 mm", "> 20 to <= 50 mm"), 0.0),
        (line(), line(5), ("", "<= 20 mm"), 0.0),
        (line(5), line(), ("<= 20 mm", ""), NAN),
    ],
)
def test_size_categories(predicted, actual, categories, right):
    row = size_agreement(predicted, actual, GRID)
    assert (row["size_category_predicted"], row["size_category_reference"]) == categories
    assert row["size_category_right"] == pytest.approx(right, nan_ok=True)
