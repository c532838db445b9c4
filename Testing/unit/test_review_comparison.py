"""Automatic, hand-drawn and corrected masks against agreed ones: every number worked out by hand."""

import csv
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.errors import Cancelled, InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import write_volume
from BreastTumorSegLib.io.raw import run_through
from BreastTumorSegLib.report.comparison import write_comparison
from BreastTumorSegLib.review.case import read_case
from BreastTumorSegLib.review.comparison import compare_readers
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import FROM_SCRATCH, Change, Item, Place
from BreastTumorSegLib.review.store import Store
from BreastTumorSegLib.review.worklist import Entry, Worklist, from_results, item_id, read_worklist, write_worklist
from Testing.unit.test_report import Page
from Testing.unit.test_review_worklist import write_case

NAN, INF = math.nan, math.inf
GRID = Geometry((10, 8, 6), (1.0, 1.0, 2.0))
OTHER = Geometry((10, 8, 6), (1.0, 1.0, 3.0))
NOTHING = Change(0, 0, 0.0, 0.0, 0.0, 0.0, NAN, NAN)


def columns(count):
    """So many columns of four voxels in one slice; the agreed mask has four columns, 16 voxels of 0.002 ml."""
    mask = np.zeros(GRID.shape, np.uint8)
    mask[2, 2:6, 2 : 2 + count] = 1
    return mask


def save(count, path, grid=GRID):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(columns(count), grid, path)
    return path


def listed(folder, case, model, count):
    """An entry of a worklist with its mask."""
    mask = save(count, folder / model / case / "tumor.nii.gz")
    return Entry(Item(item_id(case, model, sha256_of(mask)), case, model), folder / "images" / case, mask)


class Work:
    """Two cases; a model's masks, and the store of a reader who drew both from scratch and corrected both."""

    def __init__(self, folder):
        self.folder = folder
        self.references = folder / "agreed"
        for case in ("c1", "c2"):
            save(4, self.references / f"{case}.nii.gz")
        self.automatic = [listed(folder, "c1", "net", 2), listed(folder, "c2", "net", 1)]
        self.empty = [listed(folder, case, FROM_SCRATCH, 0) for case in ("c1", "c2")]
        timings = {"models": [], "timings": {"breast": 10.0, "tumor": 50.0}}
        (folder / "net" / "c1" / "result.json").write_text(json.dumps(timings), encoding="utf-8")
        self.store = Store(folder / "pilot-ann.sqlite", "ann")
        self.store.add((entry.item for entry in self.automatic + self.empty), ())
        for position, (entry, count, seconds) in enumerate(
            [(self.empty[0], 3, 600), (self.empty[1], 2, 300), (self.automatic[0], 4, 60), (self.automatic[1], 3, 120)]
        ):
            self.draw(position, entry, count, seconds)

    def draw(self, position, entry, count, seconds, grid=GRID):
        place = Place(position, entry.item.id)
        return self.store.save_correction(place, columns(count), grid, "00", NOTHING, seconds)

    def compare(self, events=None):
        return compare_readers(self.store.study(), self.automatic + self.empty, self.references, events)


@pytest.fixture
def work(tmp_path):
    made = Work(tmp_path)
    yield made
    made.store.close()


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def statistics(rows, measure, **wanted):
    (row,) = [r for r in rows if r["measure"] == measure and all(r[name] == value for name, value in wanted.items())]
    return [row[name] for name in ("cases", "n", "mean", "low", "high", "median")]


def test_a_row_a_mask(work):
    rows = work.compare().cases
    assert [(row["case"], row["reader"], row["kind"], row["model"]) for row in rows] == [
        (case, *group)
        for case in ("c1", "c2")
        for group in (("", "automatic", "net"), ("ann", "corrected", "net"), ("ann", "manual", ""))
    ]
    # 8 of 16 voxels: the two columns that are missing lie 1 and 2 mm off.
    assert {name: rows[0][name] for name in ("dice", "recall", "hd95_mm", "assd_mm", "volume_ml_error", "minutes")} == (
        pytest.approx(
            {
                **{"dice": 2 / 3, "recall": 0.5, "hd95_mm": 2.0, "assd_mm": (4 * 1 + 4 * 2) / (16 + 8)},
                **{"volume_ml_error": -0.016, "minutes": 1.0},  # 60 s
            }
        )
    )
    # Four columns reach 3 mm along x and y.
    assert (rows[0]["diameter_mm_reference"], rows[0]["size_category_right"]) == (pytest.approx(18**0.5), 1.0)
    assert math.isnan(rows[3]["minutes"])  # nothing says how long the job took


def test_groups(work):
    rows = work.compare().comparison
    groups = list(dict.fromkeys((row["reader"], row["kind"], row["model"]) for row in rows))
    assert groups == [("", "automatic", "net"), ("ann", "manual", ""), ("ann", "corrected", "net")]
    assert statistics(rows, "dice", kind="automatic") == pytest.approx([2, 2, 8 / 15, 0.4, 2 / 3, 8 / 15])
    assert statistics(rows, "dice", kind="manual") == pytest.approx([2, 2, 16 / 21, 2 / 3, 6 / 7, 16 / 21])
    assert statistics(rows, "dice", kind="corrected") == pytest.approx([2, 2, 13 / 14, 6 / 7, 1.0, 13 / 14])
    assert statistics(rows, "recall", kind="corrected") == pytest.approx([2, 2, 0.875, 0.75, 1.0, 0.875])
    assert statistics(rows, "minutes", kind="manual") == [2, 2, 7.5, 5.0, 10.0, 7.5]
    assert statistics(rows, "minutes", kind="automatic") == pytest.approx([2, 1, 1.0, NAN, NAN, 1.0], nan_ok=True)


def test_differences_are_of_the_same_case(work):
    rows = work.compare().differences
    assert list(dict.fromkeys((row["reader"], row["model"], row["first"], row["second"]) for row in rows)) == [
        ("ann", "net", "manual", "automatic"),
        ("ann", "net", "corrected", "automatic"),
        ("ann", "net", "corrected", "manual"),
    ]
    drawn = {"first": "corrected", "second": "manual"}
    # 1 against 6/7, and 6/7 against 2/3
    assert statistics(rows, "dice", **drawn) == pytest.approx([2, 2, 1 / 6, 1 / 7, 4 / 21, 1 / 6])
    assert statistics(rows, "minutes", **drawn) == [2, 2, -6.0, -9.0, -3.0, -6.0]
    of_one = statistics(rows, "minutes", first="corrected", second="automatic")
    assert of_one == pytest.approx([2, 1, 0.0, NAN, NAN, 0.0], nan_ok=True)


def test_readers_and_models_are_not_mixed(work):
    """Another reader corrected another model's mask of the first case only."""
    other = listed(work.folder, "c1", "other", 1)
    work.automatic.append(other)
    with_bob = Store(work.folder / "pilot-bob.sqlite", "bob")
    with_bob.add([other.item], ())
    with_bob.save_correction(Place(0, other.item.id), columns(2), GRID, "00", NOTHING, 30)
    study = with_bob.study()
    with_bob.close()
    rows = compare_readers(study, work.automatic, work.references).differences
    assert {(row["reader"], row["model"], row["first"], row["second"]) for row in rows} == {
        ("bob", "other", "corrected", "automatic")
    }
    assert statistics(rows, "dice")[:3] == pytest.approx([1, 1, 2 / 3 - 0.4])


def test_the_last_version_counts_and_a_miss_is_infinitely_far(work):
    work.draw(2, work.automatic[0], 0, 90)  # removed all
    row = work.compare().cases[1]
    assert (row["kind"], row["dice"], row["hd95_mm"], row["minutes"]) == ("corrected", 0.0, INF, 1.5)
    assert (row["size_category_predicted"], row["size_category_right"]) == ("", 0.0)
    distances = statistics(work.compare().comparison, "hd95_mm", kind="corrected")
    assert distances[:3] == [2, 1, 1.0]  # of the other case, whose last column is missing


def test_what_cannot_be_compared_is_told_and_the_rest_goes_on(work):
    stray = listed(work.folder, "c3", "net", 2)
    work.automatic.append(stray)
    save(3, work.automatic[0].mask)
    record = work.draw(1, work.empty[1], 2, 60, OTHER)
    gone = work.draw(3, work.automatic[1], 2, 60)
    (work.store.masks / gone.file).unlink()
    found = work.compare()
    assert found.problems == [
        "The automatic mask of net, case c1, is not what its checksum says.",
        f"Mask {gone.file} of ann, case c2, is missing.",
        f"Mask {record.file} of ann, case c2, differs from the reference in geometry: "
        "spacing 1 x 1 x 3 mm against 1 x 1 x 2 mm.",
        "The reference of case c3 is missing.",
    ]
    assert [(row["case"], row["kind"]) for row in found.cases] == [
        *[("c1", "corrected"), ("c1", "manual"), ("c2", "automatic")]
    ]


def test_nothing_to_compare_is_an_error(work, tmp_path):
    with pytest.raises(
        InputError, match=r"No mask can be compared with .*nowhere\. The reference of case c1 is missing"
    ):
        write_comparison(work.store.study(), work.automatic, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cancelled_in_the_middle_leaves_nothing(work, tmp_path):
    class Impatient(Events):
        def progress(self, stage, done, total, **facts):
            self.cancel() if done else None
            super().progress(stage, done, total, **facts)

    with pytest.raises(Cancelled):
        write_comparison(work.store.study(), work.automatic, work.references, tmp_path / "out", Impatient())
    assert not (tmp_path / "out").exists()


def test_the_page(work, tmp_path):
    out = tmp_path / "out"
    assert write_comparison(work.store.study(), work.automatic, work.references, out) == []
    assert sorted(path.name for path in out.iterdir()) == [
        *["cases.csv", "comparison.csv", "comparison.html", "differences.csv"]
    ]
    page = Page((out / "comparison.html").read_text(encoding="utf-8"))
    assert "1 reader, 1 model, 2 cases" in page.text and "Not a medical device." in page.text
    shown = {row[0]: row[1:] for row in page.rows}
    assert shown["ann, net, corrected"][:3] == ["2", "0.9290.857 to 1.000", "0.8750.750 to 1.000"]
    assert shown["ann, net, corrected"][6:] == ["1.001.00 to 1.00", "1.51.0 to 2.0", "1.51.0 to 2.0"]
    assert shown["net, automatic"][7:] == ["1.0", "1.0"]
    assert shown["ann, net: corrected minus from scratch"][-1] == "better, faster"
    assert shown["ann, net: corrected minus automatic"][-1] == "better, not shown to be slower or faster"
    assert len(page.images) == 1 and page.images[0]["src"].startswith("data:")
    assert "202" not in page.text.replace("2023", "").replace("2000", "")  # no dates


def test_without_pairs_and_times_there_are_tables_all_the_same(work, tmp_path):
    out = tmp_path / "out"
    nobody = Store(tmp_path / "pilot-zoe.sqlite", "zoe")
    study = nobody.study()
    nobody.close()
    write_comparison(study, work.automatic[1:], work.references, out)
    page = Page((out / "comparison.html").read_text(encoding="utf-8"))
    assert not page.images and "not in the figure: net, automatic" in page.text and "can't be computed" in page.text
    assert table(out / "differences.csv") == [] and (out / "differences.csv").read_text().startswith("reader,model,")
    assert table(out / "cases.csv")[0]["minutes"] == ""


def invoke(*arguments):
    return CliRunner().invoke(app, ["review", *map(str, arguments)])


def test_the_command(work, tmp_path):
    worklist, out = tmp_path / "lists" / "pilot.json", tmp_path / "out"
    write_worklist(Worklist("pilot", 0, 0.0, tuple(work.automatic)), worklist)
    arguments = ["compare", work.store.path, work.references, out, "--worklist", worklist]
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (0, f"{out / 'comparison.html'}\n"), done.output
    assert "compare" in done.stderr
    assert len(table(out / "cases.csv")) == 6
    again = invoke(*arguments)
    assert again.exit_code == 2 and "already there" in again.output
    few = invoke("compare", work.store.path, out, "--worklist", worklist)
    assert few.exit_code == 2 and "Only 2 paths are given" in few.output
    events = invoke(*arguments[:3], tmp_path / "other", *arguments[4:], "--progress", "json").stdout.splitlines()
    assert json.loads(events[-1].removeprefix("@bts "))["event"] == "finished"


def test_a_worklist_to_draw_from_scratch(tmp_path):
    """Two models' masks of two exams: each exam once, an empty mask on its grid, and nothing that would help."""
    cohort = tmp_path / "cohort"
    for model in ("net", "other"):
        for case in ("A_1", "B_2"):
            write_case(cohort, case, model=model)
    done = invoke(
        *["worklist", cohort / "net", cohort / "other", tmp_path / "scratch.json"],
        *["--images", cohort, "--repeats", 0, "--from-scratch"],
    )
    assert done.exit_code == 0, done.output
    entries = read_worklist(tmp_path / "scratch.json").entries
    assert sorted((e.item.case, e.item.model, e.item.site) for e in entries) == [
        *[("A_1", FROM_SCRATCH, "A"), ("B_2", FROM_SCRATCH, "B")]
    ]
    assert {entry.probability for entry in entries} == {None}
    for entry in entries:
        assert entry.mask.parent == tmp_path / "scratch-empty" and entry.item.case not in entry.mask.name
        labels = run_through(read_case(entry)).automatic
        assert labels.shape == (6, 7, 8) and not labels.any()
    with_masks = from_results([cohort / "net"], cohort)
    assert not {entry.item.id for entry in entries} & {entry.item.id for entry in with_masks}
