"""Segmentation of the pre-contrast phase alone, from the two networks to the results folder."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.errors import InputError, ModelError
from BreastTumorSegLib.core.events import NONCONTRAST_STAGES, PREFIX, Events
from BreastTumorSegLib.core.exam import Exam, Phase, PhaseTable, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import NONCONTRAST_NOTICE, NonContrastResult
from BreastTumorSegLib.doctor import examine
from BreastTumorSegLib.io import read_volume, write_volume
from BreastTumorSegLib.io.result_files import write_noncontrast_result
from BreastTumorSegLib.jobs.exam import segment_into
from BreastTumorSegLib.jobs.tables import succeeded
from BreastTumorSegLib.jobs.worker import is_done, models_used
from BreastTumorSegLib.networks.bundle import Bundle, default_model, registry, save_bundle
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.review.worklist import model_of
from BreastTumorSegLib.segmentation import pipeline, runtimes
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.clusters import predicted_clusters
from BreastTumorSegLib.segmentation.noncontrast import binary_entropy, load_clusters_model, segment_noncontrast
from BreastTumorSegLib.segmentation.pipeline import segment_exam
from BreastTumorSegLib.segmentation.stopwatch import Stopwatch
from Testing.noncontrast_models import CLASSES, CLUSTERS, NONCONTRAST, USUAL, described, write_models
from Testing.results import noncontrast_result

CPU = torch.device("cpu")
GRID = Geometry((16, 16, 16), (6.0, 6.0, 6.0))
FILES = {"breast", "tumor", "tumor_probability", "heterogeneity", "uncertainty"}


def an_exam(phases=1):
    """Tissue of 100 with a cube of 4 voxels' edge of 200 in it; later phases are noise that nobody may look at."""
    pre = np.full(GRID.shape, 100, np.float32)
    pre[6:10, 6:10, 6:10] = 200
    later = np.random.default_rng(0).normal(500, 200, (phases - 1, *GRID.shape)).astype(np.float32)
    table = PhaseTable(tuple(Phase(f"p{i}", (), 90.0 * i, TimeSource.USER, GRID) for i in range(phases)))
    return Exam(table, np.concatenate([pre[None], later]))


def a_breast():
    """All but two voxels at each end, the right one in front of the middle of x."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:-2, 2:-2, 2:-2] = 1
    return BreastMask(labels, labels > 0, GRID)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The models in use; the breasts are `a_breast`."""
    folder = tmp_path / "models"
    write_models(folder)
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(folder))
    monkeypatch.setattr(pipeline, "segment_breast", lambda *_given: a_breast())
    monkeypatch.setattr(runtimes, "openvino", lambda: None)
    return folder


# Uncertainty and predicted clusters, by hand.


def test_binary_entropy_by_hand():
    # -0.25 log2 0.25 - 0.75 log2 0.75 = 0.5 + 0.311278
    probability = np.array([0.0, 0.25, 0.5, 1.0], np.float32)
    assert binary_entropy(probability).tolist() == pytest.approx([0, 0.811278, 1, 0], abs=1e-5)


def test_predicted_clusters_by_hand():
    """Voxels: outside, not enhancing, clusters 1 and 2, one of which nothing is known, and one that is no breast."""
    probabilities = np.zeros((4, 1, 1, 6), np.float32)
    probabilities[[0, 1, 2, 3], 0, 0, [0, 1, 2, 3]] = 1
    probabilities[:, 0, 0, 4] = 0.25
    probabilities[3, 0, 0, 5] = 1
    grid, breast = Geometry((6, 1, 1), (2.0,) * 3), np.array([[[1, 1, 1, 2, 2, 0]]])
    labels, unsure = predicted_clusters(probabilities, grid, breast, grid)
    assert labels.tolist() == [[[0, 0, 1, 2, 0, 0]]] and labels.dtype == np.uint8
    assert unsure[0, 0].tolist() == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-6)


class Brightness(torch.nn.Module):
    """Predicts cluster 2 with 0.9 where an image is bright, and else no enhancement; 0.025 for each other class."""

    def forward(self, image):
        bright = image > 2
        shares = torch.full((1, CLASSES, *image.shape[2:]), 0.025)
        shares[:, 1:2], shares[:, 3:4] = torch.where(bright, 0.025, 0.9), torch.where(bright, 0.9, 0.025)
        return shares.log()


class Maps(torch.nn.Module):
    """A tumour where cluster 2 is predicted, with 0.8, else 0.1."""

    def __init__(self, see):
        super().__init__()
        self._see = see

    def forward(self, image):
        self._see(image)
        return torch.logit(torch.where(image[:, 3 + 1 : 4 + 1] > 0.5, 0.8, 0.1))


def test_the_second_network_sees_image_and_probabilities_and_draws_the_lesion(monkeypatch):
    monkeypatch.setattr(runtimes, "openvino", lambda: None)
    seen = []
    network = Maps(lambda image: seen.append(image))  # a copy of the network has the same function
    tumor = Bundle(described(NONCONTRAST, threshold=0.5), "", network)
    bundles = [Bundle(described(CLUSTERS), "", Brightness()), tumor]
    events = Events()
    found = segment_noncontrast(an_exam(), a_breast(), *bundles, CPU, None, events, Stopwatch(events))
    (image,) = seen
    assert image.shape[1] == 1 + CLASSES
    # With the margin the network sees all 16 voxels an axis: 64 bright ones of 4096.
    assert float(image[0, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert image[0, 1:, 8, 8, 8].tolist() == pytest.approx([0.025, 0.025, 0.025, 0.9, 0.025])
    cube = np.zeros(GRID.shape, bool)
    cube[6:10, 6:10, 6:10] = True
    assert (found.tumor == cube).all() and (found.predicted == 2 * cube).all() and found.clusters == 3
    (lesion,) = found.lesions
    assert lesion.volume_ml == pytest.approx(64 * 0.216) and lesion.side == "right"
    assert lesion.confidence == pytest.approx(0.8, abs=1e-3) and lesion.cluster_shares == (0, 0, 1, 0)
    # Bits of 0.8: 0.721928. Of 0.1: 0.468996, and of the classes (0.9, 4 x 0.025) / log 5: 0.288121.
    assert found.uncertainty[8, 8, 8] == pytest.approx(0.721928, abs=1e-3)
    assert found.uncertainty[4, 4, 4] == pytest.approx(0.468996, abs=1e-3)
    assert not found.uncertainty[0].any()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"spacing_mm": 2.0}, "spacing_mm is 2.0 and 6.0"),
        ({"maps_sha256": "0" * 64}, "checksum of the maps' model is 0000"),
        ({"field": "exam"}, "field is exam and breast"),
        ({"network": described(NONCONTRAST).network.model_copy(update={"in_channels": 8})}, "classes is 7 and 5"),
    ],
)
def test_models_that_do_not_fit_are_refused(models, changed, said):
    with pytest.raises(ModelError, match=said):
        load_clusters_model(Bundle(described(NONCONTRAST, **changed), "", torch.nn.Identity()))


def test_a_model_without_maps_is_refused(models):
    plain = described(CLUSTERS).model_copy(update={"task": "tumor"})
    with pytest.raises(ModelError, match="names no model that predicts clusters"):
        load_clusters_model(Bundle(plain, "", torch.nn.Identity()))


@pytest.mark.parametrize("changed", [{"task": "breast", "field": "exam"}, {"phases": ("pre", "first_post")}])
def test_maps_are_for_tumours_in_the_first_phase(changed):
    with pytest.raises(ValidationError, match="maps are for the task"):
        described(NONCONTRAST, **changed)


# The pipeline.


def test_where_there_is_no_breast_no_network_runs():
    nowhere = BreastMask(np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, bool), GRID)
    bundles = [Bundle(described(name), "", torch.nn.Identity()) for name in (CLUSTERS, NONCONTRAST)]
    events = Events()
    found = segment_noncontrast(an_exam(), nowhere, *bundles, CPU, None, events, Stopwatch(events))
    assert found.lesions == () and found.clusters == 3
    for name in ("tumor", "probability", "predicted", "uncertainty"):
        assert getattr(found, name).shape == GRID.shape and not getattr(found, name).any(), name


def test_only_the_first_phase_matters(models):
    alone, among = segment_exam(an_exam(1), NONCONTRAST, "cpu"), segment_exam(an_exam(3), NONCONTRAST, "cpu")
    assert isinstance(alone, NonContrastResult) and isinstance(among, NonContrastResult)
    for name in ("tumor", "probability", "predicted", "uncertainty"):
        assert np.array_equal(getattr(alone, name), getattr(among, name)), name
    assert alone.predicted.max() <= CLASSES - 2
    assert alone.manifest["contrast"] is False and alone.manifest["heterogeneity"] == "predicted"
    assert [model["name"] for model in alone.manifest["models"]] == ["breast", CLUSTERS, NONCONTRAST]
    assert "kinetics" not in alone.manifest
    assert list(alone.manifest["timings"]) == ["breast", "clusters", "tumor", "lesions"]


@pytest.mark.parametrize("model", [None, USUAL])
def test_one_phase_is_refused_by_models_that_need_contrast(models, model):
    with pytest.raises(InputError, match="one phase only, 'p0'") as caught:
        segment_exam(an_exam(1), model, "cpu")
    assert "--model NAME" in caught.value.remedy


# From a file to the results folder, and those who read it.


@pytest.fixture
def done(models, tmp_path):
    """The results folder of a file of one phase, and what result.json holds."""
    exam = an_exam()
    write_volume(exam.pre, GRID, tmp_path / "pre.nii.gz")
    folder = tmp_path / "CASE"
    folder.mkdir()
    segment_into(folder, [tmp_path / "pre.nii.gz"], NONCONTRAST, "cpu", Events())
    return folder, json.loads((folder / "result.json").read_text(encoding="utf-8"))


def test_the_results_folder_has_nothing_of_contrast(done):
    folder, manifest = done
    expected = {f"{name}.nii.gz" for name in FILES} | {"lesions.csv", "result.json", "report.html"}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == expected
    assert all(read_volume(folder / f"{name}.nii.gz")[1].size == GRID.size for name in FILES)
    assert manifest["contrast"] is False
    assert any("one phase only" in warning for warning in manifest["warnings"])
    report = re.sub('base64,[^"]*', "", (folder / "report.html").read_text(encoding="utf-8"))
    assert NONCONTRAST_NOTICE in report and "those after the pre-contrast one" not in report
    assert not any(word in report for word in ("SER", "FTV", "Kinetics", "Subtraction"))


def test_readers_of_results_take_it(done, models):
    folder, manifest = done
    assert model_of(folder / "tumor.nii.gz") == NONCONTRAST
    assert succeeded("CASE", manifest).lesions == len(manifest["lesions"])
    assert is_done(manifest, models_used(NONCONTRAST)) and not is_done(manifest, models_used(USUAL))


def test_lesions_are_told_with_predicted_shares(tmp_path):
    write_noncontrast_result(noncontrast_result(1), tmp_path)
    with (tmp_path / "lesions.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        **{"label": "1", "side": "right", "x_mm": "0.0", "y_mm": "0.0", "z_mm": "0.0", "volume_ml": "7.240"},
        **{"diameter_mm": "24.600", "size_category": "> 20 to <= 50 mm", "predicted_share_not_enhancing": "0.100"},
        **{"predicted_share_cluster_1": "0.200", "predicted_share_cluster_2": "0.300"},
        **{"predicted_share_cluster_3": "0.400", "predicted_share_cluster_4": "0.000", "confidence": "0.910"},
    }


# The command line.


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_one_phase_is_inspected_with_a_warning_and_segmented_by_name_only(models, tmp_path):
    write_volume(an_exam().pre, GRID, tmp_path / "pre.nii.gz")
    seen = run("inspect", tmp_path / "pre.nii.gz")
    assert seen.exit_code == 0 and "warning: There is one phase only" in seen.output
    refused = run("segment", tmp_path / "pre.nii.gz", tmp_path / "out", "--device", "cpu")
    assert refused.exit_code == 2 and "--model NAME" in refused.output
    assert not (tmp_path / "out").exists()
    for command in ("clusters", "heterogeneity"):
        mask = ["--mask", tmp_path / "pre.nii.gz"] if command == "heterogeneity" else []
        refused = run(command, tmp_path / "pre.nii.gz", tmp_path / "out", *mask)
        assert refused.exit_code == 2 and "this needs contrast" in refused.output
    arguments = ("segment", tmp_path / "pre.nii.gz", tmp_path / "out", "--model", NONCONTRAST, "--progress", "json")
    told = [json.loads(line.removeprefix(PREFIX)) for line in run(*arguments).stdout.splitlines()]
    assert (told[0]["stages"], told[-1]["event"]) == (list(NONCONTRAST_STAGES), "finished")
    stages = dict.fromkeys(event["stage"] for event in told if event["event"] == "progress")
    assert list(stages) == list(NONCONTRAST_STAGES[1:])  # a file has no headers to read


def test_models_are_listed_and_described(models):
    lines = [line.split(maxsplit=2) for line in run("models", "list").output.splitlines()]
    assert [NONCONTRAST, "tumor", f"without contrast, with maps of {CLUSTERS}"] in lines
    assert f"maps        of {CLUSTERS}" in run("models", "info", NONCONTRAST).output
    assert "clusters    3" in run("models", "info", CLUSTERS).output


def test_a_model_without_contrast_is_never_a_default(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    write_models(folder, "breast", CLUSTERS, NONCONTRAST)
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(folder))
    with pytest.raises(ModelError, match="no default model for 'tumor'"):
        default_model("tumor")
    refused = run("models", "add", folder / NONCONTRAST, "--overwrite", "--default")
    assert refused.exit_code == 3 and "never chosen unless it is named" in refused.output
    save_bundle(build_network(described(USUAL).network), described(USUAL), folder)
    assert default_model("tumor") == USUAL and not registry()[NONCONTRAST].default


def test_doctor_tells_them_apart_and_misses_their_maps(models):
    contrast = {model.name: model.contrast for model in examine().models if model.ok}
    assert contrast == {"breast": True, USUAL: True, CLUSTERS: False, NONCONTRAST: False}
    (models / CLUSTERS / "weights.safetensors").unlink()
    found = {model.name: model for model in examine().models}
    assert found[NONCONTRAST].ok is False and CLUSTERS in found[NONCONTRAST].message
