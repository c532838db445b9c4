"""A tumour model that is averaged with another one."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

import training_runs
from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.models import description_sha256, partner_of
from BreastTumorSegLib.jobs.worker import is_done, models_used
from BreastTumorSegLib.networks.adding import add_bundle
from BreastTumorSegLib.networks.bundle import (
    Bundle,
    ModelDescription,
    load_bundle,
    read_bundle,
    save_bundle,
    verify_bundle,
)
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.segmentation import runtimes
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.tumor import tumor_probability
from BreastTumorSegLib.training.calibrate import Calibration

GRID = Geometry((24, 24, 24), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0))


class Says(torch.nn.Module):
    """The same logit everywhere."""

    def __init__(self, logit):
        super().__init__()
        self._logit = logit

    def forward(self, image):
        return torch.full((len(image), 1, *image.shape[2:]), self._logit)


def bundle(logit, partner=None, **changes):
    return Bundle(ModelDescription(**training_runs.model(**changes)), "", Says(logit), partner)


@pytest.fixture
def models(tmp_path):
    """A folder with "second", and "first", which is averaged with it."""
    for name, other in (("second", None), ("first", "second")):
        described = ModelDescription(**training_runs.model(name=name, averaged_with=other))
        save_bundle(build_network(described.network), described, tmp_path)
    return tmp_path


def described_again(models, name, **changes):
    path = models / name / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(("share", "logit"), [(0.5, 1.0), (0.75, 1.75)])
def test_the_probability_is_that_of_the_mean_logit_at_the_first_ones_temperature(share, logit, monkeypatch):
    monkeypatch.setattr(runtimes, "openvino", lambda: None)
    phases = tuple(Phase(f"phase {n}", (), 100.0 * n, TimeSource.MAMA_MIA, GRID) for n in range(2))
    exam = Exam(PhaseTable(phases), np.random.default_rng(0).random((2, *GRID.shape)).astype(np.float32))
    inside = np.zeros(GRID.shape, bool)
    inside[4:20, 4:20, 4:20] = True
    breast = BreastMask(inside.astype(np.uint8), inside, GRID)
    both = bundle(5.0, bundle(-1.0, temperature=3.0, share=0.9), temperature=2.0, share=share)
    probability = tumor_probability(exam, breast, both, torch.device("cpu"), Events())
    assert probability[inside] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert not probability[~inside].any()


@pytest.mark.parametrize(("field", "changed"), [("breast", True), ("breast-only", False)])
def test_what_lies_far_from_the_breasts_changes_nothing_for_a_network_that_sees_them_only(field, changed, monkeypatch):
    monkeypatch.setattr(runtimes, "openvino", lambda: None)
    inside = np.zeros(GRID.shape, bool)
    inside[4:20, 4:12, 4:20] = inside[4:20, 4:20, 4:6] = True
    described = ModelDescription(**training_runs.model(field=field))
    network = build_network(described.network).eval()
    data = np.random.default_rng(0).uniform(1, 2, (2, *GRID.shape)).astype(np.float32)
    data[:, 0, 0, 0] = 1.0  # the darkest there is, whatever lies behind
    told = []
    for factor in (1, 5):
        heart = data.copy()
        heart[..., 14:, 9:] *= factor
        phases = tuple(Phase(f"phase {n}", (), 100.0 * n, TimeSource.MAMA_MIA, GRID) for n in range(2))
        breast = BreastMask(inside.astype(np.uint8), inside, GRID)
        exam, tumor = Exam(PhaseTable(phases), heart), Bundle(described, "", network, None)
        told.append(tumor_probability(exam, breast, tumor, torch.device("cpu"), Events())[inside])
    assert np.std(told[0]) > 0
    assert (np.abs(told[0] - told[1]).max() > 1e-3) == changed


def test_a_bundle_brings_the_model_that_it_is_averaged_with(models, monkeypatch):
    first, second = load_bundle("first", "tumor", models), load_bundle("second", "tumor", models)
    assert [member.sha256 for member in first.members] == [first.sha256, second.sha256]
    assert second.members == (second,) and second.partner is None
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(models))
    assert (partner_of("first"), partner_of("second")) == ("second", None)
    assert read_bundle(models / "first").partner.description.name == "second"


def test_one_of_two_may_see_the_breasts_only(models):
    described_again(models, "first", field="breast")
    described_again(models, "second", field="breast-only")
    assert load_bundle("first", "tumor", models).partner.description.field == "breast-only"


@pytest.fixture
def in_use(models, monkeypatch):
    """The folder is the one in use, and has a model for breasts, too."""
    described = ModelDescription(**training_runs.model(name="breasts", task="breast", phases=["pre"]) | one_channel())
    save_bundle(build_network(described.network), described, models)
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(models))
    return models


def noted(name):
    """Of a model in a result's manifest."""
    return {"sha256": verify_bundle(name), "description_sha256": description_sha256(name)}


def test_a_cohort_of_another_partner_is_another_one(in_use):
    both = [noted(name) for name in ("breasts", "first", "second")]
    assert is_done({"models": both}, models_used("first"))
    assert not is_done({"models": both[:2]}, models_used("first"))
    assert not is_done(None, models_used("first"))


def test_a_cohort_of_the_same_weights_with_another_peak_is_another_one(in_use):
    before = [noted(name) for name in ("breasts", "second")]
    described_again(in_use, "second")
    assert is_done({"models": before}, models_used("second"))  # laid out otherwise, but the same
    described_again(in_use, "second", peak=0.4)
    assert not is_done({"models": before}, models_used("second"))
    assert is_done({"models": [noted("breasts"), noted("second")]}, models_used("second"))
    assert not is_done({"models": [{"sha256": each["sha256"]} for each in before]}, models_used("second"))


def test_a_description_that_cannot_be_read_has_no_checksum(in_use):
    (in_use / "second" / "model.json").write_text("{")
    assert description_sha256("second") is None and description_sha256("none") is None


def one_channel():
    return {"network": training_runs.model()["network"] | {"in_channels": 1}}


@pytest.mark.parametrize(
    "changes",
    [{"averaged_with": "first"}, {"spacing_mm": 4.0}, {"field": "breast"}, {"phases": ["pre"], **one_channel()}],
)
def test_models_that_do_not_fit_are_not_averaged(models, changes):
    if "network" in changes:
        second = ModelDescription(**training_runs.model(name="second", **changes))
        save_bundle(build_network(second.network), second, models)
    described_again(models, "second", **changes)
    with pytest.raises(ModelError, match="'first' can't be averaged with 'second'"):
        load_bundle("first", "tumor", models)


def test_a_model_is_not_averaged_with_itself(models):
    described_again(models, "first", averaged_with="first")
    with pytest.raises(ModelError, match="not a usable model bundle"):
        load_bundle("first", "tumor", models)
    with pytest.raises(ValidationError, match="averaged with itself"):
        ModelDescription(**training_runs.model(averaged_with="tiny"))


def test_a_partner_is_not_replaced(models, tmp_path_factory):
    """The one that it is averaged with would be calibrated for other weights."""
    there = tmp_path_factory.mktemp("new")
    torch.manual_seed(1)
    described = ModelDescription(**training_runs.model(name="second"))
    save_bundle(build_network(described.network), described, there)
    (there / "second" / "CARD.md").write_text("A card.\n")
    before = (models / "second" / "weights.safetensors").read_bytes()
    with pytest.raises(ModelError, match="'first' is averaged with 'second'"):
        add_bundle(there / "second", models, overwrite=True)
    assert (models / "second" / "weights.safetensors").read_bytes() == before
    described_again(models, "first", averaged_with=None)
    assert add_bundle(there / "second", models, overwrite=True).sha256 == read_bundle(there / "second").sha256


def test_a_partner_that_is_missing_or_another_than_at_calibration_is_told(models):
    described_again(models, "first", averaged_with_sha256=load_bundle("second", "tumor", models).sha256)
    assert load_bundle("first", "tumor", models).partner
    described_again(models, "first", averaged_with_sha256="0" * 64)
    with pytest.raises(ModelError, match="calibrated with other weights of 'second'") as caught:
        load_bundle("first", "tumor", models)
    assert "models calibrate" in caught.value.remedy
    (models / "second" / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="the weights are missing"):
        load_bundle("first", "tumor", models)


def test_what_was_chosen_belongs_to_the_partner_it_was_chosen_with(models):
    chosen = Calibration(2.0, 0.5, 0.9, 0.6, 0.2, 0.7)
    described = chosen.of(load_bundle("first", "tumor", models))
    assert described.averaged_with_sha256 == load_bundle("second", "tumor", models).sha256
    assert (described.temperature, described.threshold, described.peak) == (2.0, 0.5, 0.9)
    assert chosen.of(load_bundle("second", "tumor", models)).averaged_with_sha256 is None


def test_a_network_is_trained_alone(tmp_path):
    with pytest.raises(ValidationError, match="trained alone"):
        training_runs.config(tmp_path, model=training_runs.model(averaged_with="second"))


def test_only_tumour_models_with_contrast_are_averaged():
    with pytest.raises(ValidationError, match="tumour models with contrast"):
        ModelDescription(**training_runs.model(task="breast", averaged_with="second"))


def test_info_tells_how_much_both_count(models, monkeypatch):
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(models))
    described_again(models, "first", share=0.8)
    told = CliRunner().invoke(app, ["models", "info", "first"]).output
    assert "average     80% of it, 20% of second\n" in told
