"""Temperature, threshold and peak, chosen on exams."""

import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.models import models_folder
from BreastTumorSegLib.networks.bundle import LesionWeights, ModelDescription, load_bundle, save_bundle
from BreastTumorSegLib.networks.resunet import ResUNetConfig, resunet
from BreastTumorSegLib.training import calibrate
from BreastTumorSegLib.training.calibrate import (
    Calibration,
    Seen,
    best,
    choices,
    fitting_temperature,
    measured,
    score_of,
)

SHAPE = (20, 24, 24)
GEOMETRY = Geometry((24, 24, 20), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def seen(logits, tumor):
    gain = np.where(tumor, 100.0, 0.0).astype(np.float32)
    return Seen(logits.astype(np.float32), gain, np.ones(SHAPE, bool), tumor, tumor, GEOMETRY)


def test_the_temperature_makes_probabilities_what_they_say():
    """Truth is drawn with the probability of a logit; a network that says three times that logit is too sure."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, SHAPE)
    tumor = random.random(SHAPE) < 1 / (1 + np.exp(-logits))
    assert fitting_temperature([seen(3 * logits, tumor)]) == pytest.approx(3.0, rel=0.05)
    assert fitting_temperature([seen(0.5 * logits, tumor)]) == pytest.approx(0.5, rel=0.05)


def test_a_description_gives_probabilities_at_its_temperature():
    network = ResUNetConfig(in_channels=2, out_channels=1, channels=(4, 8), strides=(2,))
    facts = {"name": "warm", "task": "tumor", "version": "1", "network": network, "phases": ("pre", "first_post")}
    warm = ModelDescription(**facts, spacing_mm=2.0, temperature=2.0)
    assert warm.probability(torch.tensor([0.0, 4.0])).tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-2))])


def at_095(exam, temperature):
    """What is judged with a threshold of 0.5 and a peak of 0.95."""
    return dict(measured(exam, temperature, 0.5, None, score_of))[0.95]


def test_an_exam_scores_its_dice_or_that_nothing_is_found():
    centre = np.indices(SHAPE) - np.array([10, 12, 12])[:, None, None, None]
    tumor = (centre**2).sum(0) <= 16
    sure = np.where(tumor, 4.0, -8.0)
    score, false = at_095(seen(sure, tumor), 1.0)
    assert score == pytest.approx(1.0, abs=0.02) and false == 0
    assert at_095(seen(sure, tumor), 2.0) == (0.0, 0)  # at this temperature its peak is 0.88
    nothing = np.zeros(SHAPE, bool)
    assert at_095(seen(np.full(SHAPE, -8.0), nothing), 1.0) == (1.0, 0)
    assert at_095(seen(sure, nothing), 1.0) == (0.0, 1)


def test_a_peak_that_only_one_lesion_has_leaves_the_other_out():
    z, y, x = np.indices(SHAPE) - np.array([10, 12, 6])[:, None, None, None]
    first, second = z**2 + y**2 + x**2 <= 16, z**2 + y**2 + (x - 12) ** 2 <= 16
    logits = np.select([first, second], [4.0, 3.0], -8.0)  # probabilities of 0.982 and 0.953
    judged = dict(measured(seen(logits, first), 1.0, 0.5, None, score_of))
    assert judged[0.97][0] == pytest.approx(1.0, abs=0.02) and judged[0.97][1] == 0
    assert judged[0.93][0] == pytest.approx(2 / 3, abs=0.03) and judged[0.93][1] == 1
    assert judged[0.99] == (0.0, 0)


def test_of_exams_without_lesion_those_are_counted_that_stay_empty():
    tumor, nothing = (np.indices(SHAPE) - np.array([10, 12, 12])[:, None, None, None]) ** 2, np.zeros(SHAPE, bool)
    tumor = tumor.sum(0) <= 16
    sure, unsure = (np.where(tumor, logit, -8.0) for logit in (4.0, 3.0))
    exams = [seen(sure, tumor), seen(unsure, nothing), seen(sure, nothing), seen(unsure, nothing)]
    offered = {choice.peak: choice for choice in choices(exams, 1.0, None, Events()) if choice.threshold == 0.5}
    assert [offered[peak].empty for peak in (0.93, 0.97, 0.99)] == [0.0, 0.667, 1.0]
    assert [offered[peak].false_positives for peak in (0.93, 0.97, 0.99)] == [0.75, 0.25, 0.0]


def test_the_best_score_is_taken_among_choices_with_few_false_lesions():
    many, few, fewer = (Calibration(1.0, 0.5, 0.9, *figures, 1.0) for figures in ((0.6, 0.7), (0.5, 0.5), (0.4, 0.1)))
    assert best([many, few, fewer]) is few
    assert best([many, Calibration(1.0, 0.5, 0.8, 0.7, 0.9, 1.0)]) is many


def test_the_command_writes_what_it_chose_and_leaves_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "TRAINING_SITES", ("ISPY2",))
    monkeypatch.setattr(calibrate, "SPACING_MM", 8.0)
    monkeypatch.setattr(calibrate, "CONDITIONS", dict.fromkeys(["clean", "no lesion"]))
    torch.manual_seed(0)
    size = ResUNetConfig(in_channels=2, out_channels=1, channels=(4, 8), strides=(2,))
    facts = {"name": "mine", "task": "tumor", "version": "1", "network": size, "phases": ("pre", "first_post")}
    save_bundle(resunet(size), ModelDescription(**facts, spacing_mm=8.0), tmp_path)
    weights = (tmp_path / "mine" / "weights.safetensors").read_bytes()
    done = CliRunner().invoke(app, ["models", "calibrate", str(tmp_path / "mine"), "--patients", "1"])
    assert done.exit_code == 0, done.output
    said = json.loads((tmp_path / "mine" / "model.json").read_text())
    shown = ", ".join(f"{name} {said[name]:g}" for name in ("temperature", "threshold", "peak"))
    assert shown in done.output and re.search(r"none in (\d|\d\d|100)% of those without lesion", done.output)
    assert said["temperature"] != 1.0 and said["peak"] in calibrate.PEAKS and said["threshold"] in calibrate.THRESHOLDS
    assert (tmp_path / "mine" / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command_writes_and_tells_the_weights_by_which_lesions_are_told(form, tmp_path, monkeypatch):
    weights = LesionWeights(bias=1, sureness=2, mean=3, volume=4, extent=-5, surroundings=-6)
    size = ResUNetConfig(in_channels=2, out_channels=1, channels=(4, 8), strides=(2,))
    facts = {"name": "mine", "task": "tumor", "version": "1", "network": size, "phases": ("pre", "first_post")}
    save_bundle(resunet(size), ModelDescription(**facts, spacing_mm=8.0), tmp_path)
    monkeypatch.setattr(calibrate, "calibrate", lambda *_: Calibration(1.5, 0.4, 0.3, 0.7, 0.2, 0.9, weights))
    done = CliRunner().invoke(app, ["models", "calibrate", str(tmp_path / "mine"), "--progress", form])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "mine" / "model.json").read_text())["lesion_weights"] == weights.model_dump()
    if form == "text":
        assert "weights of their features" in done.output
    else:
        (finished,) = [
            json.loads(line.removeprefix("@bts ")) for line in done.output.splitlines() if "finished" in line
        ]
        assert finished["lesion_weights"] == weights.model_dump() and finished["peak"] == 0.3


def test_choices_are_made_with_the_weights():
    """The volume alone tells: both parts are as sure, and the small one is no lesion."""
    z, y, x = np.indices(SHAPE) - np.array([10, 12, 6])[:, None, None, None]
    large, small = z**2 + y**2 + x**2 <= 25, z**2 + y**2 + (x - 12) ** 2 <= 9
    exam = seen(np.where(large | small, 4.0, -8.0), large)
    weights = LesionWeights(bias=0, sureness=0, mean=0, volume=2, extent=0, surroundings=0)
    offered = {c.peak: c for c in choices([exam, seen(np.full(SHAPE, -8.0), large & False)], 1.0, weights, Events())}
    assert offered[0.93].false_positives == 0 and offered[0.2].false_positives == 0.5
    assert {choice.lesion_weights for choice in offered.values()} == {weights}


def test_a_model_that_sees_no_contrast_is_refused():
    done = CliRunner().invoke(app, ["models", "calibrate", str(models_folder() / "tumor-noncontrast")])
    assert done.exit_code == 3 and "contrast" in done.output
    assert load_bundle("tumor-noncontrast", "tumor").description.temperature == 1.0
