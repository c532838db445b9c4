import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from scipy import ndimage
from scipy.spatial.distance import cdist

from BreastTumorSegLib.metrics.challenge import normalised_hd95, performance
from BreastTumorSegLib.metrics.detection import match_lesions
from BreastTumorSegLib.metrics.overlap import dice, precision, recall
from BreastTumorSegLib.metrics.surface import hausdorff95, surface_distances

NAN, INF = math.nan, math.inf


def cube(start_zyx, edge=4, shape=(24, 24, 24)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + edge) for start in start_zyx)] = True
    return mask


EMPTY = np.zeros((24, 24, 24), bool)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0),
        ([1, 1, 0, 0], [0, 1, 1, 0], 0.5),
        ([1, 1, 1, 0], [0, 0, 1, 0], 0.5),
        ([1, 1, 1, 1], [1, 0, 0, 0], 0.4),
        ([1, 0, 0, 0], [0, 1, 0, 0], 0.0),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], -7.0),
    ],
)
def test_dice(a, b, expected):
    assert dice(np.array(a, bool), np.array(b, bool), empty=-7.0) == expected


@pytest.mark.parametrize(
    ("predicted", "actual", "expected_precision", "expected_recall"),
    [
        ([1, 1, 1, 1], [1, 0, 0, 0], 0.25, 1.0),
        ([1, 0, 0, 0], [1, 1, 1, 1], 1.0, 0.25),
        ([0, 0, 0, 0], [1, 1, 0, 0], NAN, 0.0),
        ([1, 1, 0, 0], [0, 0, 0, 0], 0.0, NAN),
        ([0, 0, 0, 0], [0, 0, 0, 0], NAN, NAN),
    ],
)
def test_precision_and_recall(predicted, actual, expected_precision, expected_recall):
    masks = np.array(predicted, bool), np.array(actual, bool)
    assert precision(*masks) == pytest.approx(expected_precision, nan_ok=True)
    assert recall(*masks) == pytest.approx(expected_recall, nan_ok=True)


@pytest.mark.parametrize(
    ("shift", "spacing", "hd95"),
    [
        ((0, 0, 0), (1.0, 1.0, 1.0), 0.0),
        ((3, 0, 0), (1.0, 1.0, 1.0), 3.0),
        ((3, 0, 0), (2.0, 0.7, 0.7), 6.0),
        ((0, 3, 0), (2.0, 0.7, 0.7), 2.1),
        ((0, 0, 3), (2.0, 0.7, 0.5), 1.5),
    ],
)
def test_equal_cubes_shifted_along_an_axis(shift, spacing, hd95):
    a = cube((8, 8, 8))
    distances = surface_distances(a, np.roll(a, shift, (0, 1, 2)), spacing)
    assert distances.hd95 == pytest.approx(hd95)
    assert hausdorff95(a, np.roll(a, shift, (0, 1, 2)), spacing) == pytest.approx(hd95)


def test_single_voxels_are_the_distance_of_their_centres_apart():
    distances = surface_distances(cube((2, 3, 4), 1), cube((5, 7, 4), 1), (1.0, 1.0, 1.0))
    assert distances == (5.0, 5.0)


def test_average_of_two_lines():
    a, b = np.zeros((1, 1, 8), bool), np.zeros((1, 1, 8), bool)
    a[..., :2], b[..., :4] = True, True
    # a to b: 0 0; b to a: 0 0 1 2
    assert surface_distances(a, b, (1.0, 1.0, 1.0)).assd == pytest.approx(0.5)


@pytest.mark.parametrize(("a", "b", "expected"), [(EMPTY, EMPTY, NAN), (cube((1, 1, 1)), EMPTY, INF)])
def test_distance_of_empty_masks(a, b, expected):
    for pair in ((a, b), (b, a)):
        assert surface_distances(*pair, (1.0, 1.0, 1.0)) == pytest.approx((expected, expected), nan_ok=True)
        assert hausdorff95(*pair, (1.0, 1.0, 1.0)) == pytest.approx(expected, nan_ok=True)


def blob(seed, border=False):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(22, 26, 30)), 2)
    mask = noise > 0.02
    if not border:
        mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
    return mask


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.1, 0.76, 0.76), (4.0, 0.5, 0.9)])
@pytest.mark.parametrize("seed", range(3))
def test_surface_distances_against_monai(seed, spacing, border):
    a, b = blob(seed, border), blob(seed + 100, border)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (a, b)]
    hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=spacing)
    assd = compute_average_surface_distance(*tensors, include_background=True, symmetric=True, spacing=spacing)
    distances = surface_distances(a, b, spacing)
    assert distances.hd95 == pytest.approx(hd95.item(), rel=1e-5)
    assert hausdorff95(a, b, spacing) == pytest.approx(hd95.item(), rel=1e-5)
    assert distances.assd == pytest.approx(assd.item(), rel=1e-5)


def test_dice_against_monai():
    for seed in range(3):
        a, b = blob(seed), blob(seed + 100)
        expected = compute_dice(*(torch.from_numpy(mask)[None, None].float() for mask in (a, b)))
        assert dice(a, b, empty=NAN) == pytest.approx(expected.item())


def surface_points(mask, spacing):
    """Voxels with a neighbour across a face that is outside, one by one."""
    padded = np.pad(mask, 1)
    faces = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    places = [p for p in np.argwhere(padded) if not all(padded[tuple(p + face)] for face in faces)]
    return (np.array(places) - 1) * spacing


def pair_of_masks(kind, random):
    """Masks that are near and far, large and small, flat, rough, and of a few voxels."""
    shape = random.integers(2, 16, 3)
    for _ in range(2):
        mask = np.zeros(shape, bool)
        if kind == "smooth":
            mask |= ndimage.gaussian_filter(random.normal(size=shape), 2) > 0
        elif kind == "scattered":
            mask |= random.random(shape) < 0.02
        elif kind == "boxes":
            corner = random.integers(0, shape)
            mask[tuple(slice(c, c + edge) for c, edge in zip(corner, random.integers(1, 8, 3), strict=True))] = True
        mask[tuple(random.integers(0, shape))] = True
        yield mask


@pytest.mark.parametrize("kind", ["smooth", "scattered", "boxes", "voxels"])
def test_surface_distances_against_all_pairs_of_voxels(kind):
    random = np.random.default_rng(0)
    for _ in range(40):
        spacing = tuple(random.choice([0.5, 0.75, 1.0, 3.0], 3))
        a, b = pair_of_masks(kind, random)
        between = cdist(surface_points(a, spacing), surface_points(b, spacing))
        to_b, to_a = between.min(axis=1), between.min(axis=0)
        hd95 = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
        assert surface_distances(a, b, spacing) == pytest.approx((hd95, np.concatenate([to_b, to_a]).mean()))
        assert hausdorff95(a, b, spacing) == pytest.approx(hd95)


def test_hd95_of_large_masks_that_differ_badly():
    """A slab of 100 x 100 voxels against one voxel, which is 40 voxels over the slab's corner."""
    a, b = np.zeros((50, 100, 100), bool), np.zeros((50, 100, 100), bool)
    a[5], b[45, 0, 0] = True, True
    y, x = np.mgrid[:100, :100]
    expected = np.percentile(np.sqrt(40**2 + y**2 + x**2), 95)
    assert hausdorff95(a, b, (1.0, 1.0, 1.0)) == pytest.approx(expected, rel=1e-12)


def ball(radius, spacing, shape=(40, 48, 48)):
    z, y, x = (step * (np.arange(size) - size // 2) for step, size in zip(spacing, shape, strict=True))
    return z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.1, 0.76, 0.76)])
def test_surface_distances_of_a_ball_in_a_ball(spacing):
    """Their radii are 5 and 14. The package measures elements of the surface by their area: it agrees to a voxel."""
    package = pytest.importorskip("surface_distance")
    a, b = ball(5, spacing), ball(14, spacing)
    ours = surface_distances(a, b, spacing)
    distances = package.compute_surface_distances(a, b, spacing)
    average = np.mean(package.compute_average_surface_distance(distances))
    assert ours.hd95 == pytest.approx(package.compute_robust_hausdorff(distances, 95), abs=max(spacing) / 2)
    assert ours.assd == pytest.approx(average, abs=max(spacing) / 2)
    assert ours == pytest.approx((9, 9), abs=max(spacing))


def test_a_mask_that_fills_the_image_has_no_contour_in_the_challenge():
    full = np.ones((4, 4, 4), bool)
    assert normalised_hd95(full, full) == 0.0
    assert normalised_hd95(full, np.pad(full[:2, :2, :2], 1)) == 1.0


def test_surface_at_the_border_against_itk():
    """The challenge's contour is ITK's LabelContour, which has no voxels at the border of the image."""
    import SimpleITK as sitk
    from scipy.spatial import cKDTree

    for seed in range(3):
        a, b = blob(seed, border=True), blob(seed + 100, border=True)
        points = [
            np.argwhere(sitk.GetArrayFromImage(sitk.LabelContour(sitk.GetImageFromArray(mask.astype(np.uint8)))))
            for mask in (a, b)
        ]
        directed = cKDTree(points[0]).query(points[1])[0], cKDTree(points[1]).query(points[0])[0]
        expected = max(np.percentile(distances, 95) for distances in directed) / 150
        assert normalised_hd95(a, b) == pytest.approx(expected)


def test_challenge_distance_of_known_masks():
    a = cube((8, 8, 8))
    assert normalised_hd95(a, a) == 0.0
    assert normalised_hd95(a, np.roll(a, 3, 0)) == pytest.approx(3 / 150)
    assert normalised_hd95(EMPTY, EMPTY) == 0.0
    assert normalised_hd95(EMPTY, a) == normalised_hd95(a, EMPTY) == 1.0
    far = np.zeros((1, 1, 400), bool), np.zeros((1, 1, 400), bool)
    far[0][0, 0, 10], far[1][0, 0, 310] = True, True
    assert normalised_hd95(*far) == 2.0
    assert performance(0.8, 0.1) == pytest.approx(0.85)
    assert performance(0.0, 0.0) == 0.5


@pytest.mark.parametrize(
    ("predicted", "actual", "counts", "sensitivity"),
    [
        ([(2, 2, 2)], [(2, 2, 2)], (1, 1, 1, 0), 1.0),
        ([(2, 2, 2)], [(5, 5, 5)], (1, 1, 1, 0), 1.0),  # one voxel in common
        ([(2, 2, 2)], [(6, 2, 2)], (1, 0, 1, 1), 0.0),  # side by side
        ([(2, 2, 2), (12, 2, 2)], [(2, 2, 2), (12, 12, 12)], (2, 1, 2, 1), 0.5),
        ([(2, 2, 2), (6, 6, 6)], [(4, 4, 4)], (1, 1, 1, 0), 1.0),  # touching corners are one lesion
        ([(2, 2, 2), (2, 8, 2)], [(2, 5, 2)], (1, 1, 2, 0), 1.0),  # two parts of one lesion, both right
        ([], [(2, 2, 2)], (1, 0, 0, 0), 0.0),
        ([(2, 2, 2)], [], (0, 0, 1, 1), NAN),
        ([], [], (0, 0, 0, 0), NAN),
    ],
)
def test_lesions_are_matched_by_overlap(predicted, actual, counts, sensitivity):
    masks = (np.any([EMPTY, *map(cube, starts)], axis=0) for starts in (predicted, actual))
    detection = match_lesions(*masks)
    assert tuple(detection) == counts
    assert detection.sensitivity == pytest.approx(sensitivity, nan_ok=True)
