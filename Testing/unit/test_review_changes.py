import math

import numpy as np
import pytest

from BreastTumorSegLib.core.boxes import NOWHERE
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.review.changes import added_removed, compare
from BreastTumorSegLib.review.records import Change

GRID = Geometry((8, 6, 4), (0.5, 1.0, 2.0))


def labels(*voxels):
    array = np.zeros(GRID.shape, np.uint8)
    for label, voxel in enumerate(voxels, start=1):
        array[voxel] = label
    return array


def test_change_of_known_masks():
    automatic = labels((1, 2, slice(2, 6)))
    corrected = labels((1, 2, slice(3, 6)), (1, 2, slice(6, 8)))
    # 3 voxels in common of 4 and 5; the surface is every voxel; the farthest one, x = 7, is 2 voxels from x = 5.
    # Distances to the automatic mask: 0 0 0 0.5 1.0; their 95th percentile is 0.9.
    assert compare(automatic, corrected, GRID) == Change(
        voxels_added=2,
        voxels_removed=1,
        added_ml=pytest.approx(0.002),
        removed_ml=pytest.approx(0.001),
        automatic_ml=pytest.approx(0.004),
        corrected_ml=pytest.approx(0.005),
        dice=pytest.approx(6 / 9),
        hd95_mm=pytest.approx(0.9),
    )


def test_other_numbers_of_the_same_lesions_are_no_change():
    a, b = (0, 0, slice(0, 2)), (3, 5, slice(6, 8))
    change = compare(labels(a, b), labels(b, a), GRID)
    assert (change.voxels_added, change.voxels_removed, change.dice, change.hd95_mm) == (0, 0, 1.0, 0.0)


def test_empty_masks():
    nothing, something = labels(), labels((1, 2, 3))
    assert math.isnan(compare(nothing, nothing, GRID).dice) and math.isnan(compare(nothing, nothing, GRID).hd95_mm)
    for change in (compare(nothing, something, GRID), compare(something, nothing, GRID)):
        assert (change.dice, change.hd95_mm) == (0.0, math.inf)
    assert compare(nothing, something, GRID).voxels_added == compare(something, nothing, GRID).voxels_removed == 1


def test_added_and_removed():
    automatic, corrected = labels((1, 2, slice(2, 6))), labels((slice(1, 3), 2, slice(3, 7)))
    changed, box = added_removed(automatic, corrected)
    assert box == (slice(1, 3), slice(2, 3), slice(2, 7))
    assert changed.dtype == np.uint8
    assert changed[:, 0].tolist() == [[2, 0, 0, 0, 1], [0, 1, 1, 1, 1]]


def test_no_masks_have_no_overlay():
    changed, box = added_removed(labels(), labels())
    assert (changed.size, box) == (0, NOWHERE)
