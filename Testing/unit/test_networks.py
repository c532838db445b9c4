"""Networks and bundles."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.networks.bundle import (
    ModelDescription,
    default_model,
    load_bundle,
    models_folder,
    registry,
    save_bundle,
)
from BreastTumorSegLib.networks.inputs import bounding_box, breast_only, intensity_scale, normalised, pad_to_multiple
from BreastTumorSegLib.networks.resunet import PUBLISHED, ResUNetConfig, resunet

SMALL = ResUNetConfig(in_channels=2, out_channels=1, channels=(4, 8), strides=(2,))


def description(**changes):
    values = {"name": "tiny", "task": "tumor", "version": "1", "network": SMALL, "spacing_mm": 2.0}
    return ModelDescription(phases=("pre", "first_post"), **{**values, **changes})


def test_published_widths_give_the_published_size():
    """31.56 M parameters, as measured on MONAI's class with the paper's channels."""
    assert sum(p.numel() for p in resunet(PUBLISHED).parameters()) == pytest.approx(31.56e6, rel=1e-3)
    assert PUBLISHED.multiple == 32


def test_joint_z_score_keeps_the_ratio_between_phases():
    phases = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    # Mean 2, standard deviation sqrt(2): both phases share them.
    assert normalised(phases, "joint-z-score").flatten().tolist() == pytest.approx([-0.7071, 0.7071], abs=1e-4)
    assert normalised(torch.full((2, 2, 2, 2), 5.0), "joint-z-score").abs().max() == 0


def test_far_from_the_breasts_all_phases_are_dark():
    phases = torch.arange(1.0, 11.0).view(2, 1, 1, 5)
    breast = torch.tensor([True, False, False, False, False]).view(1, 1, 5)
    assert breast_only(phases, breast, 2).flatten().tolist() == [1, 2, 3, 1, 1, 6, 7, 8, 1, 1]
    assert breast_only(phases, breast, 0).flatten().tolist() == [1, 1, 1, 1, 1, 6, 1, 1, 1, 1]


def test_early_min_max_is_the_early_phases_scale_for_all():
    early = torch.arange(101.0)  # its 99th percentile is 99
    pre = early / 2  # 49.5
    scaled = normalised(torch.stack([pre, early]).view(2, 1, 1, 101), "early-min-max")[:, 0, 0]
    assert scaled[1, [0, 33, 99, 100]].tolist() == pytest.approx([0, 1 / 3, 1, 1])
    assert scaled[0, [0, 66, 99, 100]].tolist() == pytest.approx([0, 1 / 3, 0.5, 0.5])


def test_an_intensity_scale_says_where_no_signal_lies():
    scale = intensity_scale(torch.tensor([2.0, 6.0]).view(1, 1, 1, 2), "joint-z-score")
    assert scale.zero == pytest.approx(-4 / 8**0.5)
    assert scale(torch.zeros(1, 1, 1, 1)).item() == pytest.approx(scale.zero)


def test_bounding_box_grows_by_the_margin_and_stays_inside():
    mask = torch.zeros(10, 10, 10, dtype=torch.bool)
    mask[1, 4:6, 9] = True
    assert bounding_box(mask, 2) == (slice(0, 4), slice(2, 8), slice(7, 10))
    assert bounding_box(torch.zeros(3, 4, 5, dtype=torch.bool), 1) == (slice(0, 3), slice(0, 4), slice(0, 5))


def test_padding_reaches_the_multiple_with_the_minimum():
    padded = pad_to_multiple(torch.arange(6.0).view(1, 1, 2, 3) - 9, 1)
    assert padded.shape == (1, 2, 2, 3)
    padded = pad_to_multiple(torch.arange(90.0).view(1, 9, 2, 5) - 9, 4)
    assert padded.shape == (1, 12, 8, 8)
    assert padded[0, 11, 7, 7] == -9


def test_a_saved_bundle_gives_the_same_answer(tmp_path):
    network = resunet(SMALL).half().float().eval()
    save_bundle(network, description(), tmp_path)
    bundle = load_bundle("tiny", "tumor", tmp_path)
    image = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(bundle.network(image), network(image))
    assert default_model("tumor", tmp_path) == "tiny"


def test_the_first_bundle_of_a_task_stays_its_default(tmp_path):
    for name in ("first", "second", "first"):
        save_bundle(resunet(SMALL), description(name=name), tmp_path)
    assert {name: entry.default for name, entry in registry(tmp_path).items()} == {"first": True, "second": False}


def spoil_weights(folder):
    (folder / "tiny" / "weights.safetensors").write_bytes(b"other")


def lose_weights(folder):
    (folder / "tiny" / "weights.safetensors").unlink()


def lose_registry(folder):
    (folder / "registry.json").unlink()


def spoil_description(folder):
    (folder / "tiny" / "model.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (spoil_weights, "checksum"),
        (lose_weights, "weights are missing"),
        (lose_registry, "no readable model registry"),
        (spoil_description, "not a usable model bundle"),
    ],
)
def test_a_damaged_bundle_is_a_model_error(tmp_path, damage, words):
    save_bundle(resunet(SMALL), description(), tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        load_bundle("tiny", "tumor", tmp_path)
    assert caught.value.exit_code == 3


def test_weights_of_another_network_are_refused(tmp_path):
    save_bundle(resunet(SMALL), description(), tmp_path)
    path = tmp_path / "tiny" / "weights.safetensors"
    save_file({"other": torch.zeros(1)}, path)
    entries = json.loads((tmp_path / "registry.json").read_text())
    entries["tiny"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "registry.json").write_text(json.dumps(entries))
    with pytest.raises(ModelError, match="not a usable model bundle"):
        load_bundle("tiny", "tumor", tmp_path)


def test_a_model_for_another_task_is_refused(tmp_path):
    save_bundle(resunet(SMALL), description(), tmp_path)
    with pytest.raises(ModelError, match="for tumor, not for breast"):
        load_bundle("tiny", "breast", tmp_path)


@pytest.mark.parametrize(
    "change", [{"phases": ("pre",)}, {"spacing_mm": 0.0}, {"threshold": 1.5}, {"task": "liver"}, {"colour": "red"}]
)
def test_a_description_that_does_not_fit_its_network_is_refused(change):
    with pytest.raises(ValidationError):
        ModelDescription.model_validate({**description().model_dump(), **change})


def test_saving_that_is_cut_short_leaves_the_old_bundle_usable(tmp_path, monkeypatch):
    save_bundle(resunet(SMALL), description(), tmp_path)
    write = Path.write_bytes

    def full(path, data):
        if "registry" in path.name:
            raise OSError("disk full")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        save_bundle(resunet(SMALL), description(), tmp_path)
    assert load_bundle("tiny", "tumor", tmp_path)


def test_an_unknown_model_lists_the_known_ones(tmp_path):
    save_bundle(resunet(SMALL), description(), tmp_path)
    with pytest.raises(ModelError, match="tiny"):
        load_bundle("huge", "tumor", tmp_path)


def test_shipped_bundles_are_whole_small_and_described():
    entries = registry()
    assert {entry.task for entry in entries.values()} == {"breast", "tumor", "clusters"}
    total = sum(path.stat().st_size for path in models_folder().rglob("*") if path.is_file())
    assert total < 24e6
    for name, entry in entries.items():
        assert load_bundle(name, entry.task).description.name == name
        assert (models_folder() / name / "CARD.md").is_file()
