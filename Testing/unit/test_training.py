"""The training loop and its samples."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from BreastTumorSegLib.core.errors import Cancelled
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import ModelDescription, load_bundle
from BreastTumorSegLib.networks.resunet import ResUNetConfig
from BreastTumorSegLib.training.config import TrainingConfig
from BreastTumorSegLib.training.data import cut, samples
from BreastTumorSegLib.training.engine import segmentation_loss, train


def config(folder, task="tumor", **changes):
    channels = {"tumor": (2, 1, ("pre", "first_post")), "breast": (1, 1, ("pre",))}[task]
    network = ResUNetConfig(in_channels=channels[0], out_channels=channels[1], channels=(4, 8), strides=(2,))
    model = ModelDescription(
        name="tiny", task=task, version="0", network=network, phases=channels[2], spacing_mm=8.0, trained_on="a test"
    )
    values = {"steps": 3, "patch": (8, 8, 8), "sites": ("ISPY2",), "out": folder, "save_every": 2}
    return TrainingConfig(model=model, **{**values, **changes})


def test_samples_have_the_patch_size_and_repeat_with_the_seed(tmp_path):
    first, again = (next(samples(config(tmp_path))) for _ in range(2))
    assert first[0].shape == (2, 8, 8, 8) and first[1].shape == (8, 8, 8)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_a_sample_without_patch_is_a_whole_volume_that_the_network_takes(tmp_path):
    image, label = next(samples(config(tmp_path, task="breast", patch=None)))
    assert image.shape[1:] == label.shape
    assert all(size % 2 == 0 for size in label.shape)
    assert set(label.unique().tolist()) == {0, 1}


def test_a_patch_aims_at_the_lesion_and_stays_aligned():
    image = torch.arange(4 * 30 * 30.0).view(1, 4, 30, 30)
    label = torch.zeros(4, 30, 30, dtype=torch.bool)
    label[2, 25, 3] = True
    hits = 0
    for seed in range(200):
        patch, cut_label = cut(image, label, label, (8, 8, 8), np.random.default_rng(seed))
        if cut_label.any():
            hits += 1
            assert patch[0][cut_label > 0].item() == image[0, 2, 25, 3]
    assert hits >= 120  # two thirds aim at it, others hit it by chance


def test_loss_is_zero_for_the_right_answer_and_large_for_the_wrong_one():
    label = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    label[0, :2] = 1
    right = (label.float() * 2 - 1)[:, None] * 50
    assert float(segmentation_loss(right, label)) == pytest.approx(0, abs=1e-4)
    assert float(segmentation_loss(-right, label)) > 100


def test_loss_without_lesion_grows_with_the_number_of_wrong_voxels():
    label = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    logits = torch.full((1, 1, 4, 4, 4), -10.0)
    few, many = logits.clone(), logits.clone()
    few[0, 0, 0, 0, 0] = 10
    many[0, 0, 0] = 10
    assert float(segmentation_loss(many, label)) > 10 * float(segmentation_loss(few, label))


def test_training_writes_a_bundle_that_loads(tmp_path):
    train(config(tmp_path))
    assert load_bundle("tiny", "tumor", tmp_path).description.trained_on == "a test"
    saved = TrainingConfig.model_validate_json((tmp_path / "tiny.training.json").read_text())
    assert saved == config(tmp_path)


def test_the_same_seed_gives_the_same_weights(tmp_path):
    for name in ("a", "b"):
        train(config(tmp_path / name))
    weights = [load_bundle("tiny", "tumor", tmp_path / name).network.state_dict() for name in ("a", "b")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_can_be_cancelled(tmp_path):
    events = Events()
    events.cancel()
    with pytest.raises(Cancelled):
        train(config(tmp_path), events=events)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"learning_rate": -1.0}, {"save_every": 0}, {"patch": (7, 8, 8)}, {"learningrate": 0.1}]
)
def test_a_senseless_config_is_refused(tmp_path, change):
    with pytest.raises(ValidationError):
        config(tmp_path, **change)
