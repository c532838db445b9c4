import numpy as np
import pytest

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import Clusters
from BreastTumorSegLib.kinetics.composition import composition
from BreastTumorSegLib.segmentation.heterogeneity import map_heterogeneity, with_rim
from Testing.results import simulated_result

GRID = Geometry((7, 5, 3), (1.0, 2.0, 4.0))


def test_a_rim_reaches_as_far_in_millimetres_whatever_the_spacing():
    mask = np.zeros(GRID.shape, np.uint8)
    mask[1, 2, 3] = 1
    grown = with_rim(mask, GRID, 2.0)
    assert {tuple(place) for place in np.argwhere(grown)} == {
        (1, 2, 1), (1, 2, 2), (1, 2, 3), (1, 2, 4), (1, 2, 5), (1, 1, 3), (1, 3, 3)
    }  # fmt: skip
    assert mask.sum() == 1, "the mask stays as it was"


def test_where_two_rims_meet_the_nearer_label_wins():
    mask = np.zeros(GRID.shape, np.uint8)
    mask[1, 2, 0], mask[1, 2, 6] = 1, 2
    assert with_rim(mask, GRID, 3.0)[1, 2].tolist() == [1, 1, 1, 1, 2, 2, 2]


def test_no_rim_is_the_mask_itself():
    mask = np.ones(GRID.shape, np.uint8)
    assert with_rim(mask, GRID, 0.0) is mask
    with pytest.raises(InputError, match="rim"):
        with_rim(mask, GRID, -1.0)


def test_composition_adds_up_for_every_label():
    result = simulated_result(lesions=2)
    found = map_heterogeneity(result.exam, result.tumor, result.exam.geometry, 0.0, "kmeans", 4)
    assert set(found.composition) == {1, 2}
    for label, shares in found.composition.items():
        assert shares.sum() == pytest.approx(1.0)
        counts = np.bincount(found.clusters.labels[result.tumor == label], minlength=5)[1:]
        assert shares == pytest.approx(counts / counts.sum())
    assert not found.clusters.labels[result.tumor == 0].any()


def test_unusable_masks_are_refused():
    result = simulated_result(lesions=1)
    other = Geometry(result.exam.geometry.size, (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="grid"):
        map_heterogeneity(result.exam, result.tumor, other, 0.0, "kmeans", 4)
    with pytest.raises(InputError, match="empty"):
        map_heterogeneity(result.exam, np.zeros_like(result.tumor), result.exam.geometry, 0.0, "kmeans", 4)


def test_shares_are_of_the_enhancing_voxels_of_each_label():
    labels = np.array([[[0, 1, 1, 2, 3, 3]]], np.uint8)
    mask = np.array([[[1, 1, 1, 1, 5, 0]]], np.uint8)
    clusters = Clusters(labels, np.zeros((3, 2)), np.zeros((3, 2)), np.array([2, 1, 2]))
    found = composition(clusters, mask)
    assert set(found) == {1, 5}
    assert found[1].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert found[5].tolist() == [0.0, 0.0, 1.0]
    assert composition(clusters, np.zeros_like(mask)) == {}
    silent = Clusters(np.zeros_like(labels), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2, np.int64))
    assert composition(silent, mask)[5].tolist() == [0.0, 0.0]
