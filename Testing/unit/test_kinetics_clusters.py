import shutil
import subprocess
import sys

import numpy as np
import pytest

from BreastTumorSegLib.core.errors import InputError, ModelError
from BreastTumorSegLib.core.models import models_folder
from BreastTumorSegLib.kinetics import cluster_curves
from BreastTumorSegLib.kinetics.codebooks import on_grid, shipped_codebook
from BreastTumorSegLib.phantom.simulate import simulate_exam

CHOICES = [
    *(("kmeans", k, "population") for k in (4, 6, 8, 10, 12)),
    ("kmeans", 5, "exam"),
    ("vqvae", 10, "population"),
]

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
    clusters = cluster_curves(data, TIMES, everywhere(data), fit="exam")
    assert clusters.labels[0, 0].tolist() == [(1, 2, 3, 4, 0)[kind] for kind in which]
    np.testing.assert_allclose(clusters.curves, CURVES[:4] - 100, atol=1e-3)
    np.testing.assert_allclose(clusters.spread, 0, atol=1e-3)
    assert clusters.voxels.tolist() == [50, 40, 30, 20]
    assert clusters.labels.dtype == np.uint8


def test_noise_moves_few_voxels():
    which = np.repeat(np.arange(5), 500)
    data = exam_of(which, noise=3.0)
    labels = cluster_curves(data, TIMES, everywhere(data), fit="exam").labels[0, 0]
    assert np.mean(labels == np.array((1, 2, 3, 4, 0))[which]) > 0.99


def test_same_shape_at_another_brightness_is_told_apart():
    faint, bright = 100 + 0.6 * (CURVES[1] - 100), 100 + 4 * (CURVES[1] - 100)
    data = np.array([faint] * 20 + [bright] * 20).T[:, None, None, :].astype(np.float32)
    labels = cluster_curves(data, TIMES, everywhere(data), k=2, fit="exam").labels[0, 0]
    assert len(set(labels[:20])) == len(set(labels[20:])) == 1
    assert labels[0] != labels[-1]


@pytest.mark.parametrize(("which", "expected"), [([0], 1), ([3, 0], 2), ([2, 2, 2, 1], 2), ([], 0)])
def test_fewer_different_curves_than_clusters(which, expected):
    data = exam_of([*which, 4, 4])
    clusters = cluster_curves(data, TIMES, everywhere(data), fit="exam")
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


@pytest.mark.parametrize(("method", "k", "fit"), CHOICES)
def test_same_input_same_labels_beyond_the_sample(method, k, fit):
    data = exam_of(np.random.default_rng(5).integers(0, 5, 60_000), noise=20.0)
    first, second = (cluster_curves(data, TIMES, everywhere(data), k, 0, method, fit) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert first.voxels.sum() == np.count_nonzero(first.labels)


def test_noise_alone_makes_no_clusters():
    random = np.random.default_rng(1)
    data = np.hypot(random.normal(60, 6, (5, 8, 64, 64)), random.normal(0, 6, (5, 8, 64, 64))).astype(np.float32)
    labels = cluster_curves(data, TIMES, everywhere(data)).labels
    assert np.mean(labels > 0) < 0.01


@pytest.mark.parametrize("site", ["DUKE", "NACT"])
def test_an_exam_without_enhancement_has_no_clusters(site):
    exam = simulate_exam(site, 7, spacing=4.0, phases=2)
    pre, random = exam.data[0].numpy(), np.random.default_rng(0)
    deviation = 0.05 * 200  # as a share of the gland's signal
    data = np.array(
        [np.hypot(pre + random.normal(0, deviation, pre.shape), random.normal(0, deviation, pre.shape)) for _ in TIMES]
    ).astype(np.float32)
    labels = cluster_curves(data, TIMES, np.ones(pre.shape, bool)).labels
    assert np.mean(labels == 0) >= 0.99
    assert np.mean(labels[exam.breast.numpy() > 0] == 0) >= 0.99


def test_a_population_number_means_the_same_curve_whatever_else_is_there():
    alone, among = exam_of([3] * 10), exam_of([0, 1, 2, 3, 3, 0, 1])
    faded = cluster_curves(alone, TIMES, everywhere(alone))
    labels = cluster_curves(among, TIMES, everywhere(among)).labels[0, 0]
    assert set(faded.labels.ravel().tolist()) == {labels[3]}
    assert faded.curves.shape == faded.spread.shape == (4, 5)
    empty = faded.voxels == 0
    assert empty.sum() == 3
    assert not faded.spread[empty].any()
    assert np.isfinite(faded.curves).all()
    assert labels[0] < labels[3]


@pytest.mark.parametrize(("method", "k"), [choice[:2] for choice in CHOICES if choice[2] == "population"])
def test_shipped_kinds_go_from_persistent_to_washout(method, k):
    seconds = np.arange(0.0, 901.0, 75.0)
    curves = shipped_codebook(method, k).centres(seconds)
    late = [np.polyfit(seconds[2:], curve[2:] / curve.max(), 1)[0] for curve in curves]
    assert len(curves) == k
    assert late == sorted(late, reverse=True)
    assert late[0] > -0.0003 > -0.0007 > late[-1]  # 0.75 of the peak are the least that a washout loses in 750 s


@pytest.mark.parametrize(("site", "seed"), [("DUKE", 21), ("ISPY2", 21), ("ISPY2", 22)])
def test_a_dropped_phase_keeps_the_labels(site, seed):
    """On average over the phases; docs/heterogeneity.md has the worst of them, the first one of few."""
    exam = simulate_exam(site, seed, spacing=4.0)
    data, breast = exam.data.numpy(), exam.breast.numpy() > 0
    full = cluster_curves(data, exam.times, breast).labels
    kept = []
    for dropped in range(1, len(exam.times)):
        phases = [i for i in range(len(exam.times)) if i != dropped]
        part = cluster_curves(data[phases], tuple(exam.times[i] for i in phases), breast).labels
        both = (full > 0) & (part > 0)
        kept.append(np.mean(full[both] == part[both]))
    assert np.mean(kept) >= 0.85


def test_a_late_injection_is_taken_off_the_times():
    data = exam_of([0, 1, 2, 3])
    early = cluster_curves(data, (0.0, 121.0, 242.0, 363.0, 484.0), everywhere(data))
    late = cluster_curves(data, (0.0, 1371.0, 1492.0, 1613.0, 1734.0), everywhere(data))
    assert np.array_equal(early.labels, late.labels)


def test_the_encoder_without_pytorch_is_the_same():
    torch = pytest.importorskip("torch")
    from BreastTumorSegLib.kinetics.vqvae import VqVae

    codebook = shipped_codebook("vqvae", 10)
    network = VqVae(10)
    state = {name: torch.from_numpy(array.copy()) for name, array in codebook.weights.items()}
    network.load_state_dict(state, strict=False)
    inputs, amplitude = on_grid((CURVES.T - 100)[:, :4], np.array(TIMES))
    expected = network.encode(torch.from_numpy(inputs), torch.from_numpy(amplitude)).detach().numpy()
    np.testing.assert_allclose(codebook._encode(inputs, amplitude).T, expected, atol=1e-4)


def test_what_can_not_be_made_is_told(tmp_path, monkeypatch):
    data = exam_of([0, 1])
    for wrong in ({"k": 0}, {"k": 256}, {"method": "magic"}, {"k": 5, "fit": "population"}):
        with pytest.raises(InputError):
            cluster_curves(data, TIMES, everywhere(data), **wrong)
    shutil.copytree(models_folder() / "tic-codebooks", tmp_path / "tic-codebooks")
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(tmp_path))
    with (tmp_path / "tic-codebooks" / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="checksum"):
        cluster_curves(data, TIMES, everywhere(data))
    (tmp_path / "tic-codebooks" / "model.json").unlink()
    with pytest.raises(ModelError, match="no readable codebooks"):
        cluster_curves(data, TIMES, everywhere(data))


def test_shipped_codebooks_need_numpy_alone():
    code = (
        "import sys\n"
        "for name in ('torch', 'sklearn', 'safetensors', 'threadpoolctl'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from BreastTumorSegLib.kinetics import cluster_curves\n"
        "data = np.array([100, 250, 200, 150], np.float32).reshape(4, 1, 1, 1)\n"
        "for method, k in (('kmeans', 4), ('vqvae', 10)):\n"
        "    print(cluster_curves(data, (0, 120, 240, 360), data[0] > 0, k, method=method).voxels.sum())\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1", "1"]


def test_importing_needs_neither_scikit_learn_nor_torch():
    code = "import sys, BreastTumorSegLib.kinetics; print({'sklearn', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
