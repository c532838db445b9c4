"""Training of networks that predict clusters, and of networks that take their maps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import training_runs
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.cohort import read_cohort
from BreastTumorSegLib.kinetics import cluster_curves
from BreastTumorSegLib.networks.bundle import ModelDescription, load_bundle
from BreastTumorSegLib.segmentation.clusters import class_probabilities, true_classes
from BreastTumorSegLib.training.config import CohortData, SampleConfig
from BreastTumorSegLib.training.losses import DiceWCEConfig, build_loss, class_dice_loss, class_weights
from BreastTumorSegLib.training.prediction import predict_classes
from BreastTumorSegLib.training.samples import Samples
from BreastTumorSegLib.training.volumes import PreparedCohort

CLASSES = 6
CPU = torch.device("cpu")
RESUNET = {"name": "resunet", "channels": [4, 8], "strides": [2], "head": 2}
KISNET = {"name": "kisnet", "channels": [4, 8], "strides": [2], "features": 4, "embedding": 4}


def clusters_model(**changes):
    network = {**RESUNET, "in_channels": 1, "out_channels": CLASSES}
    return training_runs.model(name="maps", task="clusters", phases=["pre"], network=network, **changes)


def tumor_model(**changes):
    network = {**KISNET, "in_channels": 1 + CLASSES, "out_channels": 1}
    return training_runs.model(phases=["pre"], network=network, maps="maps", **changes)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return training_runs.write_cohort(tmp_path_factory.mktemp("clusters") / "cohort", [("ISPY2", 100), ("DUKE", 101)])


SUPERVISED = training_runs.model(
    task="clusters",
    phases=["pre"],
    network={
        **{"name": "segresnet", "in_channels": 1, "out_channels": CLASSES, "features": 8, "blocks": [1, 1, 1]},
        "deep_supervision": 1,
    },
)


def prepared(cohort, cache, description, **changes):
    data = CohortData(kind="cohort", path=cohort, breast="reference", cache=cache, **changes)
    return PreparedCohort(read_cohort(cohort), data, ModelDescription(**description))


# The loss.


def test_weights_are_inverse_to_the_share_and_bounded():
    """Of four classes: a quarter counts 1, a half 1/2, an eighth 2; a hundredth 25, bounded to 10; none at all, too."""
    shares = torch.tensor([0.25, 0.5, 0.125, 0.01])
    assert class_weights(shares, 10.0).tolist() == pytest.approx([1, 0.5, 2, 10])
    assert class_weights(torch.tensor([1.0, 0.0]), 4.0).tolist() == pytest.approx([0.5, 4])


def test_dice_is_the_mean_over_the_classes_that_are_there():
    """Four voxels of classes 0, 0, 1, 1; probabilities of class 1 are 0, 1, 1, 1; class 2 is not there."""
    one = torch.tensor([0.0, 1, 1, 1])
    probability = torch.stack([1 - one, one, torch.zeros(4)]).view(1, 3, 1, 1, 4)
    truth = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).view(1, 3, 1, 1, 4)
    # Class 0: 2 * 1 / (1 + 2); class 1: 2 * 2 / (3 + 2).
    assert float(class_dice_loss(probability, truth)) == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)


def test_the_loss_against_its_terms_by_hand():
    """Two voxels, two classes, each half of the batch: weights 1. Logits give class 1 probabilities of 3/4 and 1/2."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]).view(1, 2, 1, 1, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
    cross_entropy = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    # Class 0: probabilities 1/4, 1/2, truth 0, 1. Class 1: 3/4, 1/2, truth 1, 0.
    dice = ((2 * 1 / 2) / (3 / 4 + 1) + (2 * 3 / 4) / (5 / 4 + 1)) / 2
    assert float(build_loss(DiceWCEConfig())(logits, target)) == pytest.approx(1 - dice + cross_entropy)


# Labels and maps.


def test_classes_are_outside_not_enhancing_and_the_clusters(cohort, tmp_path):
    ready = prepared(cohort, tmp_path, clusters_model())
    case = next(case for case in ready.cohort if case.site == "ISPY2")
    volume = ready.volume_of(case)
    everything = prepared(
        cohort, tmp_path, training_runs.model(phases="all", network=training_runs.MULTI_PHASE)
    ).volume_of(case)
    clusters = cluster_curves(
        everything.phases.float().numpy(), case.times, volume.breast.numpy(), CLASSES - 2, fit="population"
    ).labels
    assert (volume.label.numpy()[clusters > 0] == 1 + clusters[clusters > 0]).mean() > 0.99  # float16 moves a few
    assert not volume.label[~volume.breast].any()
    assert len(volume.times) == 3 and set(volume.label.unique().tolist()) <= set(range(CLASSES))
    assert len(volume.tumor_voxels) == int((everything.label >= 128).sum())  # patches still go for the tumour


def test_true_classes_by_hand():
    """One voxel outside, one flat, one that washes out: the last of four clusters."""
    curves = np.array([[100, 100, 100], [100, 100, 100], [100, 280, 200]], np.float32)
    data = curves.T.reshape(3, 1, 1, 3)
    breast = np.array([[[False, True, True]]])
    assert true_classes(data, (0.0, 100.0, 400.0), breast, CLASSES).tolist() == [[[0, 1, 5]]]


def test_true_maps_are_ones_where_the_class_is(cohort, tmp_path):
    truth = prepared(cohort, tmp_path, clusters_model())
    volumes = prepared(cohort, tmp_path, tumor_model(), maps_from="reference")
    for case in truth.cohort:
        maps, classes = volumes.volume_of(case).maps, truth.volume_of(case).label
        assert torch.equal(maps.argmax(0).to(torch.uint8), classes) and bool(
            (maps.sum(0, dtype=torch.int) == 255).all()
        )


def trained_maps(cohort, folder):
    """The folder of a bundle for clusters, after a few steps."""
    changes = {"model": clusters_model(), "loss": {"name": "dice_wce"}, "epochs": 1}
    config = training_runs.config(cohort, out=str(folder), validation={"share": 0.5}, **changes)
    return training_runs.run(config) / "maps"


def test_networks_for_clusters_and_for_their_maps_are_trained(cohort, tmp_path):
    maps = trained_maps(cohort, tmp_path / "maps")
    bundle = load_bundle("maps", "clusters", maps.parent)
    changes = {"model": tumor_model(name="without-contrast"), "epochs": 1, "validation": {"share": 0.5}}
    data = training_runs.fields(cohort)["data"] | {"maps_from": str(maps)}
    config = training_runs.config(cohort, out=str(tmp_path / "tumor"), data=data, **changes)
    models = training_runs.run(config)
    described = load_bundle("without-contrast", "tumor", models).description
    assert (described.maps, described.maps_sha256) == ("maps", bundle.sha256)
    assert "with maps of maps (1 simulated exams" in described.trained_on
    assert "pre and maps of maps" in (models / "without-contrast" / "CARD.md").read_text()
    assert "Threshold" not in (maps / "CARD.md").read_text()
    ready = PreparedCohort(read_cohort(cohort), config.data, config.model)
    volume = ready.volume_of(ready.cohort.cases[0])
    expected = class_probabilities(bundle, volume.phases[:1].float(), volume.breast, CPU, Events())
    assert torch.allclose(volume.maps / 255, expected, atol=0.02)  # in 255 steps, of phases in float16


def test_another_source_of_maps_is_another_entry(cohort, tmp_path):
    case = read_cohort(cohort).cases[0]
    folders = [
        prepared(cohort, tmp_path, tumor_model(), maps_from="reference").folder(case),
        prepared(cohort, tmp_path, clusters_model()).folder(case),
        prepared(cohort, tmp_path, training_runs.model()).folder(case),
    ]
    assert len(set(folders)) == 3


def test_labels_told_by_other_times_are_another_entry(cohort, tmp_path):
    ready, case = prepared(cohort, tmp_path, clusters_model()), read_cohort(cohort).cases[0]
    slow = replace(case, name="slow", times=tuple(3 * time for time in case.times))
    assert ready.folder(slow) != ready.folder(case)
    assert not torch.equal(ready.volume_of(slow).label, ready.volume_of(case).label)


# Samples.


def test_maps_move_with_flips_and_with_nothing_else(cohort, tmp_path):
    ready = prepared(cohort, tmp_path, tumor_model(), maps_from="reference")
    volume = ready.volume_of(ready.cohort.cases[0])
    volume = replace(volume, label=(255 * (volume.maps[1] > 0)).to(torch.uint8))  # a label that is one of the maps

    class One:
        def volume(self, _number):
            return volume

    config = SampleConfig(patch=(8, 8, 8), augmentation={"flip": 0.5, "noise": 1.0, "gamma": 1.0, "motion": 1.0})
    samples = Samples(One(), ModelDescription(**tumor_model()), config, False, 3)
    for number in range(10):
        image, _, label = samples[number]
        assert image.shape == (1 + CLASSES, 8, 8, 8)
        assert torch.equal(image[2], label[0]) and torch.equal(image[1:].sum(0), torch.ones(8, 8, 8))


def test_predicted_classes_are_the_most_probable_ones(cohort, tmp_path):
    ready = prepared(cohort, tmp_path, clusters_model())
    volume = ready.volume_of(ready.cohort.cases[0])
    logits = torch.randn(CLASSES, *volume.label.shape)
    found = predict_classes(volume, ModelDescription(**clusters_model()), lambda *_: logits)
    assert torch.equal(found, logits.argmax(0).to(torch.uint8))


# Configurations.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": clusters_model()}, 'the loss "dice_wce" belong together'),
        ({"loss": {"name": "dice_wce"}}, 'the loss "dice_wce" belong together'),
        ({"model": SUPERVISED, "loss": {"name": "dice_wce"}}, "deep_supervision must be 0"),
        ({"model": tumor_model() | {"maps": None}}, "maps and a network that takes them belong together"),
        ({"model": training_runs.model(maps="maps")}, "maps and a network that takes them belong together"),
        (
            {"model": tumor_model(), "data": {"kind": "simulated"}, "steps_per_epoch": 1},
            "learned from a cohort",
        ),
    ],
)
def test_a_config_that_does_not_fit_says_why(cohort, changes, words):
    with pytest.raises(ValidationError, match=words):
        training_runs.config(cohort, **changes)


def test_a_bundle_of_clusters_has_three_classes_or_more():
    network = {**RESUNET, "in_channels": 1, "out_channels": 2}
    with pytest.raises(ValidationError, match="three or more classes"):
        ModelDescription(**clusters_model() | {"network": network})
    assert ModelDescription(**clusters_model()).network.out_channels == CLASSES
