import csv
import math

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.metrics.evaluate import evaluate_case, evaluate_folders
from BreastTumorSegLib.metrics.summary import summarise, summarise_fairness

NAN, INF = math.nan, math.inf
GEOMETRY = Geometry((10, 10, 10), (0.5, 1.0, 2.0), (1.0, 2.0, 3.0))
CLINICAL = [
    "dice",
    "precision",
    "recall",
    "hd95_mm",
    "assd_mm",
    "volume_ml_predicted",
    "volume_ml_reference",
    "volume_ml_error",
    "volume_error_relative",
    "lesions_reference",
    "lesions_found",
    "lesions_predicted",
    "false_positives",
    "sensitivity",
]
SIZES = [
    "diameter_mm_predicted",
    "diameter_mm_reference",
    "size_category_predicted",
    "size_category_reference",
    "size_category_right",
]


def slab(z, y=slice(2, 6), x=slice(2, 6), label=1):
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[z, y, x] = label
    return mask


EMPTY = slab(slice(0))
# 64 against 32 voxels of 1 cubic millimetre, 32 in common
LARGE, SMALL = slab(slice(2, 6), label=3), slab(slice(2, 4))


def save(mask, path, geometry=GEOMETRY):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(geometry.image(mask), str(path))


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_clinical_row_worked_out_by_hand():
    row = evaluate_case(LARGE, SMALL, GEOMETRY)
    assert list(row) == CLINICAL
    assert row == pytest.approx(
        {
            "dice": 64 / 96,
            "precision": 0.5,
            "recall": 1.0,
            "hd95_mm": 4.0,  # slices 2 mm apart, two slices too many
            "assd_mm": row["assd_mm"],
            "volume_ml_predicted": 0.064,
            "volume_ml_reference": 0.032,
            "volume_ml_error": 0.032,
            "volume_error_relative": 1.0,
            "lesions_reference": 1,
            "lesions_found": 1,
            "lesions_predicted": 1,
            "false_positives": 0,
            "sensitivity": 1.0,
        }
    )
    # The large one's surface: two whole slices of 16, two rings of 12. The small one's: two whole slices of 16. From
    # the large one's third slice 12 voxels lie 2 mm off, from its fourth 16 lie 4 mm off; the small one's 4 inner
    # voxels of its second slice are 0.5 mm from the ring of the large one.
    assert row["assd_mm"] == pytest.approx((12 * 2 + 16 * 4 + 4 * 0.5) / (56 + 32))


@pytest.mark.parametrize(
    ("predicted", "actual", "overlap", "distance"),
    [(EMPTY, EMPTY, NAN, NAN), (LARGE, EMPTY, 0.0, INF), (EMPTY, LARGE, 0.0, INF), (LARGE, LARGE, 1.0, 0.0)],
)
def test_clinical_rule_of_empty_masks(predicted, actual, overlap, distance):
    row = evaluate_case(predicted, actual, GEOMETRY, "clinical")
    assert row["dice"] == pytest.approx(overlap, nan_ok=True)
    assert (row["hd95_mm"], row["assd_mm"]) == pytest.approx((distance, distance), nan_ok=True)


@pytest.mark.parametrize(
    ("predicted", "actual", "error", "relative"),
    [(SMALL, LARGE, -0.032, 0.5), (EMPTY, LARGE, -0.064, 1.0), (LARGE, EMPTY, 0.064, NAN), (EMPTY, EMPTY, 0.0, NAN)],
)
def test_error_of_volume(predicted, actual, error, relative):
    row = evaluate_case(predicted, actual, GEOMETRY)
    assert (row["volume_ml_error"], row["volume_error_relative"]) == pytest.approx((error, relative), nan_ok=True)


@pytest.mark.parametrize(
    ("predicted", "actual", "expected"),
    [
        (EMPTY, EMPTY, {"dice": 0.0, "norm_hd": 0.0, "performance": 0.5}),
        (LARGE, EMPTY, {"dice": 0.0, "norm_hd": 1.0, "performance": 0.0}),
        (LARGE, LARGE, {"dice": 1.0, "norm_hd": 0.0, "performance": 1.0}),
        (LARGE, SMALL, {"dice": 2 / 3, "norm_hd": 2 / 150, "performance": (2 / 3 + 1 - 2 / 150) / 2}),
    ],
)
def test_challenge_rows(predicted, actual, expected):
    assert evaluate_case(predicted, actual, GEOMETRY, "challenge") == pytest.approx(expected)


def test_summary_counts_finite_values_only():
    values = [("DUKE", 0.5, 4.0), ("DUKE", NAN, INF), ("ISPY1", 0.9, NAN), ("ISPY1", 0.7, 2.0)]
    rows = [{"case": "c", "site": s, "convention": "clinical", "dice": d, "hd95_mm": h} for s, d, h in values]
    shown = {(row["group"], row["column"]): (row["mean"], row["median"], row["n"]) for row in summarise(rows)}
    assert shown["all", "dice"] == (pytest.approx(0.7), pytest.approx(0.7), 3)
    assert shown["all", "hd95_mm"] == (3.0, 3.0, 2)
    assert shown["DUKE", "dice"] == (0.5, 0.5, 1)
    assert shown["ISPY1", "hd95_mm"] == (2.0, 2.0, 1)
    assert list(shown) == [(g, c) for g in ("all", "DUKE", "ISPY1") for c in ("dice", "hd95_mm")]


def test_summary_has_the_interval_of_the_mean():
    rows = [{"case": "c", "site": "s", "convention": "clinical", "dice": dice} for dice in (0.2, 0.6)]
    row = summarise(rows)[0]
    assert list(row) == ["group", "convention", "column", "mean", "low", "high", "median", "n"]
    assert [row[name] for name in ("mean", "low", "high")] == pytest.approx([0.4, 0.2, 0.6])


def test_summary_of_fairness():
    values = [("a", 0.8, 0.1), ("b", 0.6, 0.3), ("c", 0.7, 0.2)]
    rows = [
        {"case": c, "site": "s", "convention": "challenge", "dice": d, "norm_hd": h, "performance": (d + 1 - h) / 2}
        for c, d, h in values
    ]
    groups = {"a": {"age": "41-50", "breast_density": "b"}, "b": {"age": "71+", "breast_density": "b"}, "c": {}}
    shown = {(row["group"], row["column"]): (row["mean"], row["n"]) for row in summarise_fairness(rows, groups)}
    assert shown == {
        ("age 41-50", "dice"): (0.8, 1),
        ("age 41-50", "norm_hd"): (0.1, 1),
        ("age 41-50", "performance"): (pytest.approx(0.85), 1),
        ("age 71+", "dice"): (0.6, 1),
        ("age 71+", "norm_hd"): (0.3, 1),
        ("age 71+", "performance"): (pytest.approx(0.65), 1),
        ("breast_density b", "dice"): (pytest.approx(0.7), 2),
        ("breast_density b", "norm_hd"): (pytest.approx(0.2), 2),
        ("breast_density b", "performance"): (pytest.approx(0.75), 2),
        ("all", "fairness_age"): (pytest.approx(0.8), 2),  # 1 - (0.2 + 0.2) / 2
        ("all", "fairness_menopausal_status"): (pytest.approx(NAN, nan_ok=True), 0),
        ("all", "fairness_breast_density"): (pytest.approx(NAN, nan_ok=True), 2),
        ("all", "fairness"): (pytest.approx(0.8), 1),
        ("all", "rank_score"): (pytest.approx((0.75 + 0.8) / 2), 1),
    }


def test_summary_of_nothing_finite():
    row = summarise([{"case": "c", "site": "s", "convention": "clinical", "dice": NAN}])[0]
    assert (row["mean"], row["median"], row["n"]) == pytest.approx((NAN, NAN, 0), nan_ok=True)


@pytest.fixture
def cohort(tmp_path):
    """Two cases as results folders, and their references as a cohort with every ground truth."""
    for case, predicted, actual in [("DUKE_001", LARGE, SMALL), ("ISPY1_002", EMPTY, LARGE)]:
        save(predicted, tmp_path / "results" / case / "tumor.nii.gz")
        save(actual, tmp_path / "cohort" / "segmentations" / "expert" / f"{case}.nii.gz")
    save(slab(slice(0, 6)), tmp_path / "results" / "DUKE_001" / "breast.nii.gz")
    save(slab(slice(0, 10), label=2), tmp_path / "cohort" / "ground_truth" / "DUKE_001" / "breast.nii.gz")
    return tmp_path


def test_results_folders_against_a_cohort(cohort):
    rows = evaluate_folders(cohort / "results", cohort / "cohort", cohort / "out")
    assert [(row["case"], row["site"], row["convention"]) for row in rows] == [
        ("DUKE_001", "DUKE", "clinical"),
        ("ISPY1_002", "ISPY1", "clinical"),
    ]
    assert [row["dice"] for row in rows] == [pytest.approx(2 / 3), 0.0]
    assert [row["breast_dice"] for row in rows] == pytest.approx([0.75, NAN], nan_ok=True)
    assert rows[1]["hd95_mm"] == INF

    written = table(cohort / "out" / "evaluation.csv")
    assert list(written[0]) == ["case", "site", "convention", *CLINICAL, *SIZES, "breast_dice"]
    assert float(written[0]["volume_ml_predicted"]) == pytest.approx(0.064)
    # Corners 1.5, 3 and 6 mm apart; 1.5, 3 and 2 mm.
    assert float(written[0]["diameter_mm_predicted"]) == pytest.approx((2.25 + 9 + 36) ** 0.5)
    assert float(written[0]["diameter_mm_reference"]) == pytest.approx((2.25 + 9 + 4) ** 0.5)
    assert [row["size_category_right"] for row in written] == ["1.0", "0.0"]  # the second found nothing
    summary = {(row["group"], row["column"]): row for row in table(cohort / "out" / "summary.csv")}
    assert float(summary["all", "dice"]["mean"]) == pytest.approx(1 / 3)
    assert summary["all", "hd95_mm"]["n"] == "1"
    assert summary["all", "size_category_right"]["mean"] == "0.5"
    assert summary["DUKE", "breast_dice"]["median"] == "0.75"
    assert sorted(path.name for path in (cohort / "out").iterdir()) == ["evaluation.csv", "summary.csv"]


def test_the_challenge_has_its_own_columns(cohort):
    evaluate_folders(cohort / "results", cohort / "cohort", cohort / "out", "challenge")
    written = table(cohort / "out" / "evaluation.csv")
    assert list(written[0]) == ["case", "site", "convention", "dice", "norm_hd", "performance"]
    assert {row["convention"] for row in written} == {"challenge"}


def test_flat_folders_of_masks(tmp_path):
    save(SMALL, tmp_path / "a" / "NACT_7.nii.gz")
    save(SMALL, tmp_path / "b" / "NACT_7.nii.gz")
    save(SMALL, tmp_path / "b" / "not_predicted.nii.gz")
    (row,) = evaluate_folders(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    assert (row["case"], row["site"], row["dice"]) == ("NACT_7", "NACT", 1.0)
    assert math.isnan(row["breast_dice"])


def test_results_that_are_being_written_do_not_count(cohort):
    save(LARGE, cohort / "results" / ".DUKE_009.partial-1" / "tumor.nii.gz")
    assert len(evaluate_folders(cohort / "results", cohort / "cohort", cohort / "out")) == 2


def test_tables_are_not_overwritten(cohort):
    with pytest.raises(OutputError, match="results"):
        evaluate_folders(cohort / "results", cohort / "cohort", cohort / "results")
    assert (cohort / "results" / "DUKE_001" / "tumor.nii.gz").is_file()


def test_old_tables_are_kept_beside_new_ones(cohort):
    for convention in ("clinical", "challenge"):
        evaluate_folders(cohort / "results", cohort / "cohort", cohort / "out", convention, overwrite=True)
    (previous,) = cohort.glob("out-previous-*")
    assert table(previous / "evaluation.csv")[0]["convention"] == "clinical"
    assert table(cohort / "out" / "evaluation.csv")[0]["convention"] == "challenge"


@pytest.mark.parametrize("out", ["results", "cohort", "."])
def test_overwriting_moves_no_input_away(cohort, out):
    with pytest.raises(OutputError, match="is the input or holds it"):
        evaluate_folders(cohort / "results", cohort / "cohort", cohort / out, overwrite=True)
    assert (cohort / "results" / "DUKE_001" / "tumor.nii.gz").is_file()


def test_fairness_over_groups_of_a_table(cohort):
    """DUKE_001: Dice 2/3, NormHD 2/150. ISPY1_002: Dice 0, NormHD 1; so both ranges are as wide as they can be."""
    groups = cohort / "groups.csv"
    groups.write_text("case,age,menopausal_status,other\nISPY1_002,50,peri,x\nDUKE_001,51,,x\n", encoding="utf-8")
    evaluate_folders(cohort / "results", cohort / "cohort", cohort / "out", "challenge", groups)
    rows = table(cohort / "out" / "summary.csv")
    summary = {(row["group"], row["column"]): float(row["mean"]) for row in rows}
    fairness = 1 - (2 / 3 + 1 - 2 / 150) / 2
    assert summary["all", "fairness_age"] == pytest.approx(fairness)
    assert summary["all", "fairness_menopausal_status"] == pytest.approx(fairness)
    assert summary["all", "fairness"] == pytest.approx(fairness)
    assert summary["all", "rank_score"] == pytest.approx(((2 / 3 + 1 - 2 / 150) / 4 + fairness) / 2)
    assert summary["age 41-50", "norm_hd"] == summary["menopausal_status pre", "norm_hd"] == 1.0
    assert summary["menopausal_status unknown", "dice"] == pytest.approx(2 / 3)
    assert {row["convention"] for row in rows} == {"challenge"}


def test_the_command(cohort):
    groups = cohort / "groups.csv"
    groups.write_text("case,age\nISPY1_002,50\nDUKE_001,51\n", encoding="utf-8")
    arguments = ["evaluate", *(str(cohort / name) for name in ("results", "cohort", "out")), "--overwrite"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    done = CliRunner().invoke(app, [*arguments, "--convention", "challenge", "--groups", str(groups)])
    assert (done.exit_code, done.stdout.count("fairness_age"), len(list(cohort.glob("out*")))) == (0, 1, 2)


def refused(*folders, **options):
    with pytest.raises(InputError) as caught:
        evaluate_folders(*folders, **options)
    assert not folders[-1].exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("convention", "told"),
    [("challenge", "groups.csv lacks DUKE_001"), ("clinical", "Choose the convention challenge")],
)
def test_groups_that_can_not_be_used(cohort, convention, told):
    groups = cohort / "groups.csv"
    groups.write_text("case,age\nISPY1_002,50\n", encoding="utf-8")
    folders = cohort / "results", cohort / "cohort", cohort / "out"
    assert told in refused(*folders, convention=convention, groups=groups)


def test_nothing_to_evaluate_names_the_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(tmp_path / "empty", tmp_path, tmp_path / "out")


def test_a_missing_reference_is_named(cohort):
    missing = cohort / "cohort" / "segmentations" / "expert" / "DUKE_001.nii.gz"
    missing.unlink()
    assert str(missing) in refused(cohort / "results", cohort / "cohort", cohort / "out")


def test_a_difference_in_geometry_names_both_files(cohort):
    reference = cohort / "cohort" / "segmentations" / "expert" / "DUKE_001.nii.gz"
    save(SMALL, reference, Geometry((10, 10, 10), (0.5, 1.0, 2.5)))
    message = refused(cohort / "results", cohort / "cohort", cohort / "out")
    assert str(reference) in message
    assert str(cohort / "results" / "DUKE_001" / "tumor.nii.gz") in message
    assert "spacing" in message
