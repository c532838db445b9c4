"""Functional tumour volume, against voxels counted by hand."""

import math

import numpy as np
import pytest

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.kinetics import KineticOptions, functional_tumor_volume
from BreastTumorSegLib.kinetics.ftv import breast_volumes, lesion_volume, with_neighbors

TIMES = (0.0, 150.0, 450.0)
VOXEL_ML = 0.5
FLAT = (100.0, 100.0, 100.0)
TUMOR = (100.0, 200.0, 180.0)


def box_of(curve, where, shape=(7, 7, 7)):
    """An exam of flat curves with another one somewhere; its 95th percentile before contrast is 100."""
    data = np.empty((3, *shape), np.float32)
    data[:] = np.reshape(FLAT, (3, 1, 1, 1))
    for phase, value in enumerate(curve):
        data[phase][where] = value
    return data


def volume(data, times=TIMES, region=None, **options):
    region = np.ones(data.shape[1:], bool) if region is None else region
    return functional_tumor_volume(data, times, region, VOXEL_ML, KineticOptions(**options))


BLOCK = np.s_[2:5, 2:5, 2:5]  # 27 voxels, each with at least 7 neighbours in it


def test_a_block_that_enhances():
    found = volume(box_of(TUMOR, BLOCK))
    assert found.ml == 13.5  # 27 half millilitres
    assert np.argwhere(found.mask).tolist() == [[z, y, x] for z in (2, 3, 4) for y in (2, 3, 4) for x in (2, 3, 4)]
    assert found.background == pytest.approx(60)
    assert volume(box_of(FLAT, BLOCK)).ml == 0


@pytest.mark.parametrize(
    ("curve", "counts"),
    [
        ((100, 170, 150), True),  # at 70 %
        ((100, 169.9, 150), False),
        ((60, 120, 110), True),  # at 60 % of the percentile
        ((59.9, 120, 110), False),
        ((100, 200, 300), True),  # persistent, ratio 0.5
        ((100, 200, 100), True),  # back at its baseline: the ratio is infinite
        ((100, 200, 99), False),  # below it: the ratio is negative
        ((0, 200, 100), False),
        ((-100, 200, 100), False),
    ],
)
@pytest.mark.filterwarnings("error")
def test_thresholds(curve, counts):
    assert volume(box_of(curve, BLOCK)).ml == (13.5 if counts else 0)


@pytest.mark.parametrize(("least", "counts"), [(1.0, True), (1.25, True), (1.3, False)])
def test_another_ratio_may_be_asked_for(least, counts):
    assert volume(box_of(TUMOR, BLOCK), ftv_ser=least).ml == (13.5 if counts else 0)  # its ratio is 100 / 80


def test_other_thresholds_may_be_asked_for():
    faint = box_of((50, 75, 75), BLOCK)
    assert volume(faint).ml == 0
    assert volume(faint, ftv_background=50, ftv_pe=50).ml == 13.5


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        (np.s_[3, 3, 1:6], 0),  # a line: two neighbours
        (np.s_[3, 2:4, 2:4], 0),  # a square of four: three neighbours
        (np.s_[3, 2:4, 1:6], 6),  # two rows of five: the ends have three, the others five
        (np.s_[3, 2:5, 2:5], 5),  # a square of nine: the corners have three, the others five and eight
        (np.s_[2:4, 2:4, 2:4], 8),  # a cube of eight: seven
        (np.s_[0:2, 0:2, 0:2], 8),  # in the corner of the box
    ],
)
def test_at_least_four_neighbors(where, kept):
    mask = np.zeros((7, 7, 7), bool)
    mask[where] = True
    assert np.count_nonzero(with_neighbors(mask, 4)) == kept
    assert volume(box_of(TUMOR, where)).ml == kept * VOXEL_ML


def test_a_voxel_with_exactly_four_neighbors_is_not_its_own():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = mask[0, 0, 0] = mask[0, 2, 2] = mask[2, 0, 2] = mask[2, 2, 0] = True
    assert np.argwhere(with_neighbors(mask, 4)).tolist() == [[1, 1, 1]]
    assert not with_neighbors(mask, 5).any()
    assert np.array_equal(with_neighbors(mask, 0), mask)


def test_neighbors_do_not_reach_round_the_border():
    mask = np.zeros((3, 4, 5), bool)
    mask[:, 1, 0] = mask[:, 1, 4] = True
    assert not with_neighbors(mask, 3).any()


def test_a_neighbor_that_washes_out_below_its_baseline_still_is_one():
    data = box_of(TUMOR, np.s_[3, 2:5, 2:5])
    data[2, 3, 3, 3] = 90  # the middle of nine
    assert volume(data).ml == 4 * VOXEL_ML


def test_only_the_region_counts_but_the_whole_box_sets_the_background():
    data = box_of(TUMOR, np.s_[:])
    region = np.zeros((7, 7, 7), bool)
    region[BLOCK] = True
    assert volume(data, region=region).ml == 13.5
    data[0, 5:] = 400  # 2 of 7 slices are bright before contrast: 60 % of that is above the rest
    assert volume(data, region=region).background == pytest.approx(240)
    assert volume(data, region=region).ml == 0


def test_between_phases():
    # at 150 s half way from 140 to 200; at 450 s half way from 160 to 120
    data = np.concatenate([box_of((100, 140, 200), BLOCK), box_of((160, 120, 0), BLOCK)[:2]])
    assert volume(data, times=(0, 100, 200, 400, 500)).ml == 13.5
    assert volume(data, times=(0, 100, 202, 400, 500)).ml == 0  # 69.4 %


def test_one_post_contrast_phase_has_no_volume():
    found = volume(box_of(TUMOR, BLOCK)[:2], times=(0, 150))
    assert math.isnan(found.ml) and not found.mask.any()


@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("error")
def test_what_is_not_a_number_does_not_count(phase, value):
    data = box_of(TUMOR, BLOCK)
    data[phase, 3, 3, 3] = value
    assert volume(data).ml == 13.0
    data[:] = value
    assert volume(data).ml == 0


@pytest.mark.parametrize("empty", [(3, 0, 4, 4), (3, 2, 4, 4)])
def test_an_empty_box(empty):
    assert volume(np.zeros(empty, np.float32)).ml == 0


def test_each_breast_has_a_box_of_its_own():
    data = box_of(TUMOR, BLOCK, (7, 7, 20))
    data[:, :, :, 10:] *= 10  # the other side of the coil is much brighter
    data[:, 2:5, 2:5, 14:17] = np.reshape((1000, 2000, 1800), (3, 1, 1, 1))
    breast = np.zeros((7, 7, 20), np.uint8)
    breast[:, :, :8], breast[3:, :, 12:] = 1, 2
    labels, millilitres = breast_volumes(data, TIMES, breast, VOXEL_ML)
    assert millilitres == {"right": 13.5, "left": 9.0}  # two of three slices
    assert (np.count_nonzero(labels == 1), np.count_nonzero(labels == 2)) == (27, 18)
    breast[breast == 1] = 0
    assert breast_volumes(data, TIMES, breast, VOXEL_ML)[1] == {"left": 9.0}
    assert breast_volumes(data, TIMES, np.zeros_like(breast), VOXEL_ML)[1] == {}


def test_a_lesions_volume_is_that_of_its_own_voxels():
    data = box_of(TUMOR, np.s_[10:13, 10:13, 8:13], (25, 25, 25))
    data[0, :, :, 24] = 10_000  # 12 mm away from the lesion: out of its box
    labels = np.zeros((25, 25, 25), np.uint8)
    labels[10:13, 10:13, 10:13] = 1
    geometry = Geometry((25, 25, 25), (1.0, 1.0, 1.0))
    assert lesion_volume(data, TIMES, labels, 1, np.s_[10:13, 10:13, 10:13], geometry) == pytest.approx(0.027)
