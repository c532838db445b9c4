"""The steps of the pipeline on exams whose answer is known."""

import time

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import LEFT, RIGHT
from BreastTumorSegLib.segmentation.breast import _components, _sides_on, body, side_of_columns, with_implants
from BreastTumorSegLib.segmentation.resample import crop, isotropic_grid, resample
from BreastTumorSegLib.segmentation.tumor import grow, surest_of

PEAK = 0.9
SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def test_isotropic_grid_covers_a_sagittal_volume():
    geometry = Geometry((40, 30, 10), (1.0, 1.0, 3.0), (15.0, -20.0, 30.0), SAGITTAL)
    grid = isotropic_grid(geometry, 2.0)
    # 10 slices of 3 mm from left to right, 40 columns of 1 mm to the back, 30 rows of 1 mm downwards.
    assert grid.size == (15, 20, 15)
    assert grid.direction == Geometry((1, 1, 1), (1, 1, 1)).direction
    # x spans -13.5 to 16.5, y -20.5 to 19.5, z 0.5 to 30.5; the first voxel's centre is 1 mm inside.
    assert grid.origin == pytest.approx((-12.5, -19.5, 1.5))


def sphere(shape, centre, radius):
    grid = np.indices(shape)
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2


@pytest.mark.parametrize("direction", [Geometry((1, 1, 1), (1, 1, 1)).direction, SAGITTAL])
def test_a_ramp_along_the_patient_survives_the_way_to_the_network_and_back(direction):
    geometry = Geometry((40, 36, 24), (1.0, 1.5, 2.5), (3.0, -7.0, 11.0), direction)
    z, y, x = np.indices(geometry.shape)
    points = np.stack([x, y, z, np.ones_like(x)], -1) @ geometry.matrix.T
    ramp = (points[..., 0] + 2 * points[..., 1] - points[..., 2]).astype(np.float32)
    grid = isotropic_grid(geometry, 2.0)
    back = resample(resample(ramp, geometry, grid), grid, geometry)
    inner = (slice(4, -4),) * 3
    assert np.abs(back[inner] - ramp[inner]).max() < 1.5  # half a voxel of the averaging


@pytest.mark.parametrize("size", [(41, 37, 7), (3, 40, 40), (50, 50, 1)])
def test_no_plane_is_lost_on_the_way_there_and_back(size):
    geometry = Geometry(size, (0.7, 0.8, 0.9))
    ones = np.ones(geometry.shape, np.float32)
    grid = isotropic_grid(geometry, 2.0)
    there = resample(ones, geometry, grid)
    assert there.min() == pytest.approx(1.0)
    assert resample(there, grid, geometry).min() == pytest.approx(1.0)


@pytest.mark.parametrize("direction", [Geometry((1, 1, 1), (1, 1, 1)).direction, SAGITTAL])
@pytest.mark.parametrize(("start", "touches"), [((12, 9, 7), True), ((-2, 20, 14), True), ((400, 0, 0), False)])
def test_a_window_has_the_values_that_it_has_in_the_whole(direction, start, touches):
    """It is told from the part of the source around it: inside, across the edge, and beyond it."""
    whole = Geometry((31, 26, 17), (1.3, 1.1, 2.2), (-13.0, -11.0, -15.0), direction)
    values = np.random.default_rng(1).normal(size=whole.shape).astype(np.float32)
    origin = tuple((whole.matrix @ [*start, 1])[:3].tolist())
    window = Geometry((9, 7, 8), (1.0, 1.0, 1.0), origin)
    expected = sitk.Resample(whole.image(values), list(window.size), sitk.Transform(), sitk.sitkLinear, origin)
    found = resample(values, whole, window)
    assert found == pytest.approx(sitk.GetArrayFromImage(expected), abs=1e-5)
    assert found.any() == touches


def test_crop_keeps_voxels_where_they_are():
    geometry = Geometry((10, 10, 10), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), SAGITTAL)
    part = crop(geometry, (slice(2, 5), slice(3, 9), slice(1, 4)))
    assert part.size == (3, 6, 3)
    assert part.origin == pytest.approx(tuple((geometry.matrix @ [1, 3, 2, 1])[:3]))


@pytest.mark.parametrize("offset", [0.0, -1000.0])
def test_the_body_is_found_with_its_implant_and_without_noisy_air(offset):
    random = np.random.default_rng(0)
    image = random.rayleigh(5, (30, 30, 30)).astype(np.float32)  # air
    tissue, implant = sphere(image.shape, (15, 15, 15), 10), sphere(image.shape, (15, 15, 15), 4)
    image[tissue] += 150
    image[implant] = 3
    image[:, :, :4] = 0  # masked by the scanner's software
    found = body(image + np.float32(offset))
    assert found[tissue].all()
    around = sphere(image.shape, (15, 15, 15), 13)
    assert found[~around].mean() < 0.01


def test_a_volume_of_two_voxels_has_a_body_mask():
    assert body(np.array([[[0.0, 1.0]]], np.float32)).shape == (1, 1, 2)


def test_specks_are_no_breast_and_holes_are_filled():
    mask = np.zeros((12, 12, 12), bool)
    mask[2:10, 2:10, 2:10] = True
    mask[5, 5, 5] = False
    mask[0, 0, 0] = True
    kept = _components(mask)
    assert kept[5, 5, 5] and not kept[0, 0, 0]


@pytest.mark.parametrize("cut", [0, 16], ids=["whole", "cut by the edge of the field of view"])
def test_an_implant_under_thin_skin_belongs_to_the_breast(cut):
    breast, implant = sphere((32, 32, 32), (16, 16, 16), 13), sphere((32, 32, 32), (16, 16, 16), 8)
    mask = breast & ~implant
    mask[15:18, :16, 15:18] = False  # the skin over it is too thin for a voxel
    mask, implant = mask[:, :, cut:], implant[:, :, cut:]
    filled = with_implants(mask)
    assert filled[implant].all()
    assert not filled[~sphere((32, 32, 32), (16, 16, 16), 14)[:, :, cut:]].any()


@pytest.mark.parametrize("gap", [2, 6])
def test_air_between_the_breasts_is_none(gap):
    mask = np.zeros((20, 30, 50), bool)
    mask[:, 20:25] = mask[:, 3:25, 2:16] = mask[:, 3:25, 28:46] = True
    mask[:, 3:8, 16 : 28 - gap] = True  # they all but touch in front, from the lowest slice to the highest
    assert (with_implants(mask) == mask).all()


def test_a_mask_without_a_hole_stays_as_it_is():
    for mask in (np.zeros((3, 8, 9), bool), np.ones((3, 8, 9), bool), sphere((20, 20, 20), (10, 4, 10), 5)):
        assert (with_implants(mask) == mask).all()


def chest(x, middle):
    """Mask of 30 rows in front of a convex chest wall whose front is at `middle`, and its grid; 2 mm voxels."""
    back = 20 + ((x - middle) / 100) ** 2 * 12
    mask = np.arange(50)[:, None] < back
    return np.broadcast_to(mask, (4, 50, len(x))), Geometry((len(x), 50, 4), (2.0,) * 3, (float(x[0]), 0.0, 0.0))


def test_both_breasts_are_parted_at_the_sternum():
    x = np.arange(-150.0, 170.0, 2.0)
    sides = side_of_columns(*chest(x, 10.0))
    assert np.abs(x[np.flatnonzero(np.diff(sides))] - 10).max() <= 4
    assert sides[0] == RIGHT and sides[-1] == LEFT


def test_breasts_are_parted_in_the_gap_between_them_not_where_the_chest_wall_is_highest():
    """Turned a little: the wall's vertex lies at 10 mm, the gap from -22 to -8; at 10 mm a strip would change sides."""
    x = np.arange(-150.0, 170.0, 2.0)
    mask, grid = chest(x, 10.0)
    apart = mask & (np.abs(x + 15) > 7)
    sides = side_of_columns(apart, grid)
    (last_right,) = x[np.flatnonzero(np.diff(sides))]
    assert -22 <= last_right <= -8 and sides[0] == RIGHT and sides[-1] == LEFT


def test_air_beside_a_cropped_breast_is_no_gap_between_two():
    """The right breast is cut off 30 mm from the midline; beyond it there is nothing for 60 mm."""
    x = np.arange(-90.0, 80.0, 2.0)
    mask, grid = chest(x, 0.0)
    cropped = mask & (x > -30) & (np.abs(x) > 3) & (x < 60)
    sides = side_of_columns(cropped, grid)
    shown = cropped.any((0, 1))
    assert (sides[shown & (x < 0)] == RIGHT).all() and (sides[shown & (x > 0)] == LEFT).all()


@pytest.mark.parametrize("offset", [-500.0, 0.0, 500.0])
@pytest.mark.parametrize(("slope", "side"), [(0.1, LEFT), (-0.1, RIGHT)])
def test_a_straight_chest_wall_falls_off_to_the_side(offset, slope, side):
    x = np.arange(0.0, 100.0, 2.0)
    back = 20 + slope * (x - 50) - 0.001 * (x - 50) ** 2  # even a little hollow
    mask = np.broadcast_to(np.arange(50)[:, None] < back, (4, 50, len(x)))
    grid = Geometry((len(x), 50, 4), (2.0,) * 3, (offset, 0.0, 0.0))
    assert (side_of_columns(mask, grid) == side).all()


@pytest.mark.parametrize(("span", "side"), [((-20.0, 140.0), LEFT), ((-150.0, 10.0), RIGHT)])
def test_a_single_breast_gets_one_side(span, side):
    """The origin says nothing of it: cropped exams keep any."""
    x = np.arange(*span, 2.0)
    mask, grid = chest(x, 0.0)
    shifted = Geometry(grid.size, grid.spacing, (grid.origin[0] + 500.0, 0.0, 0.0))
    assert (side_of_columns(mask, shifted) == side).all()


def test_sides_reach_a_sagittal_grid():
    grid = Geometry((20, 4, 4), (10.0, 10.0, 10.0), (-100.0, 0.0, 0.0))
    sides = np.repeat(np.array([RIGHT, LEFT], np.uint8), 10)
    geometry = Geometry((4, 4, 10), (1.0, 1.0, 20.0), (94.0, 0.0, 30.0), SAGITTAL)  # slices from left to right
    labels = np.broadcast_to(_sides_on(geometry, sides, grid), geometry.shape)
    assert labels[:, 0, 0].tolist() == [LEFT] * 5 + [RIGHT] * 5


def drawn(*given):
    """The tumour mask that growing gives."""
    return grow(*given) > 0


def test_a_lesion_grows_from_its_middle_to_its_edge():
    shape, geometry = (40, 40, 40), Geometry((40, 40, 40), (1.0, 1.0, 1.0))
    lesion = sphere(shape, (20, 20, 20), 9)
    subtraction = np.where(lesion, 100.0, 5.0).astype(np.float32)
    probability = np.where(sphere(shape, (20, 20, 20), 7), 0.97, 0.0)
    mask = drawn(probability, subtraction, np.ones(shape, bool), geometry, 0.5, PEAK)
    overlap = 2 * (mask & lesion).sum() / (mask.sum() + lesion.sum())
    assert overlap > 0.97


def test_a_necrotic_centre_belongs_to_the_lesion():
    """The network may mark the rim alone, or the middle of the whole."""
    shape, geometry = (40, 40, 40), Geometry((40, 40, 40), (1.0, 1.0, 1.0))
    lesion, core = sphere(shape, (20, 20, 20), 9), sphere(shape, (20, 20, 20), 4)
    rim = lesion & ~core
    subtraction = np.where(rim, 100.0, 0.0).astype(np.float32)
    mask = drawn(np.where(rim, 0.97, 0.0), subtraction, np.ones(shape, bool), geometry, 0.5, PEAK)
    assert mask[20, 20, 20]


def test_a_vessel_that_leads_to_a_lesion_is_cut_off():
    shape, geometry = (40, 40, 60), Geometry((60, 40, 40), (1.0, 1.0, 1.0))
    z, y, _ = np.indices(shape)
    lesion, vessel = sphere(shape, (20, 20, 20), 7), (np.hypot(z - 20, y - 20) < 1.2)
    subtraction = np.where(lesion | vessel, 100.0, 0.0).astype(np.float32)
    seed = sphere(shape, (20, 20, 20), 6)
    mask = drawn(np.where(seed, 0.97, 0.0), subtraction, np.ones(shape, bool), geometry, 0.5, PEAK)
    assert not mask[:, :, 30:].any()
    assert 2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) > 0.95


def test_a_seed_that_is_nowhere_sure_is_none():
    shape, geometry = (20, 20, 20), Geometry((20, 20, 20), (1.0, 1.0, 1.0))
    lesion = sphere(shape, (10, 10, 10), 5)
    mask = drawn(np.where(lesion, 0.8, 0.0), np.where(lesion, 100.0, 0.0), np.ones(shape, bool), geometry, 0.5, PEAK)
    assert not mask.any()


def test_every_lesion_needs_the_peak():
    shape, geometry = (20, 20, 60), Geometry((60, 20, 20), (1.0, 1.0, 1.0))
    lesions = [sphere(shape, (10, 10, x), 6) for x in (10, 30, 50)]
    probability = np.select(lesions, [0.90, 0.86, 0.7], 0.0)
    given = (probability, np.where(probability > 0, 100.0, 0.0), np.ones(shape, bool), geometry, 0.5)
    found = {peak: [bool(drawn(*given, peak)[at].any()) for at in lesions] for peak in (0.6, 0.8, 0.88, 0.92)}
    assert found == {0.6: [True] * 3, 0.8: [True, True, False], 0.88: [True, False, False], 0.92: [False] * 3}


def test_how_sure_a_candidate_is_takes_more_than_a_voxel():
    """A voxel of 1 mm has the middle of the Gaussian; in the middle of a lesion of 6 mm radius, with two grids, all."""
    voxel = np.zeros((15, 15, 15))
    voxel[7, 7, 7] = 1.0
    middle = (1.25 * np.sqrt(2 * np.pi)) ** -3
    assert surest_of(voxel, voxel.astype(int), (1.0, 1.0, 1.0)) == pytest.approx([middle], rel=0.01)
    for step in (1.0, 2.0):
        size = int(24 / step) + 1
        lesion = sphere((size,) * 3, (size // 2,) * 3, 6 / step)
        assert surest_of(0.9 * lesion, lesion.astype(int), (step,) * 3) == pytest.approx([0.9], abs=0.005)


def test_one_sure_voxel_does_not_make_a_lesion():
    shape, geometry = (20, 20, 20), Geometry((20, 20, 20), (1.0, 1.0, 1.0))
    probability = np.where(sphere(shape, (10, 10, 10), 5), 0.6, 0.0)
    probability[10, 10, 10] = 0.99
    given = (probability, 100 * (probability > 0), np.ones(shape, bool), geometry, 0.5)
    assert not drawn(*given, 0.8).any() and drawn(*given, 0.6).any()


def test_how_sure_a_candidate_is_does_not_depend_on_where_it_lies():
    probability = np.zeros((30, 30, 30), np.float32)
    probability[14:17, 14:17, 14:17] = 0.9
    inner = surest_of(probability, (probability > 0).astype(int), (2.0, 1.0, 1.0))
    corner = probability[14:20, 14:20, 14:20]
    assert surest_of(corner, (corner > 0).astype(int), (2.0, 1.0, 1.0)) == pytest.approx(inner, rel=1e-5)


def test_lesions_far_apart_grow_as_each_would_alone():
    """Work is done in a box around all seeds; what is outside of it, and where it lies, changes nothing."""
    shape, geometry = (60, 70, 80), Geometry((80, 70, 60), (1.0, 1.0, 1.0))
    free = np.ones(shape, bool)
    lesions = [sphere(shape, centre, 7) for centre in ((12, 12, 12), (45, 55, 65))]
    seeds = [sphere(shape, centre, 5) for centre in ((12, 12, 12), (45, 55, 65))]
    unsure = sphere(shape, (45, 12, 65), 5)
    gain = np.where(lesions[0] | lesions[1] | unsure, 100.0, 5.0).astype(np.float32)
    both = drawn(np.where(seeds[0] | seeds[1], 0.97, 0.8 * unsure), gain, free, geometry, 0.5, PEAK)
    alone = [drawn(np.where(seed, 0.97, 0.0), gain, free, geometry, 0.5, PEAK) for seed in seeds]
    assert np.array_equal(both, alone[0] | alone[1])
    for mask, lesion in zip(alone, lesions, strict=True):
        assert 2 * (mask & lesion).sum() / (mask.sum() + lesion.sum()) > 0.94
    moved = np.roll(both, (3, 2, 1), (0, 1, 2))
    seen = np.where(np.roll(seeds[0] | seeds[1], (3, 2, 1), (0, 1, 2)), 0.97, 0.0)
    assert np.array_equal(drawn(seen, np.roll(gain, (3, 2, 1), (0, 1, 2)), free, geometry, 0.5, PEAK), moved)


def test_growing_takes_no_time_for_the_empty_part_of_a_volume():
    """Once every voxel of the exam was sorted, which took twelve seconds on a real one."""
    shape, geometry = (100, 200, 200), Geometry((200, 200, 100), (1.0, 1.0, 1.0))
    seed = np.zeros(shape, np.float32)
    seed[50:56, 100:106, 100:106] = 0.97
    begin = time.process_time()
    assert drawn(seed, 100 * seed, np.ones(shape, bool), geometry, 0.5, PEAK).any()
    assert time.process_time() - begin < 0.5


def test_growing_that_leaks_into_gland_falls_back_to_the_seed():
    shape, geometry = (60, 60, 60), Geometry((60, 60, 60), (1.0, 1.0, 1.0))
    seed = sphere(shape, (30, 30, 30), 5)
    everywhere = np.full(shape, 100.0, np.float32)
    mask = drawn(np.where(seed, 0.97, 0.0), everywhere, np.ones(shape, bool), geometry, 0.5, PEAK)
    assert (mask == seed).all()


def test_growing_stays_where_it_is_allowed():
    shape, geometry = (40, 40, 40), Geometry((40, 40, 40), (1.0, 1.0, 1.0))
    lesion = sphere(shape, (20, 20, 20), 9)
    allowed = np.indices(shape)[0] <= 20
    mask = drawn(np.where(lesion, 0.97, 0.0), np.where(lesion, 100.0, 0.0), allowed, geometry, 0.5, PEAK)
    assert not (mask & ~allowed).any()
