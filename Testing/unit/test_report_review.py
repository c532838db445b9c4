from dataclasses import replace

import pytest

from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.report.review import write_review
from BreastTumorSegLib.review.records import Change, Score
from Testing.unit.test_report import Page
from Testing.unit.test_review_analysis import ANN, BEA, INF, ITEMS, corrected, saved, scored, study

GOOD, ACCEPTABLE, POOR, MISSED = Score
CORRECTIONS = [corrected("bea", 1, "i3"), corrected("bea", 3, "i1", Change(1, 1, 3.0, 0.0, 0.0, 3.0, 0.0, INF))]


def page(found, tmp_path):
    write_review(found, tmp_path / "out")
    return Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))


def bars(report):
    return [value for name, value in report.attributes if name == "aria-label"]


def alts(report):
    return [image["alt"].split()[0] for image in report.images]


def test_a_study_of_two_readers(tmp_path):
    report = page(study(ANN + BEA, CORRECTIONS), tmp_path)
    assert "2 readers, 5 masks of 5 cases" in report.text
    assert "9 scores, 1 exclusion,\n2 hidden repeats, 2 corrected masks" in report.text
    assert "Not a medical device." in report.text
    assert ["ann", "4", "1", "2", "1", "1", "0", "40", "4", "0", "–", "–", "–"] in report.rows
    assert ["bea", "5", "0", "1", "3", "0", "1", "10", "1", "2", "60", "1.75", "0.12"] in report.rows
    assert bars(report)[0] == "Good 50 %, Acceptable 25 %, Poor 25 %, Missed 0 %"
    assert alts(report) == ["Kappa", "Box", "Box", "Box"]
    assert "κ = 0.39 on four classes and 0.53 on two (Garrucho et al. 2025)" in report.text


def test_agreement_is_in_its_table(tmp_path):
    rows = page(study(ANN + BEA), tmp_path).rows
    row = next(row for row in rows if row[0] == "ann and bea")
    assert [row[1], *(cell[:4] for cell in row[2:])] == ["4", "0.27", "0.43", "0.50", "0.50", "0.75"]
    # Scores of ann down, of bea across.
    assert [row[1:] for row in rows if row[:1] == ["Good"] and len(row) == 5] == [["1", "1", "0", "0"]]
    assert [row[1:] for row in rows if row[:1] == ["Poor"] and len(row) == 5] == [["0", "1", "0", "0"]]


def test_an_infinite_distance_is_counted_and_not_drawn(tmp_path):
    report = page(study(BEA, CORRECTIONS), tmp_path)
    assert "1 mask has no finite HD95" in report.text
    row = next(row for row in report.rows if row[:3] == ["bea", "Acceptable", "2"])
    assert [cell[:3] for cell in row[3:5]] == ["0.4", "4.0"]  # of .8 and 0; of 4 and infinite


def test_what_one_reader_cannot_tell_is_said(tmp_path):
    text = page(study(BEA), tmp_path).text
    assert "can't be computed: no two readers scored the same mask" in text
    assert "it needs more than two readers" in text
    assert "there are no hidden repeats with two scores" in text
    assert "can't be computed: there are no corrections" in text
    assert "nan" not in text


def test_corrections_alone(tmp_path):
    report = page(study([], CORRECTIONS), tmp_path)
    assert "There are no scores." in report.text and "nobody scored a mask and corrected it, too" in report.text
    assert alts(report) == ["Box"]  # what they added and removed


def test_an_empty_study(tmp_path):
    report = page(study(), tmp_path)
    assert (
        "0 readers, 0 masks of 0 cases" in report.text and "Nobody has scored or corrected anything yet." in report.text
    )
    assert not report.images


def test_three_readers_have_fleiss(tmp_path):
    cem = [scored("cem", 0, "i1", ACCEPTABLE), scored("cem", 1, "i2", ACCEPTABLE), scored("cem", 2, "i4", GOOD)]
    rows = page(study(ANN + BEA + cem), tmp_path).rows
    assert any(row[:2] == ["all", "3"] and row[2].startswith("0.55") for row in rows)


def test_many_pairs_are_cut_to_those_with_most_in_common(tmp_path):
    scores = [scored(f"r{k}", place, f"i{place + 1}", GOOD) for k in range(6) for place in range(5 if k < 5 else 1)]
    report = page(study(scores), tmp_path)
    assert "Shown are the 12 of 15 pairs" in report.text
    labels = [row[0] for row in report.rows if len(row) == 7 and " and " in row[0]]
    assert len([label for label in labels if not label.startswith("Reader")]) == 12 and "r0 and r1" in labels


def test_no_dates_no_comments_and_everything_escaped(tmp_path):
    scores = [replace(record, reader="<b>$x$", comment="Jane Doe") for record in BEA]
    report = page(study(scores, [replace(record, reader="<b>$x$") for record in CORRECTIONS]), tmp_path)
    assert "2025-01" not in report.text and "Doe" not in report.text
    assert "<b>$x$" in report.text


def test_it_needs_nothing_else(tmp_path):
    report = page(study(ANN + BEA, CORRECTIONS), tmp_path)
    links = [value for name, value in report.attributes if name in ("src", "href")]
    assert links and all(link.startswith("data:") for link in links)
    assert "script" not in report.tags


def test_problems_are_told_and_returned(tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    found = study([], [saved(masks, "ann", 0, "i1", 2), corrected("bea", 0, "i1")], masks)
    sentence = "Mask bea-i1.nrrd of bea, case c1, is missing."
    assert write_review(found, tmp_path / "out") == [sentence]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert sentence in text and str(tmp_path) not in text


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_review(study(BEA), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_one_model_has_no_rows_of_its_own(tmp_path):
    only = replace(study(BEA), items={name: replace(item, model="unet") for name, item in ITEMS.items()})
    report = page(only, tmp_path)
    assert "model: unet." in report.text
    assert not any(row[:1] == ["unet"] for row in report.rows)
