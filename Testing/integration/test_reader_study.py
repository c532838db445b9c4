"""A whole reader study through the panels, and a long worklist that stays quick."""

import csv
import gc
import statistics
import time
from collections import Counter

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa
from typer.testing import CliRunner

from BreastTumorSegLib.cli import app
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.files import write_volume
from BreastTumorSegLib.phantom.simulate import simulate_exam, write_case
from BreastTumorSegLib.review.records import Score
from BreastTumorSegLib.review.session import store_path
from BreastTumorSegLib.review.store import read_study

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

READERS = ("ann", "bob", "cleo")
CODES = {score.value: number for number, score in enumerate(Score)}


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def show(module, desktop):
    reading = module.logic.reading
    desktop.wait_until(lambda: reading.subject is not None or reading.problem or reading.session is None, 20)
    assert reading.problem == ""


def press(module, desktop, key):
    desktop.press(key, slicer.app.layoutManager().sliceWidget("Red").sliceView())
    show(module, desktop)


def open_worklist(module, desktop, path, reader, stores):
    ui = module.panels.review.ui
    ui.reviewSection.collapsed = False
    ui.readerEdit.text = reader
    ui.storeFolderEdit.setCurrentPath(str(stores))
    desktop.answer_next(str(path))
    desktop.click(ui.worklistButton)
    show(module, desktop)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Ten simulated exams, and masks of two models: one cuts the lesions too small, one too large or misses them."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed in range(100, 110):
        case = f"DUKE_S{seed}"
        exam = simulate_exam("DUKE", seed, 4.0, phases=3)
        write_case(exam, folder, case)
        truth = np.asarray(exam.tumor) > 0
        small = sitk.GetArrayFromImage(sitk.BinaryErode(sitk.GetImageFromArray(truth.astype(np.uint8)), (1, 1, 1)))
        large = sitk.GetArrayFromImage(sitk.BinaryDilate(sitk.GetImageFromArray(truth.astype(np.uint8)), (2, 2, 2)))
        for model, mask in (("small", small), ("large", np.roll(large, 25, 2) if seed % 5 == 0 else large)):
            (folder / model / case).mkdir(parents=True)
            write_volume(mask, exam.geometry, folder / model / case / "tumor.nii.gz")
    return folder


def verdict(reader, item, repeat):
    """What a scripted reader thinks: something of the mask, something of the reader, and at times another mind."""
    chance = np.random.default_rng([READERS.index(reader), *item.encode(), int(repeat)])
    common = np.random.default_rng(list(item.encode())).integers(0, 4)
    return list(Score)[common if chance.random() < 0.7 else chance.integers(0, 4)]


def read(module, desktop, reader, worklist, stores, stop_after):
    """Score and correct; stop in the middle and come back."""
    open_worklist(module, desktop, worklist, reader, stores)
    module.panels.score.ui.scoreSection.collapsed = False
    seen, given = [], {}
    while (session := module.logic.reading.session).next_open() is not None or not seen:
        place = session.place
        seen.append(place)
        score = verdict(reader, place.item, place.repeat)
        if place.position == 2:
            correct(module, desktop)
        given[place.position] = score
        press(module, desktop, str(CODES[score.value] + 1))
        if len(seen) == stop_after:
            desktop.click(module.panels.review.ui.closeButton)
            open_worklist(module, desktop, worklist, reader, stores)
            module.panels.score.ui.scoreSection.collapsed = False
    desktop.click(module.panels.review.ui.closeButton)
    return seen, given


def correct(module, desktop):
    panel = module.panels.correct
    panel.ui.correctSection.collapsed = False
    panel.ui.millimetreBox.value = 4.0
    desktop.click(panel.ui.growButton)
    desktop.click(panel.ui.saveButton)
    module.panels.score.ui.scoreSection.collapsed = False


def test_three_readers_and_an_analysis_that_others_agree_with(module, desktop, cohort, tmp_path):
    worklist, stores = tmp_path / "worklist.json", tmp_path / "stores"
    run(
        "review",
        "worklist",
        cohort / "small",
        cohort / "large",
        worklist,
        "--images",
        cohort,
        "--repeats",
        "0.3",
        "--name",
        "pilot",
    )
    found = {reader: read(module, desktop, reader, worklist, stores, stop_after=7) for reader in READERS}
    orders = {reader: [place.item for place in seen] for reader, (seen, _given) in found.items()}
    assert len({tuple(order) for order in orders.values()}) == 3
    for reader, (seen, given) in found.items():
        assert [place.position for place in seen] == list(range(26))
        assert sum(place.repeat for place in seen) == 6
        assert set(Counter(orders[reader]).values()) == {1, 2}
        study = read_study(store_path(stores, "pilot", reader))
        assert {record.position: record.score for record in study.scores} == given
    files = [store_path(stores, "pilot", reader) for reader in READERS]
    merged = tmp_path / "merged.sqlite"
    assert run("review", "merge", *files, merged) == run("review", "merge", *files, files[0], merged)
    run("review", "analyse", merged, tmp_path / "analysis")
    check_agreement(tmp_path / "analysis", found)
    for name in ("report.html", "scores.csv", "corrections.csv", "change_by_score.csv", "dice_between_readers.csv"):
        assert (tmp_path / "analysis" / name).stat().st_size > 0
    assert len(rows(tmp_path / "analysis" / "scores.csv")) == 3 * 26
    assert len(rows(tmp_path / "analysis" / "corrections.csv")) == 3


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_agreement(folder, found):
    """The table's kappas against scikit-learn's and statsmodels', from what the scripted readers gave."""
    table = rows(folder / "agreement.csv")
    first = {
        reader: {p.item: CODES[given[p.position].value] for p in seen if not p.repeat}
        for reader, (seen, given) in found.items()
    }
    items = sorted(first["ann"])
    for a, b in (("ann", "bob"), ("ann", "cleo"), ("bob", "cleo")):
        one, other = ([first[reader][item] for item in items] for reader in (a, b))
        check_pair(table, {"kind": "between", "reader_a": a, "reader_b": b}, one, other)
    for reader, (seen, given) in found.items():
        again = {p.item: CODES[given[p.position].value] for p in seen if p.repeat}
        pair = [first[reader][item] for item in again], list(again.values())
        check_pair(table, {"kind": "within", "reader_a": reader}, *pair)
    counts, _categories = aggregate_raters(np.array([[first[reader][item] for reader in READERS] for item in items]))
    assert value(table, {"statistic": "fleiss_kappa_4"}) == pytest.approx(fleiss_kappa(counts), abs=1e-6)


def check_pair(table, key, one, other):
    for statistic, weights in (("cohen_kappa_4", None), ("cohen_kappa_4_quadratic", "quadratic")):
        expected = cohen_kappa_score(one, other, weights=weights, labels=range(4))
        assert value(table, key | {"statistic": statistic}) == pytest.approx(expected, abs=1e-6)
    square = np.zeros((4, 4))
    np.add.at(square, (one, other), 1)
    assert value(table, key | {"statistic": "cohen_kappa_4"}) == pytest.approx(cohens_kappa(square).kappa, abs=1e-6)
    two = [[code > 0 for code in codes] for codes in (one, other)]
    expected = cohen_kappa_score(*two)
    assert value(table, key | {"statistic": "cohen_kappa_2"}) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def value(table, key):
    (row,) = [row for row in table if row["model"] == "all" and all(row[name] == text for name, text in key.items())]
    return float(row["value"] or "nan")


@pytest.fixture(scope="module")
def long_worklist(tmp_path_factory):
    """500 masks on four exams of 256 x 256 x 80 voxels and three phases."""
    folder = tmp_path_factory.mktemp("long")
    grid = Geometry((256, 256, 80), (1.2, 1.2, 2.0))
    random = np.random.default_rng(1)
    noise = random.integers(0, 300, grid.shape).astype(np.int16)
    for exam in range(4):
        images = folder / "images" / f"E_{exam}"
        images.mkdir(parents=True)
        for phase in range(3):
            write_volume(noise + np.int16(100 * phase + exam), grid, images / f"E_{exam}_000{phase}.nii.gz")
    masks = []
    for variant in range(10):
        mask = np.zeros(grid.shape, np.uint8)
        mask[30:45, 100 : 110 + variant, 60:90] = 1
        masks.append(folder / f"mask{variant}.nii.gz")
        write_volume(mask, grid, masks[-1])
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "images", "mask"])
        writer.writerows([f"C{index}", f"images/E_{index % 4}", masks[index % 10].name] for index in range(500))
    run("review", "worklist", folder / "list.csv", folder / "long.json", "--name", "long", "--repeats", "0")
    return folder / "long.json"


def test_a_long_worklist_stays_quick_and_needs_no_more_memory(
    module, desktop, long_worklist, tmp_path, record_property
):
    """A hundred cases, as fast as keys can be pressed: the median is what a hurried reader waits for."""
    open_worklist(module, desktop, long_worklist, "ann", tmp_path)
    module.panels.score.ui.scoreSection.collapsed = False
    waits, memory = [], []
    for index in range(100):
        start = time.monotonic()
        press(module, desktop, str(index % 4 + 1))
        waits.append(time.monotonic() - start)
        gc.collect()
        memory.append(psutil.Process().memory_info().rss / 2**20)
    assert len(module.logic.reading.session) == 500
    assert module.logic.reading.session.scored == 100
    record_property("waits", f"median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s")
    record_property("memory", f"{memory[20]:.0f} to {memory[-1]:.0f} MiB")
    assert statistics.median(waits) < 1.0
    one_case = 256 * 256 * 80 * (2 + 2 + 4 + 1) / 2**20
    assert max(memory[50:]) - max(memory[10:50]) < one_case


def test_the_next_case_is_there_when_it_is_asked_for(module, desktop, long_worklist, tmp_path):
    """A reader who looks for a second finds the next case loaded."""
    open_worklist(module, desktop, long_worklist, "bob", tmp_path)
    module.panels.score.ui.scoreSection.collapsed = False
    waits = []
    for _case in range(5):
        desktop.wait_until(lambda: module.logic.reading._ahead._outcome is not None, 10)
        start = time.monotonic()
        press(module, desktop, "2")
        waits.append(time.monotonic() - start)
    assert max(waits) < 1.0
