"""The leave-one-centre-out experiment: its table by hand, and the whole of it at a tiny size."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import training_runs
from BreastTumorSegLib.core.errors import Cancelled, InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io import read_volume, write_volume
from BreastTumorSegLib.io.cohort import read_cohort
from BreastTumorSegLib.metrics.calibration import CalibrationBins
from BreastTumorSegLib.metrics.froc import Candidates
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case
from BreastTumorSegLib.phantom.sites import SITES
from BreastTumorSegLib.report.leave_one_out import write_tables
from BreastTumorSegLib.review.worklist import from_csv
from BreastTumorSegLib.training.case_results import CaseMeasures, measure_case
from BreastTumorSegLib.training.config import CohortData, LeaveOneOutConfig
from BreastTumorSegLib.training.leave_one_out import Measured, leave_one_out
from BreastTumorSegLib.training.table import table_rows
from BreastTumorSegLib.training.volumes import PreparedCohort

NAN, INF = float("nan"), float("inf")
CPU = torch.device("cpu")

# -- the table -------------------------------------------------------------------------------------------------------

CLINICAL = {
    "dice": 0.5,
    "precision": 0.4,
    "recall": 0.8,
    "hd95_mm": 3.0,
    "assd_mm": 1.0,
    "volume_ml_reference": 2.0,
    "volume_ml_predicted": 3.0,
    "volume_ml_error": 1.0,
    "volume_error_relative": 0.5,
    "lesions_reference": 1,
    "lesions_found": 1,
    "false_positives": 2,
}
MISSED = {"dice": 0.0, "precision": NAN, "recall": 0.0, "hd95_mm": INF, "assd_mm": INF, "volume_ml_predicted": 0.0}
MISSED |= {"volume_ml_error": -2.0, "volume_error_relative": 1.0, "lesions_found": 0, "false_positives": 0}


def measured(name, site, held_out="C", masking="none", challenge=0.6, **clinical):
    bins = CalibrationBins(np.array([4, 4]), np.array([0.4, 3.6]), np.array([0, 2]))
    candidates = Candidates(np.array([0.9]), np.array([0.95, 0.3]))
    values = {"dice": challenge, "norm_hd": 0.1, "performance": 0.75}
    about = CaseMeasures(name, site, masking, CLINICAL | clinical, values, bins, candidates)
    return Measured("plain", held_out, "test" if site == held_out else "validation", about)


def test_the_sets_are_those_of_the_paper():
    cases = [measured("A1", "A"), measured("B1", "B"), measured("C1", "C"), measured("A1", "A", masking="breast")]
    rows = table_rows(cases, [1.0])
    assert [(row["breast_masking"], row["set"], row["cases"]) for row in rows] == [
        ("none", "validation", 2),
        ("none", "validation A", 1),
        ("none", "validation B", 1),
        ("none", "test", 1),
        ("breast", "validation", 1),
        ("breast", "validation A", 1),
    ]
    assert {(row["variant"], row["held_out"], row["convention"]) for row in rows} == {("plain", "C", "clinical")}


def test_means_are_over_the_cases_in_which_a_measure_is_defined():
    (row,) = table_rows([measured("C1", "C"), measured("C2", "C", challenge=0.0, **MISSED)], [0.5, 1.0])
    assert (row["dice"], row["precision"], row["recall"]) == (0.25, 0.4, 0.4)
    assert (row["hd95_mm"], row["assd_mm"], row["measured"]) == (3.0, 1.0, 1)
    assert (row["true_volume_mm3"], row["predicted_volume_mm3"]) == (2000.0, 1500.0)
    assert (row["volume_error_ml"], row["volume_error_relative"]) == (-0.5, 0.75)
    assert (row["sensitivity"], row["false_positives"]) == (0.5, 1.0)
    assert (row["challenge_dice"], row["challenge_norm_hd"], row["challenge_performance"]) == (0.3, 0.1, 0.75)
    # Of 16 voxels 8 say 0.1 and none is tumour, 8 say 0.9 and half are: (8 x 0.1 + 8 x 0.4) / 16.
    assert row["calibration_error"] == pytest.approx(0.25)
    # Both lesions have 0.9; with half a false positive a case one candidate over it is allowed, and there are two.
    assert (row["sensitivity_at_0.5"], row["sensitivity_at_1"]) == (0.0, 1.0)


def test_an_interval_holds_the_mean_and_is_missing_for_one_case():
    cases = [measured(f"C{i}", "C", dice=i / 10) for i in range(11)]
    (row,) = table_rows(cases, [1.0])
    assert row["dice"] == pytest.approx(0.5) and 0.2 < row["dice_low"] < 0.4 < 0.6 < row["dice_high"] < 0.8
    (row,) = table_rows(cases[:1], [1.0])
    assert np.isnan(row["dice_low"])


def test_nothing_but_exams_without_tumour_leaves_gaps_not_errors(tmp_path):
    nothing = {"dice": NAN, "recall": NAN, "volume_ml_reference": 0.0, "volume_error_relative": NAN}
    case = measured("C1", "C", lesions_reference=0, lesions_found=0, hd95_mm=NAN, assd_mm=NAN, **nothing)
    empty = Candidates(np.array([]), np.array([]))
    case = replace(case, measures=replace(case.measures, candidates=empty))
    rows = table_rows([case], [1.0])
    write_tables(rows, tmp_path)
    assert np.isnan(rows[0]["dice"]) and "| C | test | 1 | – (– to –) |" in (tmp_path / "table1.md").read_text()


# -- one case --------------------------------------------------------------------------------------------------------


def test_a_prediction_comes_back_on_the_exams_own_grid(tmp_path):
    """A sagittal exam with thick slices: what is predicted on the network's grid must lie where the reference lies."""
    exam = simulate_exam("NACT", 101, protocol=replace(SITES["NACT"], in_plane=(3.0, 3.0), slice=(5.0, 5.0)))
    folder = tmp_path / "cohort"
    write_case(exam, folder, "NACT_S000101")
    fields = training_runs.fields(folder)["data"]
    description = ModelDescription(**training_runs.model(spacing_mm=2.0))
    prepared = PreparedCohort(read_cohort(folder), CohortData.model_validate(fields), description)
    (case,) = prepared.cohort
    label = prepared.volume_of(case).label / 255
    everything = lambda image, times, wanted: torch.logit(label.clamp(1e-6, 1 - 1e-6))[None]  # noqa: E731 - the truth itself
    none, masked = measure_case(
        case, prepared, Bundle(description, "0", torch.nn.Identity()), everything, tmp_path / "c"
    )
    assert none.clinical["dice"] > 0.9 and masked.clinical["dice"] > 0.9
    assert none.clinical["volume_ml_reference"] == pytest.approx(float(exam.tumor.sum()) * exam.geometry.voxel_ml)
    written, geometry = read_volume(tmp_path / "c" / "tumor.nii.gz")
    assert not geometry.difference(exam.geometry)
    assert (written > 0)[exam.tumor.numpy()].mean() > 0.85


def test_a_case_is_measured_anew_when_its_mask_was_corrected(cohort, tmp_path):
    description = ModelDescription(**training_runs.model())
    shutil.copytree(cohort, tmp_path / "cohort")
    data = CohortData.model_validate(training_runs.fields(tmp_path / "cohort")["data"])
    bundle, folder = Bundle(description, "0", torch.nn.Identity()), tmp_path / "case"
    asked = []

    def measured_now():
        prepared = PreparedCohort(read_cohort(tmp_path / "cohort"), data, description)
        case = prepared.cohort.cases[0]
        found = measure_case(
            case, prepared, bundle, lambda image, _times, _wanted: asked.append(1) or image[0] - 9, folder
        )
        return case, found[0].clinical["volume_ml_reference"]

    case, before = measured_now()
    assert measured_now()[1] == before and len(asked) == 1
    mask, geometry = read_volume(case.tumors[0])
    write_volume(np.ones_like(mask), geometry, case.tumors[0])
    assert measured_now()[1] > before and len(asked) == 2
    assert len(list(tmp_path.glob("case-previous-*"))) == 1


# -- the experiment --------------------------------------------------------------------------------------------------

CASES = [("DUKE", 100), ("DUKE", 101), ("DUKE", 103), ("ISPY2", 102), ("ISPY2", 103), ("ISPY2", 104)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return training_runs.write_cohort(tmp_path_factory.mktemp("experiment") / "cohort", CASES)


def config(cohort, out, **changes):
    training = training_runs.fields(cohort, epochs=2, validation={"share": 0.34})
    data = training.pop("data")
    training.pop("out")
    variants = {"plain": {}, "masked": {"model": {"field": "breast"}, "validation": {"windows": "whole"}}}
    given = {"out": out, "data": data, "training": training, "variants": variants, "review": 4}
    return LeaveOneOutConfig.model_validate(given | changes)


def test_networks_for_clusters_find_no_tumours(cohort, tmp_path):
    network = {"name": "resunet", "in_channels": 1, "out_channels": 6, "channels": [4, 8], "strides": [2], "head": 2}
    model = {"task": "clusters", "phases": ["pre"], "network": network}
    with pytest.raises(ValidationError, match="clusters finds no tumours"):
        config(cohort, tmp_path, variants={"maps": {"model": model, "loss": {"name": "dice_wce"}}})


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    settings = config(cohort, tmp_path_factory.mktemp("done") / "out")
    return settings, leave_one_out(settings, CPU, Events())


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_site_is_held_out_once_in_every_variant(done):
    settings, rows = done
    tested = {
        (row["variant"], row["held_out"], row["breast_masking"], row["cases"]) for row in rows if row["set"] == "test"
    }
    assert tested == {
        (variant, site, masking, 3)
        for variant in ("plain", "masked")
        for site in ("DUKE", "ISPY2")
        for masking in ("none", "breast")
    }
    assert len(table(settings.out / "table1.csv")) == len(rows)


def test_no_case_of_the_held_out_site_trains_or_validates(done):
    settings, _ = done
    for site in ("DUKE", "ISPY2"):
        split = table(settings.out / "plain" / site / "split.csv")
        assert {row["site"] for row in split} == {"DUKE", "ISPY2"} - {site}


def test_both_conventions_are_written_and_named(done):
    settings, _ = done
    clinical, challenge = (table(settings.out / name) for name in ("cases.csv", "cases_challenge.csv"))
    assert {row["convention"] for row in clinical} == {"clinical"} and "hd95_mm" in clinical[0]
    assert {row["convention"] for row in challenge} == {"challenge"} and "norm_hd" in challenge[0]


def test_masking_takes_away_what_lies_outside_the_breasts(done):
    settings, _ = done
    rows = table(settings.out / "cases.csv")
    volume = {(row["variant"], row["held_out"], row["case"], row["breast_masking"]): row for row in rows}
    lost = [
        float(volume[(*key, "none")]["volume_ml_predicted"]) - float(volume[(*key, "breast")]["volume_ml_predicted"])
        for key in {key[:3] for key in volume}
    ]
    assert min(lost) >= 0 and max(lost) > 0


def test_the_list_for_review_is_one_that_a_worklist_reads(done):
    settings, _ = done
    entries = from_csv(settings.out / "review.csv")
    assert {entry.item.model for entry in entries} == {
        f"{variant}-without-{site}" for variant in ("plain", "masked") for site in ("DUKE", "ISPY2")
    }
    assert {entry.item.stratum for entry in entries} == {row["stratum"] for row in table(settings.out / "review.csv")}
    assert {entry.item.stratum for entry in entries} <= {"lowest", "highest", "rest"} and "rest" in {
        entry.item.stratum for entry in entries
    }
    assert all(entry.probability.is_file() and entry.breast.is_file() for entry in entries)


def test_an_experiment_goes_on_where_it_was(done, cohort, tmp_path):
    settings = config(cohort, tmp_path / "out")
    with pytest.raises(Cancelled):
        leave_one_out(settings, CPU, _CancelAtRun(2))
    before = (settings.out / "plain" / "DUKE" / "steps.csv").stat().st_mtime_ns
    assert str(leave_one_out(settings, CPU, Events())) == str(done[1])  # text, since NaN is not itself
    assert (settings.out / "plain" / "DUKE" / "steps.csv").stat().st_mtime_ns == before


class _CancelAtRun(Events):
    def __init__(self, run):
        super().__init__()
        self._run = run

    def show(self, event):
        if event.get("stage") == "runs" and event["done"] == self._run:
            self.cancel()


def test_the_page_has_a_table_for_every_variant_and_masking(done, tmp_path):
    _, rows = done
    write_tables(rows, tmp_path)
    text = (tmp_path / "table1.md").read_text()
    assert text.count("### ") == 4 and text.count("| DUKE | test | 3 |") == 4
    assert (tmp_path / "table1.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "words"), [({"held_out": ["NACT"]}, "not NACT"), ({"held_out": ["DUKE", "UCSF"]}, "not UCSF")]
)
def test_a_site_that_is_not_there_is_told_before_any_training(cohort, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        leave_one_out(config(cohort, tmp_path / "out", **changes), CPU, Events())
    assert not (tmp_path / "out").exists()
