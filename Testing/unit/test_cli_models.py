"""`models`: list, info, verify and add."""

import json

import pytest
import torch
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.networks.bundle import ModelDescription, load_bundle, registry, save_bundle
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.networks.segresnet import SegResNetConfig

SMALL = SegResNetConfig(in_channels=2, out_channels=1, features=8, blocks=(1, 2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The models in use; none yet."""
    folder = tmp_path / "models"
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(folder))
    return folder


def trained(tmp_path, name="mine", task="tumor", value=None, version="1"):
    """What a training run ends with; all weights `value` if given."""
    network = build_network(SMALL)
    if value is not None:
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, value)
    facts = {"name": name, "task": task, "version": version, "phases": ("pre", "first_post"), "spacing_mm": 1.5}
    out = tmp_path / f"run-{name}-{task}-{version}"
    save_bundle(network, ModelDescription(**facts, network=SMALL), out)
    (out / name / "CARD.md").write_text(f"# {name}, version {version}\n", encoding="utf-8")
    (out / name / "log.csv").write_text("stays behind")
    return out / name


def run(*arguments):
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def refused(finished, *words, code=3):
    assert finished.exit_code == code, finished.output
    assert all(word in finished.output for word in words), finished.output


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_added_model_is_listed_verified_and_described(folder, tmp_path):
    assert run("add", trained(tmp_path)).exit_code == 0
    assert run("list").output.split() == ["mine", "tumor", "default"]
    sha256 = run("verify").output.split()[1]
    facts, _, card = run("info", "mine").output.partition("\n\n")
    # conv_init 3^3 x 2 x 8; a block 2 x (3^3 x 8 x 8 + 16); down 3^3 x 8 x 16; two blocks 2 x (3^3 x 16 x 16 + 32);
    # up 3^3 x 16 x 8; a block again; head 8 + 1: 42105 in all.
    assert facts.splitlines() == [
        "name        mine 1",
        "task        tumor, its default",
        "network     segresnet, 0.04 million parameters",
        "size        features 8, blocks 1-2",
        "phases      pre, first_post",
        "spacing     1.5 mm",
        "input       joint-z-score, of the box of the breasts",
        "threshold   0.5",
        "peak        0.85",
        "trained on  simulated exams only",
        f"sha256      {sha256}",
    ]
    assert card == "# mine, version 1\n"
    assert sorted(path.name for path in (folder / "mine").iterdir()) == ["CARD.md", "model.json", "weights.safetensors"]


def test_a_model_that_is_there_is_replaced_on_request_only_and_kept(folder, tmp_path):
    run("add", trained(tmp_path))
    before = files_of(folder)
    newer = trained(tmp_path, version="2")
    refused(run("add", newer), "already there", code=2)
    assert files_of(folder) == before
    assert run("add", newer, "--overwrite").exit_code == 0
    assert load_bundle("mine", "tumor", folder).description.version == "2"
    (kept,) = folder.glob("mine-previous-*")
    assert {path.name: data for path, data in files_of(kept).items()} == {
        path.name: data for path, data in before.items() if path.parent.name == "mine"
    }
    assert {name: entry.default for name, entry in registry(folder).items()} == {"mine": True}


def test_a_task_has_one_default_and_it_changes_on_request_only(folder, tmp_path):
    run("add", trained(tmp_path, "breast", "breast"))
    for name, options in (("first", []), ("second", []), ("third", ["--default"])):
        assert run("add", trained(tmp_path, name), *options).exit_code == 0
    defaults = {name for name, entry in registry(folder).items() if entry.default}
    assert defaults == {"breast", "third"}


def lose_card(bundle):
    (bundle / "CARD.md").unlink()


def lose_all(bundle):
    for path in bundle.iterdir():
        path.unlink()


def other_size(bundle):
    described = json.loads((bundle / "model.json").read_text())
    described["network"]["features"] = 16
    (bundle / "model.json").write_text(json.dumps(described))


def unknown_network(bundle):
    described = json.loads((bundle / "model.json").read_text())
    described["network"]["name"] = "unet"
    (bundle / "model.json").write_text(json.dumps(described))


def name_outside(bundle):
    described = json.loads((bundle / "model.json").read_text())
    (bundle / "model.json").write_text(json.dumps({**described, "name": "../mine"}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_card, "CARD.md is missing"),
        (lose_all, "model.json, weights.safetensors, CARD.md is missing"),
        (other_size, "not a usable model bundle"),
        (unknown_network, "not a usable model bundle"),
        (name_outside, "not a usable model bundle"),
    ],
)
def test_what_is_no_whole_bundle_is_refused(folder, tmp_path, spoil, words):
    bundle = trained(tmp_path)
    spoil(bundle)
    refused(run("add", bundle), words)
    assert not folder.exists()


def test_a_network_whose_answer_is_not_finite_is_refused(folder, tmp_path):
    refused(run("add", trained(tmp_path, value=float("nan"))), "not finite")
    assert not folder.exists()


def test_a_name_that_is_anothers_is_refused_even_with_overwrite(folder, tmp_path):
    run("add", trained(tmp_path))
    (folder / "codebooks").mkdir()
    refused(run("add", trained(tmp_path, task="breast"), "--overwrite"), "already a model for tumor")
    refused(run("add", trained(tmp_path, "codebooks"), "--overwrite"), "in the models' folder, but no model")


def test_info_of_a_model_that_is_not_there_lists_the_others(folder, tmp_path):
    run("add", trained(tmp_path))
    refused(run("info", "theirs"), "no model 'theirs'", "Choose one of: mine.")
