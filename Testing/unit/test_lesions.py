from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import SIZE_CATEGORIES, size_category
from BreastTumorSegLib.metrics.diameter import longest_diameter
from BreastTumorSegLib.segmentation.lesions import LEAST_ML, label_lesions, measure_lesions

ONE_MM = Geometry((20, 20, 20), (1.0, 1.0, 1.0))
NONE, PERSISTENT, PLATEAU, WASHOUT = range(4)


def oblique(size, spacing, origin=(0.0, 0.0, 0.0)):
    """A grid turned about two axes."""
    a, b = np.deg2rad(30), np.deg2rad(-20)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return Geometry(size, spacing, origin, tuple((about_z @ about_x).ravel()))


def exam_on(geometry, times=(0.0, 150.0, 450.0)):
    phases = tuple(Phase(f"phase {t}", (Path("x.nii.gz"),), t, TimeSource.USER, geometry) for t in times)
    return Exam(PhaseTable(phases), np.zeros((len(times), *geometry.shape), np.float32))


def mask_of(*boxes, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def measure(labels, geometry=ONE_MM, **maps):
    times = maps.pop("times", (0.0, 150.0, 450.0))
    names = ("likely", "breast", "pe", "ser", "curve_type")
    arrays = {name: maps.get(name, np.zeros(labels.shape, np.uint8)) for name in names}
    return measure_lesions(labels, exam=exam_on(geometry, times), **arrays)


def test_lesions_are_numbered_from_the_largest():
    small, large = np.s_[1:4, 1:4, 1:4], np.s_[8:14, 8:14, 8:14]
    labels = label_lesions(mask_of(small, large), ONE_MM)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels == 1, mask_of(large))
    assert np.array_equal(labels == 2, mask_of(small))


def test_parts_that_share_a_corner_are_one_lesion():
    assert label_lesions(mask_of(np.s_[:3, :3, :3], np.s_[3:6, 3:6, 3:6]), ONE_MM).max() == 1
    assert label_lesions(mask_of(np.s_[:3, :3, :3], np.s_[4:7, :3, :3]), ONE_MM).max() == 2


def test_a_sphere_of_three_millimetres_is_the_least():
    assert pytest.approx(0.0141372, abs=1e-6) == LEAST_ML
    fourteen, fifteen = np.s_[:2, :7, :1], np.s_[5:8, :5, :1]
    labels = label_lesions(mask_of(fourteen, fifteen), ONE_MM)
    assert np.array_equal(labels > 0, mask_of(fifteen))
    assert label_lesions(mask_of(fourteen), ONE_MM, least_ml=0.014).max() == 1
    # the same voxels, each four times as large
    assert label_lesions(mask_of(fourteen), Geometry((20, 20, 20), (1.0, 1.0, 4.0))).max() == 1


def test_an_empty_mask_has_no_lesions():
    labels = label_lesions(mask_of(), ONE_MM)
    assert not labels.any()
    assert measure(labels) == ()


def test_more_than_255_lesions():
    mask = np.zeros((16, 16, 16), bool)
    mask[::2, ::2, ::2] = True
    labels = label_lesions(mask, Geometry((16, 16, 16), (3.0, 3.0, 3.0)))
    assert labels.dtype == np.uint16
    assert labels.max() == 512


@pytest.mark.parametrize("grid", [Geometry, oblique], ids=["straight", "oblique"])
@pytest.mark.parametrize(
    ("voxels_zyx", "spacing", "diameter"),
    [
        ((1, 1, 1), (1.0, 1.0, 1.0), 0.0),
        ((1, 1, 2), (0.5, 1.0, 1.0), 0.5),
        ((1, 4, 5), (1.0, 1.0, 1.0), 5.0),  # flat
        ((1, 1, 9), (0.7, 0.7, 3.0), 5.6),  # a line
        ((4, 4, 4), (1.0, 1.0, 1.0), 27**0.5),
        ((3, 5, 4), (1.0, 2.0, 3.0), (9 + 64 + 36) ** 0.5),
        ((5, 2, 3), (0.8, 0.8, 2.0), (64 + 0.64 + 2.56) ** 0.5),
    ],
)
def test_diameter_of_boxes_runs_between_the_centres_of_opposite_corners(voxels_zyx, spacing, diameter, grid):
    z, y, x = voxels_zyx
    mask = mask_of(np.s_[2 : 2 + z, 3 : 3 + y, 4 : 4 + x])
    assert longest_diameter(mask, grid((20, 20, 20), spacing)) == pytest.approx(diameter, abs=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.76, 0.76, 1.1), (0.7, 0.7, 2.0)])
def test_diameter_of_a_sphere(spacing):
    size = tuple(int(26 / s) for s in spacing)
    z, y, x = (s * (np.arange(n) - n / 2) for n, s in zip(size[::-1], spacing[::-1], strict=True))
    ball = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= 10**2
    assert 19.4 < longest_diameter(ball, Geometry(size, spacing)) <= 20.0


def test_diameter_is_that_of_all_pairs():
    random = np.random.default_rng(4)
    geometry = oblique((12, 12, 12), (0.7, 0.9, 2.2))
    for _ in range(10):
        mask = random.random((12, 12, 12)) < 0.02
        points = np.argwhere(mask)[:, ::-1] @ geometry.matrix[:3, :3].T
        every_pair = np.linalg.norm(points[:, None] - points, axis=-1)
        assert longest_diameter(mask, geometry) == pytest.approx(every_pair.max())


def test_measurements_of_two_lesions():
    first, second = np.s_[2:6, 2:6, 2:7], np.s_[10:13, 10:13, 10:13]
    geometry = Geometry((20, 20, 20), (0.5, 1.0, 2.0), (10.0, -20.0, 30.0))
    labels = 2 * mask_of(second).astype(np.uint8) + mask_of(first)
    breast = np.zeros(labels.shape, np.uint8)
    breast[:, :, :10], breast[:, :, 10:] = 1, 2
    pe = np.zeros(labels.shape, np.float32)
    pe[first] = np.arange(80).reshape(4, 4, 5)
    ser = np.zeros(labels.shape, np.float32)
    ser[10, 10:13, 10] = 0.5, 1.5, 2.5
    likely = np.where(labels == 1, 0.75, 0.5).astype(np.float32)
    one, two = measure(labels, geometry, likely=likely, breast=breast, pe=pe, ser=ser)

    assert (one.label, one.side, two.label, two.side) == (1, "right", 2, "left")
    assert one.volume_ml == pytest.approx(0.080)
    assert two.volume_ml == pytest.approx(0.027)
    assert one.diameter_mm == pytest.approx((2.0**2 + 3.0**2 + 6.0**2) ** 0.5)
    assert one.centre == pytest.approx((10 + 0.5 * 4, -20 + 3.5, 30 + 2 * 3.5))
    assert two.centre == pytest.approx((10 + 0.5 * 11, -20 + 11, 30 + 2 * 11))
    assert one.peak_pe == pytest.approx(0.95 * 79)
    assert np.isnan(one.ser)
    assert two.ser == 1.5
    assert (one.confidence, two.confidence) == (0.75, 0.5)


def test_centre_on_an_oblique_grid():
    geometry = oblique((20, 20, 20), (0.5, 1.0, 2.0), (5.0, 6.0, 7.0))
    (lesion,) = measure(mask_of(np.s_[3:6, 7:10, 1:4]).astype(np.uint8), geometry)
    expected = geometry.image(np.zeros(geometry.shape, np.uint8)).TransformIndexToPhysicalPoint((2, 8, 4))
    assert lesion.centre == pytest.approx(expected)


@pytest.mark.parametrize(
    ("right", "left", "side"), [(5, 3, "right"), (3, 5, "left"), (4, 4, ""), (0, 0, ""), (0, 1, "left")]
)
def test_side_is_that_of_most_voxels(right, left, side):
    labels = mask_of(np.s_[0, 0, :8]).astype(np.uint8)
    breast = np.zeros(labels.shape, np.uint8)
    breast[0, 0, :right] = 1
    breast[0, 0, 8 - left : 8] = 2
    assert measure(labels, breast=breast)[0].side == side


def curves_in_a_lesion(*painted, times=(0.0, 150.0, 450.0)):
    """A lesion of 10 x 10 x 10 voxels of 1 mm, persistent but for what is painted into it."""
    curve_type = np.full((20, 20, 20), PERSISTENT, np.uint8)
    for kind, box in painted:
        curve_type[box] = kind
    (lesion,) = measure(mask_of(np.s_[5:15, 5:15, 5:15]).astype(np.uint8), curve_type=curve_type, times=times)
    return lesion


def test_worst_curve_needs_a_group_of_three_millimetres_each_way():
    assert curves_in_a_lesion().worst_curve == "persistent"
    assert curves_in_a_lesion((WASHOUT, np.s_[6:9, 6:9, 6:9])).worst_curve == "washout"
    assert curves_in_a_lesion((WASHOUT, np.s_[6:9, 6:9, 6:8])).worst_curve == "persistent"
    # 26 voxels in two groups
    scattered = curves_in_a_lesion((WASHOUT, np.s_[6:9, 6:9, 6:8]), (WASHOUT, np.s_[6:9, 6:9, 9:11]))
    assert scattered.worst_curve == "persistent"
    # what washes out outside of the lesion does not count
    assert curves_in_a_lesion((WASHOUT, np.s_[:5])).worst_curve == "persistent"


def test_washout_too_small_for_a_group_still_counts_as_plateau():
    lesion = curves_in_a_lesion((PLATEAU, np.s_[6:9, 6:9, 6:8]), (WASHOUT, np.s_[6:9, 6:9, 8:9]))
    assert lesion.worst_curve == "plateau"
    assert lesion.curve_shares == pytest.approx((0, 0.973, 0.018, 0.009))


def test_small_lesions_have_a_curve_too():
    curve_type = np.zeros((20, 20, 20), np.uint8)
    curve_type[5, 5:8, 5:8] = WASHOUT  # 9 of 18 voxels
    labels = mask_of(np.s_[5:7, 5:8, 5:8]).astype(np.uint8)
    assert measure(labels, curve_type=curve_type)[0].worst_curve == "washout"
    curve_type[5, 5, 5] = NONE
    assert measure(labels, curve_type=curve_type)[0].worst_curve == "not enhancing"


def test_at_least_four_voxels_however_large_they_are():
    geometry = Geometry((20, 20, 20), (3.0, 3.0, 3.0))
    labels = mask_of(np.s_[5:9, 5:9, 5:9]).astype(np.uint8)
    curve_type = np.zeros((20, 20, 20), np.uint8)
    curve_type[5, 5, 5:8] = WASHOUT
    assert measure(labels, geometry, curve_type=curve_type)[0].worst_curve == "not enhancing"
    curve_type[5, 5, 8] = WASHOUT
    assert measure(labels, geometry, curve_type=curve_type)[0].worst_curve == "washout"


def test_with_one_post_contrast_phase_no_curve_is_claimed():
    lesion = curves_in_a_lesion(times=(0.0, 150.0))
    assert lesion.worst_curve == ""
    assert np.isnan(lesion.curve_shares).all()
    assert np.isnan(lesion.ser)


@pytest.mark.parametrize(("diameter", "category"), [(0.0, 0), (20.0, 0), (20.1, 1), (50.0, 1), (50.1, 2), (120.0, 2)])
def test_size_category_at_its_borders(diameter, category):
    assert size_category(diameter) == SIZE_CATEGORIES[category]
