import csv
import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import write_volume
from BreastTumorSegLib.review.agreement_table import confusion_tables
from BreastTumorSegLib.review.analysis import COLUMNS, analyse, write_analysis
from BreastTumorSegLib.review.records import Change, CorrectionRecord, Exclusion, Item, Score, ScoreRecord, Study

NAN, INF = math.nan, math.inf
GOOD, ACCEPTABLE, POOR, MISSED = Score
GRID = Geometry((10, 8, 6), (1.0, 1.0, 2.0))
ITEMS = {
    "i1": Item("i1", "c1", "unet", "DUKE", "lowest"),
    "i2": Item("i2", "c2", "unet", "DUKE", "rest"),
    "i3": Item("i3", "c3", "other", "NACT"),
    "i4": Item("i4", "c4", "other", "NACT"),
    "i5": Item("i5", "c5", "other", "NACT"),
}


def scored(reader, position, item, score, repeat=False, seconds=10.0, comment=""):
    exclusion = None if score else Exclusion.ARTEFACTS
    key = f"{reader}{position}{score}{comment}"
    return ScoreRecord(key, reader, item, position, repeat, score, exclusion, comment, seconds, "2025-01-02T03:04:05Z")


def corrected(reader, position, item, change=None, sha256="", file="", seconds=60.0):
    change = change or Change(1, 1, 0.5, 0.25, 2.0, 2.25, 0.8, 4.0)
    file = file or f"{reader}-{item}.nrrd"
    key = f"{reader}{position}{file}"
    return CorrectionRecord(
        key, reader, item, position, False, file, sha256, "00", change, seconds, "2025-01-02T03:04:05Z"
    )


def study(scores=(), corrections=(), masks=Path("nowhere")):
    return Study(ITEMS, tuple(scores), tuple(corrections), masks)


ANN = [
    scored("ann", 0, "i1", POOR, seconds=5),  # replaced below
    scored("ann", 0, "i1", GOOD, seconds=20),
    scored("ann", 1, "i2", ACCEPTABLE, seconds=30),
    scored("ann", 2, "i3", POOR, seconds=40),
    scored("ann", 3, "i4", GOOD, seconds=100),
    scored("ann", 4, "i5", None, seconds=60),
    scored("ann", 5, "i1", ACCEPTABLE, repeat=True, seconds=1000),
    scored("ann", 6, "i2", ACCEPTABLE, repeat=True, seconds=1000),
]
BEA = [
    scored("bea", 0, "i4", GOOD, comment="=HYPERLINK(1)"),
    scored("bea", 1, "i3", ACCEPTABLE, comment="-1, too large"),
    scored("bea", 2, "i2", ACCEPTABLE),
    scored("bea", 3, "i1", ACCEPTABLE),
    scored("bea", 4, "i5", MISSED),
]


def agreement(found, **wanted):
    """The rows, value by statistic, that match."""
    rows = [row for row in found.agreement if all(row[name] == value for name, value in wanted.items())]
    return {row["statistic"]: row["value"] for row in rows}


def test_of_several_scores_the_last_counts():
    rows = analyse(study(ANN)).scores
    assert [(row["score"], row["counts"]) for row in rows[:3]] == [("Poor", 0), ("Good", 1), ("Acceptable", 1)]
    assert rows[1] | {"counts": 1} == {
        **{"reader": "ann", "item": "i1", "case": "c1", "model": "unet", "site": "DUKE", "stratum": "lowest"},
        **{"position": 0, "repeat": 0, "score": "Good", "exclusion": "", "comment": "", "seconds": 20},
        **{"saved_at": "2025-01-02T03:04:05Z", "counts": 1},
    }
    assert (rows[5]["score"], rows[5]["exclusion"]) == ("", "Artefacts")
    assert [row["repeat"] for row in rows] == [0, 0, 0, 0, 0, 0, 1, 1]


def test_summary_of_a_reader():
    first, other, unet = analyse(study(ANN, [corrected("ann", 0, "i1"), corrected("ann", 2, "i3")])).readers
    assert [row["model"] for row in (first, other, unet)] == ["all", "other", "unet"]
    expected = {
        **{"scored": 4, "excluded": 1, "good": 2, "acceptable": 1, "poor": 1, "missed": 0, "good_share": 0.5},
        **{"acceptable_share": 0.25, "poor_share": 0.25, "missed_share": 0.0, "repeats": 2, "corrections": 2},
        **{"seconds_median": 40.0, "seconds_mean": 50.0, "seconds_total": 250.0},  # of 20, 30, 40, 100, 60
        **{"correction_seconds_median": 60.0, "added_ml_median": 0.5, "removed_ml_median": 0.25},
    }
    assert {name: first[name] for name in expected} == expected
    assert (other["scored"], other["excluded"], other["good"], other["poor"]) == (2, 1, 1, 1)
    assert (unet["scored"], unet["repeats"], unet["seconds_total"]) == (2, 2, 50.0)


def test_a_reader_who_only_corrected_has_no_shares():
    row = analyse(study([], [corrected("cem", 0, "i1")])).readers[0]
    assert (row["scored"], row["seconds_total"], row["corrections"]) == (0, 0.0, 1)
    assert math.isnan(row["good_share"]) and math.isnan(row["seconds_median"])


def test_agreement_between_two_readers():
    """i1 Good/Acceptable, i2 Acceptable twice, i3 Poor/Acceptable, i4 Good twice; i5 is excluded by one."""
    found = analyse(study(ANN + BEA))
    assert agreement(found, kind="between", model="all") == pytest.approx(
        {
            "agreement_4": 0.5,
            "agreement_2": 0.75,
            "cohen_kappa_4": 3 / 11,  # observed disagreement 8/16, expected 11/16
            "cohen_kappa_4_quadratic": 3 / 7,  # squared steps 8/16 observed, 14/16 expected
            "cohen_kappa_2": 0.5,  # observed disagreement 1/4, expected 2/4
        }
    )
    assert {row["n"] for row in found.agreement if row["kind"] == "between" and row["model"] == "all"} == {4}
    assert agreement(found, kind="between", model="unet")["agreement_4"] == 0.5
    assert {row["n"] for row in found.agreement if row["model"] == "unet" and row["kind"] == "between"} == {2}


def test_agreement_within_a_reader_is_first_against_repeat():
    found = analyse(study(ANN + BEA))
    rows = [row for row in found.agreement if row["kind"] == "within" and row["model"] == "all"]
    assert {(row["reader_a"], row["reader_b"], row["n"]) for row in rows} == {("ann", "ann", 2)}
    # Good, Acceptable first; Acceptable twice on repeat.
    assert agreement(found, kind="within", model="all") == pytest.approx(
        {
            **{"agreement_4": 0.5, "agreement_2": 0.5, "cohen_kappa_4": 0, "cohen_kappa_4_quadratic": 0},
            **{"cohen_kappa_2": 0},
        }
    )


def test_three_readers_have_fleiss_over_what_all_scored():
    """Of i1 to i4, cem scored i1 Acceptable, i2 Acceptable, i4 Good: three items."""
    cem = [scored("cem", 0, "i1", ACCEPTABLE), scored("cem", 1, "i2", ACCEPTABLE), scored("cem", 2, "i4", GOOD)]
    found = analyse(study(ANN + BEA + cem))
    # Pairs that agree: 1/3, 1, 1, mean 7/9; shares 4/9 Good, 5/9 Acceptable, chance 41/81.
    expected = (63 - 41) / (81 - 41)
    assert agreement(found, kind="all", model="all") == pytest.approx(
        {"fleiss_kappa_4": expected, "fleiss_kappa_2": expected}
    )
    assert {row["n"] for row in found.agreement if row["kind"] == "all" and row["model"] == "all"} == {3}
    pairs = {(row["reader_a"], row["reader_b"]) for row in found.agreement if row["kind"] == "between"}
    assert pairs == {("ann", "bea"), ("ann", "cem"), ("bea", "cem")}


def test_one_reader_has_no_agreement_and_an_empty_study_no_rows():
    assert analyse(study(BEA)).agreement == []
    nothing = analyse(study())
    assert not any(getattr(nothing, name) for name in COLUMNS) and not nothing.problems


def test_who_excluded_everything_is_no_reader_of_the_group():
    excluded = [scored("dan", 0, "i1", None)]
    assert agreement(analyse(study(ANN + BEA + excluded)), kind="all") == {}


def test_confusion_table():
    tables = confusion_tables(study(ANN + BEA))
    assert list(tables) == [("ann", "bea")]
    assert tables["ann", "bea"].tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_change_by_the_score_of_the_same_reader():
    changes = [
        replace(corrected("x", 0, "i1").change, dice=dice, hd95_mm=hd95, added_ml=added)
        for dice, hd95, added in ((0.9, 2.0, 1.0), (0.5, INF, 3.0), (0.1, 9.0, 4.0), (0.7, 6.0, 2.0))
    ]
    corrections = [
        corrected("bea", 2, "i2", changes[0]),
        corrected("bea", 1, "i3", changes[1]),
        corrected("bea", 3, "i1", changes[2], file="old.nrrd"),  # replaced by the next
        corrected("bea", 3, "i1", changes[3]),
        corrected("ann", 4, "i5", changes[3]),  # ann excluded it
        corrected("cem", 0, "i1", changes[3]),  # cem scored nothing
    ]
    rows = analyse(study(ANN + BEA, corrections)).change_by_score
    assert [(row["reader"], row["score"], row["n"]) for row in rows] == [
        *[("bea", "Good", 0), ("bea", "Acceptable", 3), ("bea", "Poor", 0), ("bea", "Missed", 0)]
    ]
    acceptable = rows[1]
    assert acceptable == pytest.approx(
        {
            **{"reader": "bea", "score": "Acceptable", "n": 3},
            **{"dice_n_finite": 3, "dice_q1": 0.6, "dice_median": 0.7, "dice_q3": 0.8},
            **{"hd95_mm_n_finite": 2, "hd95_mm_q1": 3.0, "hd95_mm_median": 4.0, "hd95_mm_q3": 5.0},
            **{"added_ml_n_finite": 3, "added_ml_q1": 1.5, "added_ml_median": 2.0, "added_ml_q3": 2.5},
            **{"removed_ml_n_finite": 3, "removed_ml_q1": 0.25, "removed_ml_median": 0.25, "removed_ml_q3": 0.25},
        }
    )
    assert math.isnan(rows[0]["dice_median"])


def saved(folder, reader, position, item, slices, grid=GRID):
    """A correction whose mask fills so many columns of one slice."""
    mask = np.zeros(grid.shape, np.uint8)
    mask[2, 2:6, 2 : 2 + slices] = 1
    path = folder / f"{reader}-{item}.nrrd"
    write_volume(mask, grid, path)
    return corrected(reader, position, item, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_masks_of_two_readers(tmp_path):
    corrections = [saved(tmp_path, "ann", 0, "i1", 2), saved(tmp_path, "bea", 0, "i1", 4)]
    corrections += [saved(tmp_path, "bea", 1, "i2", 4)]  # nobody else did
    found = analyse(study([], corrections, tmp_path))
    # 8 and 16 voxels, 8 shared; the last of four columns is 2 mm from the smaller mask.
    assert found.dice_between_readers == [
        {
            **{"item": "i1", "case": "c1", "model": "unet", "reader_a": "ann", "reader_b": "bea"},
            **{"dice": pytest.approx(2 / 3), "hd95_mm": pytest.approx(2.0)},
        }
    ]
    assert found.problems == []


def test_masks_that_cannot_be_compared_are_told(tmp_path):
    damaged = tmp_path / "dan-i1.nrrd"
    damaged.write_bytes(b"no mask")
    corrections = [
        saved(tmp_path, "ann", 0, "i1", 2),
        saved(tmp_path, "bea", 0, "i1", 3, replace(GRID, spacing=(1.0, 1.0, 3.0))),
        corrected("cem", 0, "i1"),
        corrected("dan", 0, "i1", sha256=hashlib.sha256(b"no mask").hexdigest()),
        replace(saved(tmp_path, "eve", 0, "i1", 2), sha256="0" * 64),
        saved(tmp_path, "fay", 0, "i1", 2),
    ]
    found = analyse(study([], corrections, tmp_path))
    assert [(row["reader_a"], row["reader_b"], row["dice"]) for row in found.dice_between_readers] == [
        ("ann", "fay", 1.0)
    ]
    assert found.problems == [
        "Mask cem-i1.nrrd of cem, case c1, is missing.",
        "Mask dan-i1.nrrd of dan, case c1, is damaged.",
        "Mask eve-i1.nrrd of eve, case c1, is not what its checksum says.",
        "Masks of ann and bea, case c1, differ in geometry: spacing 1 x 1 x 2 mm against 1 x 1 x 3 mm.",
        "Masks of bea and fay, case c1, differ in geometry: spacing 1 x 1 x 3 mm against 1 x 1 x 2 mm.",
    ]


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_files(tmp_path):
    change = Change(1, 0, 0.5, 0.0, 2.0, 2.5, NAN, INF)
    write_analysis(study(BEA, [corrected("bea", 0, "i4", change)]), tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(COLUMNS)
    head, first, second, *_ = table(tmp_path / "scores.csv")
    assert ",".join(head) == (
        "reader,item,case,model,site,stratum,position,repeat,score,exclusion,comment,seconds,saved_at,counts"
    )
    assert first[10] == "'=HYPERLINK(1)" and second[10] == "'-1, too large"
    head, row = table(tmp_path / "corrections.csv")
    assert ",".join(head) == (
        "reader,item,case,model,site,stratum,position,repeat,voxels_added,voxels_removed,added_ml,removed_ml,"
        "automatic_ml,corrected_ml,dice,hd95_mm,file,sha256,automatic_sha256,seconds,saved_at,counts"
    )
    assert row[8:16] == ["1", "0", "0.5", "0.0", "2.0", "2.5", "", "inf"]
    assert table(tmp_path / "agreement.csv") == [
        ["kind", "reader_a", "reader_b", "model", "n", "statistic", "value", "low", "high"]
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_comment_is_a_formula(start, tmp_path):
    write_analysis(study([scored("ann", 0, "i1", GOOD, comment=f"{start}cmd")]), tmp_path)
    assert table(tmp_path / "scores.csv")[1][10] == f"'{start}cmd"
