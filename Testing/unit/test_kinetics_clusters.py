import subprocess
import sys

import numpy as np
import pytest

from BreastTumorSegLib.kinetics import cluster_curves

TIMES = (0.0, 120.0, 240.0, 360.0, 480.0)
# persistent, plateau, washout, strong washout; none enhances in the last
CURVES = np.array(
    [
        (100, 160, 200, 230, 250),
        (100, 260, 262, 260, 258),
        (100, 300, 270, 240, 220),
        (100, 300, 220, 170, 140),
        (100, 101, 99, 102, 100),
    ],
    np.float32,
)


def exam_of(which, noise=0.0):
    data = CURVES[which].T[:, None, None, :].copy()
    return data + np.random.default_rng(0).normal(0, noise, data.shape).astype(np.float32)


def everywhere(data):
    return np.ones(data.shape[1:], bool)


def test_clusters_are_numbered_from_persistent_to_washout():
    which = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [50, 40, 30, 20, 60]))
    data = exam_of(which)
    clusters = cluster_curves(data, TIMES, everywhere(data))
    assert clusters.labels[0, 0].tolist() == [(1, 2, 3, 4, 0)[kind] for kind in which]
    np.testing.assert_allclose(clusters.curves, CURVES[:4] - 100, atol=1e-3)
    np.testing.assert_allclose(clusters.spread, 0, atol=1e-3)
    assert clusters.voxels.tolist() == [50, 40, 30, 20]
    assert clusters.labels.dtype == np.uint8


def test_noise_moves_few_voxels():
    which = np.repeat(np.arange(5), 500)
    data = exam_of(which, noise=3.0)
    labels = cluster_curves(data, TIMES, everywhere(data)).labels[0, 0]
    assert np.mean(labels == np.array((1, 2, 3, 4, 0))[which]) > 0.99


def test_same_shape_at_another_brightness_is_told_apart():
    faint, bright = 100 + 0.6 * (CURVES[1] - 100), 100 + 4 * (CURVES[1] - 100)
    data = np.array([faint] * 20 + [bright] * 20).T[:, None, None, :].astype(np.float32)
    labels = cluster_curves(data, TIMES, everywhere(data), k=2).labels[0, 0]
    assert len(set(labels[:20])) == len(set(labels[20:])) == 1
    assert labels[0] != labels[-1]


@pytest.mark.parametrize(("which", "expected"), [([0], 1), ([3, 0], 2), ([2, 2, 2, 1], 2), ([], 0)])
def test_fewer_different_curves_than_clusters(which, expected):
    data = exam_of([*which, 4, 4])
    clusters = cluster_curves(data, TIMES, everywhere(data))
    assert clusters.labels.max() == expected
    assert clusters.curves.shape == clusters.spread.shape == (expected, 5)
    assert clusters.voxels.shape == (expected,)
    assert clusters.voxels.sum() == len(which)


def test_outside_of_the_mask_is_zero():
    data = exam_of(np.repeat(np.arange(4), 10))
    mask = everywhere(data)
    mask[..., :5] = False
    labels = cluster_curves(data, TIMES, mask).labels
    assert not labels[..., :5].any()
    assert labels[..., 5:].all()
    assert cluster_curves(data, TIMES, np.zeros_like(mask)).curves.shape == (0, 5)


def test_two_phases_are_numbered_by_enhancement():
    data = np.array([[100] * 4, [300, 160, 160, 300]], np.float32)[:, None, None, :]
    clusters = cluster_curves(data, (0.0, 150.0), everywhere(data), k=2)
    assert clusters.labels[0, 0].tolist() == [2, 1, 1, 2]
    np.testing.assert_allclose(clusters.curves, [[0, 60], [0, 200]], atol=1e-3)


def test_same_input_same_labels_beyond_the_sample():
    data = exam_of(np.random.default_rng(5).integers(0, 5, 60_000), noise=20.0)
    first, second = (cluster_curves(data, TIMES, everywhere(data)) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert first.voxels.sum() == np.count_nonzero(first.labels)


def test_noise_alone_makes_no_clusters():
    random = np.random.default_rng(1)
    data = np.hypot(random.normal(60, 6, (5, 8, 64, 64)), random.normal(0, 6, (5, 8, 64, 64))).astype(np.float32)
    labels = cluster_curves(data, TIMES, everywhere(data)).labels
    assert np.mean(labels > 0) < 0.01


def test_importing_needs_neither_scikit_learn_nor_torch():
    code = "import sys, BreastTumorSegLib.kinetics; print({'sklearn', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
