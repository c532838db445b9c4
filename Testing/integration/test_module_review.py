"""Readers at work in the module: they score with keys, correct with buttons, stop, crash, and come back."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.io.files import write_volume
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import CORRECTION_GUIDELINES, Exclusion, Score
from BreastTumorSegLib.review.session import store_path
from BreastTumorSegLib.review.store import Store, read_study
from BreastTumorSegLib.review.worklist import Worklist, from_results, read_worklist, write_worklist

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

GRID = Geometry((40, 36, 30), (1.5, 1.5, 2.0), (-30.0, -27.0, -29.0))
CENTRES = ((12, 14, 16), (20, 24, 28))
"""Voxels (z, y, x) of a case's large and its small lesion."""


@pytest.fixture
def pictures(tmp_path):
    """Folder for screenshots: `BTS_SCREENSHOTS`, or one of the test's own."""
    return Path(os.environ.get("BTS_SCREENSHOTS", tmp_path))


def ball(centre, radius_mm):
    distance = (np.indices(GRID.shape).T - centre) * GRID.spacing_zyx
    return ((distance**2).sum(axis=-1) <= radius_mm**2).T


def write_cases(folder, count, model="hidden-model"):
    """Cases with two enhancing balls, of which the automatic mask has the larger one, too small."""
    for number in range(count):
        name = f"SECRET_{number}"
        images, result = folder / "images" / name, folder / model / name
        result.mkdir(parents=True)
        enhancing = ball(CENTRES[0], 9.0) | ball(CENTRES[1], 5.0)
        noise = np.random.default_rng(number).integers(0, 10, GRID.shape)
        if not images.is_dir():
            images.mkdir(parents=True)
            for phase in range(3):
                voxels = (100 + noise + 200 * enhancing * (phase > 0)).astype(np.int16)
                write_volume(voxels, GRID, images / f"{name}_000{phase}.nii.gz")
        write_volume(ball(CENTRES[0], 7.0), GRID, result / "tumor.nii.gz")
        write_volume(
            np.where(ball(CENTRES[0], 9.0), 0.9, 0.1).astype(np.float32), GRID, result / "tumor_probability.nii.gz"
        )
        write_volume(np.ones(GRID.shape, np.uint8), GRID, result / "breast.nii.gz")
    return folder / model


def make_worklist(folder, count, repeats=0.0, name="study"):
    entries = from_results([write_cases(folder, count)], folder)
    write_worklist(Worklist(name, 3, repeats, tuple(entries)), folder / f"{name}.json")
    return folder / f"{name}.json"


def open_worklist(module, desktop, path, reader="ann"):
    panel = module.panels.review
    panel.ui.reviewSection.collapsed = False
    panel.ui.readerEdit.text = reader
    panel.ui.storeFolderEdit.setCurrentPath(str(path.parent / "stores"))
    desktop.answer_next(str(path))
    desktop.click(panel.ui.worklistButton)
    shown(module, desktop)


def shown(module, desktop, timeout_s=10):
    """Wait until the case is shown, or why it is not."""
    reading = module.logic.reading
    desktop.wait_until(lambda: reading.subject is not None or reading.problem or reading.session is None, timeout_s)


def open_score(module):
    module.panels.score.ui.scoreSection.collapsed = False


def open_correct(module):
    module.panels.correct.ui.correctSection.collapsed = False
    return module.panels.correct


def press(module, desktop, key):
    """Press a key with the focus in a slice view, and see the case that comes."""
    desktop.press(key, slicer.app.layoutManager().sliceWidget("Red").sliceView())
    shown(module, desktop)


def store_of(path, reader="ann"):
    return store_path(path.parent / "stores", "study", reader)


def texts(module):
    """All that the reader can read: the panels, and what nodes are called."""
    from PySide6 import QtWidgets

    panels = [module.panels.review, module.panels.score, module.panels.correct]
    widgets = [child for panel in panels for child in panel.widget._target.findChildren(QtWidgets.QWidget)]
    read = [getter() for w in widgets for getter in (getattr(w, "text", str), w.toolTip) if callable(getter)]
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    names = [text for node in nodes for text in (node.GetName(), node.GetDescription())]
    files = [node.GetFileName() for node in nodes if node.IsA("vtkMRMLStorageNode")]
    return [text for text in [*read, *names, *files] if text]


# Scoring


def test_keys_score_wherever_the_focus_is_and_the_next_case_comes(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 4)
    open_worklist(module, desktop, path)
    open_score(module)
    order = [module.logic.reading.session.entry(index).item.id for index in range(4)]
    for number, key in enumerate("1234", start=1):
        assert f"Case {number} of 4" in module.panels.review.ui.caseLabel.text
        press(module, desktop, key)
    assert module.panels.score.ui.messageLabel.text == "All cases are scored."
    study = read_study(store_of(path))
    assert [(record.item, record.score) for record in study.scores] == list(zip(order, Score, strict=True))


def test_keys_work_only_while_the_score_section_is_open_and_the_module_is_shown(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 2)
    open_worklist(module, desktop, path)
    press(module, desktop, "1")
    open_score(module)
    desktop.leave()
    press(module, desktop, "1")
    desktop.enter()
    open_correct(module)
    assert module.panels.score.ui.scoreSection.collapsed
    press(module, desktop, "1")
    assert read_study(store_of(path)).scores == ()
    open_score(module)
    press(module, desktop, "2")
    assert [record.score for record in read_study(store_of(path)).scores] == [Score.ACCEPTABLE]


def test_digits_in_a_comment_are_text_and_go_with_the_score(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 2)
    open_worklist(module, desktop, path)
    open_score(module)
    edit = module.panels.score.ui.commentEdit
    for key in "2 of 3":
        desktop.press(key.upper() if key != " " else "Space", edit)
    assert read_study(store_of(path)).scores == ()
    desktop.press("Return", edit)
    press(module, desktop, "3")
    (record,) = read_study(store_of(path)).scores
    assert (record.score, record.comment) == (Score.POOR, "2 of 3")
    assert edit.text == ""
    desktop.click(module.panels.review.ui.previousButton)
    shown(module, desktop)
    assert edit.text == "2 of 3"


def test_the_mask_is_a_red_contour_at_the_lesion_in_full_view(module, desktop, tmp_path):
    open_worklist(module, desktop, make_worklist(tmp_path / "study", 1))
    subject = module.logic.reading.subject
    display = subject.automatic.GetDisplayNode()
    (segment,) = [
        subject.automatic.GetSegmentation().GetNthSegment(i)
        for i in range(subject.automatic.GetSegmentation().GetNumberOfSegments())
    ]
    assert segment.GetColor() == (1.0, 0.0, 0.0)
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline(), display.GetVisibility()) == (0, 1, 1)
    position = (GRID.matrix @ (*reversed(CENTRES[0]), 1.0))[:3] * (-1, -1, 1)
    for name, axis in (("Red", 2), ("Yellow", 0), ("Green", 1)):
        logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
        assert logic.GetSliceNode().GetSliceToRAS().GetElement(axis, 3) == pytest.approx(position[axis], abs=1e-3)
        extent = GRID.size[0] * GRID.spacing[0], GRID.size[1] * GRID.spacing[1]
        assert max(logic.GetSliceNode().GetFieldOfView()[:2]) >= min(extent)
        assert slicer.mrmlScene.GetNodeByID(logic.GetSliceCompositeNode().GetBackgroundVolumeID()) is subject.post


def test_keys_show_subtraction_and_contour_and_it_stays_for_the_next_case(module, desktop, tmp_path):
    open_worklist(module, desktop, make_worklist(tmp_path / "study", 2))
    open_score(module)
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    desktop.scroll("Red", 4.0)
    before = red.GetSliceOffset()
    press(module, desktop, "D")
    subject = module.logic.reading.subject
    assert red.GetSliceCompositeNode().GetBackgroundVolumeID() == subject.subtraction.GetID()
    assert slicer.util.arrayFromVolume(subject.subtraction)[CENTRES[0]] == 200.0
    assert red.GetSliceOffset() == before
    press(module, desktop, "C")
    assert subject.automatic.GetDisplayNode().GetVisibility() == 0
    press(module, desktop, "N")
    subject = module.logic.reading.subject
    assert red.GetSliceCompositeNode().GetBackgroundVolumeID() == subject.subtraction.GetID()
    assert subject.automatic.GetDisplayNode().GetVisibility() == 1
    press(module, desktop, "D")
    assert red.GetSliceCompositeNode().GetBackgroundVolumeID() == subject.post.GetID()
    press(module, desktop, "P")
    assert module.logic.reading.session.index == 0


def test_a_case_is_left_out_for_a_reason(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 2)
    open_worklist(module, desktop, path)
    open_score(module)
    ui = module.panels.score.ui
    ui.exclusionSelector.setCurrentIndex(ui.exclusionSelector.findText("Artefacts"))
    desktop.click(ui.excludeButton)
    shown(module, desktop)
    (record,) = read_study(store_of(path)).scores
    assert (record.score, record.exclusion, record.position) == (None, Exclusion.ARTEFACTS, 0)
    assert module.logic.reading.session.index == 1


def test_nothing_that_can_be_read_names_case_or_model(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 3, repeats=1.0)
    for entry in read_worklist(path).entries[:2]:  # what goes wrong is told without names, too
        (entry.images / f"{entry.item.case}_0001.nii.gz").write_bytes(b"no volume" * 50)
    open_worklist(module, desktop, path)
    ids = [entry.item.id for entry in read_worklist(path).entries]
    for _case in range(len(module.logic.reading.session)):
        for begin in (lambda: open_score(module), lambda: open_correct(module)):
            begin()
            if module.logic.reading.subject is not None and open_correct(module).ui.saveButton.enabled:
                desktop.click(module.panels.correct.ui.saveButton)
            said = texts(module)
            assert [text for text in said if "SECRET" in text or "hidden-model" in text] == []
            assert [text for text in said for item in ids if item in text] == []
        desktop.click(module.panels.review.ui.nextButton) if module.panels.review.ui.nextButton.enabled else None
        shown(module, desktop)


def test_a_score_is_not_shown_again(module, desktop, tmp_path):
    """Nothing differs between a place that was scored Good and the same place scored Missed."""
    path = make_worklist(tmp_path / "study", 2)
    said = []
    for reader, key in (("ann", "1"), ("bob", "4")):
        open_worklist(module, desktop, path, reader)
        open_score(module)
        press(module, desktop, key)
        desktop.click(module.panels.review.ui.previousButton)
        shown(module, desktop)
        order = module.logic.reading.session.entry(0).item.id
        read = [re.sub(r"_\d+$", "", text) for text in texts(module) if text not in ("ann", "bob")]
        said.append((sorted(read), order))
        desktop.click(module.panels.review.ui.closeButton)
    assert said[0][0] == said[1][0]


def test_time_is_counted_while_the_reader_acts(module, desktop, tmp_path, monkeypatch):
    path = make_worklist(tmp_path / "study", 2)
    clock = [1000.0]
    from BreastTumorSegGui import reading

    monkeypatch.setattr(reading.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(desktop, "wait_until", lambda condition, _timeout=0: [desktop.spin() for _i in range(400)])
    open_worklist(module, desktop, path)
    open_score(module)
    for step, act in ((5.0, lambda: desktop.move_cursor((1.0, 2.0, 3.0))), (4.0, lambda: desktop.scroll("Red", 2.0))):
        clock[0] += step
        act()
    clock[0] += 500.0  # away for a while: twenty seconds of it count
    desktop.leave()
    clock[0] += 100.0
    desktop.enter()
    clock[0] += 3.0
    press(module, desktop, "1")
    (record,) = read_study(store_of(path)).scores
    assert record.seconds == pytest.approx(5.0 + 4.0 + 20.0 + 3.0)


def test_a_comment_stays_with_its_case(module, desktop, tmp_path):
    """Also where cases can't be shown, and where the reader goes on without a score."""
    path = make_worklist(tmp_path / "study", 3)
    for entry in read_worklist(path).entries:
        entry.mask.unlink()
    open_worklist(module, desktop, path)
    open_score(module)
    edit = module.panels.score.ui.commentEdit
    edit.text = "of the first"
    desktop.click(module.panels.score.ui.excludeButton)
    shown(module, desktop)
    assert edit.text == ""
    edit.text = "of the second"
    press(module, desktop, "N")
    assert edit.text == ""
    press(module, desktop, "P")
    assert edit.text == "of the second"
    assert [record.comment for record in read_study(store_of(path)).scores] == ["of the first"]


def test_a_double_click_scores_one_case(module, desktop, tmp_path, monkeypatch):
    from BreastTumorSegGui import panel_score

    path = make_worklist(tmp_path / "study", 3)
    open_worklist(module, desktop, path)
    open_score(module)
    desktop.wait_until(lambda: module.logic.reading._ahead._outcome is not None)
    monkeypatch.setattr(panel_score, "GLANCE_S", 60.0)
    module.logic.reading.shown_at -= 100.0
    press(module, desktop, "1")
    press(module, desktop, "1")
    assert len(read_study(store_of(path)).scores) == 1
    assert "only just come" in module.panels.score.ui.messageLabel.text


# Stopping, coming back


def test_a_reader_comes_back_to_where_he_stopped(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 4, repeats=0.5)
    open_worklist(module, desktop, path)
    open_score(module)
    order = [module.logic.reading.session.entry(index).item.id for index in range(6)]
    press(module, desktop, "1")
    press(module, desktop, "2")
    desktop.click(module.panels.review.ui.nextButton)
    shown(module, desktop)
    desktop.click(module.panels.review.ui.closeButton)
    assert module.logic.reading.session is None
    names = [slicer.mrmlScene.GetNthNode(i).GetName() or "" for i in range(slicer.mrmlScene.GetNumberOfNodes())]
    assert not [name for name in names if "Review" in name]
    open_worklist(module, desktop, path)
    session = module.logic.reading.session
    assert (session.index, session.scored) == (3, 2)
    assert [session.entry(index).item.id for index in range(6)] == order
    assert "Case 4 of 6; 2 scored" in module.panels.review.ui.caseLabel.text


def test_a_second_slicer_is_told_and_can_not_score(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 2)
    other = Store(store_of(path), "ann")
    worklist = read_worklist(path)
    other.add((entry.item for entry in worklist.entries), worklist.order("ann"), study="study")
    open_worklist(module, desktop, path)
    open_score(module)
    assert "open in another Slicer" in module.panels.review.ui.messageLabel.text
    assert not module.panels.score.ui.goodButton.enabled
    press(module, desktop, "1")
    press(module, desktop, "N")
    assert module.logic.reading.session.index == 1
    open_correct(module)
    assert not module.panels.correct.ui.saveButton.enabled
    assert other.study().scores == ()
    other.close()


def test_a_damaged_store_is_set_aside_where_the_reader_agrees(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 2)
    open_worklist(module, desktop, path)
    open_score(module)
    press(module, desktop, "1")
    desktop.click(module.panels.review.ui.closeButton)
    Store(store_of(path), "ann").close()  # the backup is of the last opening
    store_of(path).write_bytes(b"no database" * 999)
    desktop.answer_next(str(path), False)
    desktop.click(module.panels.review.ui.worklistButton)
    assert "is damaged" in module.panels.review.ui.messageLabel.text
    assert module.logic.reading.session is None
    desktop.answer_next(str(path), True)
    desktop.click(module.panels.review.ui.worklistButton)
    shown(module, desktop)
    assert module.logic.reading.session.scored == 1
    assert len(list(store_of(path).parent.glob("study-ann-damaged-*.sqlite"))) == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: write_volume(
                np.zeros((5, 6, 7), np.uint8), Geometry((7, 6, 5), (1, 1, 1)), folder / "tumor.nii.gz"
            ),
            "another grid",
        ),
        (lambda folder: (folder / "tumor.nii.gz").unlink(), "the mask"),
        (lambda folder: (folder / "tumor.nii.gz").write_bytes(b"x" * 500), "the mask"),
        (lambda folder: (folder.parents[1] / "images" / folder.name).rename(folder.parents[1] / "gone"), "the images"),
    ],
)
def test_a_case_that_can_not_be_shown_is_told_and_scoring_goes_on(module, desktop, tmp_path, spoil, said):
    path = make_worklist(tmp_path / "study", 3)
    first = read_worklist(path).order("ann")[0].item
    spoiled = next(entry for entry in read_worklist(path).entries if entry.item.id == first)
    spoil(spoiled.mask.parent)
    open_worklist(module, desktop, path)
    open_score(module)
    message = module.panels.review.ui.messageLabel.text
    assert (said in message, "SECRET" in message) == (True, False)
    assert not module.panels.score.ui.goodButton.enabled
    press(module, desktop, "1")
    assert read_study(store_of(path)).scores == ()
    desktop.click(module.panels.score.ui.excludeButton)
    shown(module, desktop)
    press(module, desktop, "1")
    assert [record.exclusion for record in read_study(store_of(path)).scores] == [Exclusion.NO_ENHANCEMENT, None]


def test_a_score_that_can_not_be_saved_stays_with_the_reader(module, desktop, tmp_path, monkeypatch):
    path = make_worklist(tmp_path / "study", 2)
    open_worklist(module, desktop, path)
    open_score(module)
    module.panels.score.ui.commentEdit.text = "long thoughts"
    database = module.logic.reading.session.store._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")  # the disk is full, for SQLite
    module.panels.score.ui.commentEdit.text = "long thoughts " * 2000
    press(module, desktop, "2")
    assert "Case 1 is not saved" in module.panels.score.ui.messageLabel.text
    assert "full" in module.panels.score.ui.messageLabel.text
    assert module.panels.score.ui.commentEdit.text == "long thoughts " * 2000
    assert module.logic.reading.session.index == 0
    database.execute("PRAGMA max_page_count = 1000000")
    press(module, desktop, "2")
    assert [record.score for record in read_study(store_of(path)).scores] == [Score.ACCEPTABLE]


@pytest.mark.parametrize(("reader", "said"), [("", "can't be used"), ("an/n", "can't be used")])
def test_a_reader_must_have_a_name(module, desktop, tmp_path, reader, said):
    path = make_worklist(tmp_path / "study", 1)
    module.panels.review.ui.reviewSection.collapsed = False
    module.panels.review.ui.readerEdit.text = reader
    module.panels.review.open_worklist(path)
    assert said in module.panels.review.ui.messageLabel.text
    assert module.logic.reading.session is None


# Correcting


def begin_correcting(module, desktop, tmp_path, count=2):
    path = make_worklist(tmp_path / "study", count)
    open_worklist(module, desktop, path)
    return path, open_correct(module)


def labels(panel):
    return panel._correction.labels


def settle(desktop, panel):
    desktop.wait_until(lambda: not panel._changes_timer.active)


def test_painting_is_seen_saved_as_a_version_and_the_automatic_mask_stays(module, desktop, tmp_path):
    path, panel = begin_correcting(module, desktop, tmp_path)
    entry = module.logic.reading.session.entry(0)
    before = sha256_of(entry.mask)
    press(module, desktop, "A")
    stroke = ball(CENTRES[0], 9.0)
    desktop.paint(panel.ui.editor, stroke)
    press(module, desktop, "E")
    erased = (slice(12, 13), slice(14, 15), slice(14, 19))
    desktop.paint(panel.ui.editor, erased)
    settle(desktop, panel)
    added = int((stroke & ~ball(CENTRES[0], 7.0)).sum())
    changes = slicer.util.getNode("Changed voxels").GetSegmentation()
    assert [changes.GetNthSegment(i).GetColor() for i in range(2)] == [(0.2, 0.9, 0.2), (1.0, 0.4, 0.75)]
    assert f"{added * GRID.voxel_ml:.2f} added, {5 * GRID.voxel_ml:.2f} removed" in panel.ui.changeLabel.text
    desktop.click(panel.ui.saveButton)
    (record,) = read_study(store_of(path)).corrections
    assert (record.change.voxels_added, record.change.voxels_removed) == (added, 5)
    saved, grid = read_volume(path.parent / "stores" / "study-ann-masks" / record.file)
    expected = stroke.astype(np.uint8)
    expected[erased] = 0
    assert (np.array_equal(saved, expected), grid.difference(GRID)) == (True, None)
    assert (record.reader, record.automatic_sha256) == ("ann", before)
    assert sha256_of(entry.mask) == before
    desktop.click(panel.ui.growButton)
    desktop.click(panel.ui.saveButton)
    assert len(read_study(store_of(path)).corrections) == 2
    assert len(list((path.parent / "stores" / "study-ann-masks").iterdir())) == 2


def click_at(module, desktop, index):
    """A left click into the axial view, at a voxel."""
    position = (GRID.matrix @ (*reversed(index), 1.0))[:3] * (-1, -1, 1)
    desktop.move_cursor(tuple(position))
    slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor().InvokeEvent("LeftButtonPressEvent")
    desktop.check()


def test_every_tool_does_its_work_and_is_undone(module, desktop, tmp_path):
    _path, panel = begin_correcting(module, desktop, tmp_path)
    ui = panel.ui
    original = labels(panel)
    small, large = ball(CENTRES[1], 5.0), ball(CENTRES[0], 9.0)
    both = original.copy()
    both[small] = 2

    def clicked(button, index):
        desktop.click(button)
        click_at(module, desktop, index)

    def threshold():
        ui.millimetreBox.value = 4.0
        ui.thresholdSlider.value = 100.0
        desktop.click(ui.thresholdButton)

    steps = [
        (
            "grow",
            lambda: desktop.click(ui.growButton),
            lambda now: (now[original > 0] == 1).all() and now.sum() > original.sum(),
        ),
        ("shrink", lambda: desktop.click(ui.shrinkButton), lambda now: 0 < now.sum() < original.sum()),
        (
            "smooth",
            lambda: desktop.click(ui.smoothButton),
            lambda now: abs(int(now.sum()) - int(original.sum())) < 0.1 * original.sum(),
        ),
        ("threshold", threshold, lambda now: np.array_equal(now > 0, large)),
        ("probability", lambda: desktop.click(ui.probabilityButton), lambda now: np.array_equal(now > 0, large)),
        ("remove", lambda: clicked(ui.removeButton, CENTRES[0]), lambda now: not now.any()),
    ]
    for name, act, is_right in steps:
        act()
        assert is_right(labels(panel)), name
        press(module, desktop, "Z")
        assert np.array_equal(labels(panel), original), name
    clicked(ui.addButton, CENTRES[1])
    assert np.array_equal(labels(panel) == 2, small)
    assert np.array_equal(labels(panel) == 1, original == 1)
    clicked(ui.keepButton, CENTRES[1])
    assert np.array_equal(labels(panel) > 0, small)
    press(module, desktop, "Ctrl+Z")
    assert np.array_equal(labels(panel) > 0, both > 0)
    press(module, desktop, "Ctrl+Y")
    assert np.array_equal(labels(panel) > 0, small)
    desktop.click(ui.restartButton)
    assert np.array_equal(labels(panel), original)


def test_fill_and_split(module, desktop, tmp_path):
    _path, panel = begin_correcting(module, desktop, tmp_path)
    whole = labels(panel)
    press(module, desktop, "E")
    desktop.paint(panel.ui.editor, tuple(slice(c, c + 1) for c in CENTRES[0]))
    desktop.click(panel.ui.fillButton)
    assert np.array_equal(labels(panel), whole)
    press(module, desktop, "A")
    other = ball((CENTRES[0][0], CENTRES[0][1], CENTRES[0][2] + 9), 6.0)
    desktop.paint(panel.ui.editor, other)
    desktop.click(panel.ui.splitButton)
    parts = labels(panel)
    assert np.array_equal(parts > 0, (whole > 0) | other)
    assert parts[CENTRES[0]] != parts[CENTRES[0][0], CENTRES[0][1], CENTRES[0][2] + 11]


def test_what_can_not_be_done_is_told_and_changes_nothing(module, desktop, tmp_path):
    _path, panel = begin_correcting(module, desktop, tmp_path)
    before = labels(panel)
    panel.ui.millimetreBox.value = 20.0
    desktop.click(panel.ui.shrinkButton)
    said = [panel.ui.messageLabel.text]
    desktop.click(panel.ui.removeButton)
    click_at(module, desktop, (2, 2, 2))
    said.append(panel.ui.messageLabel.text)
    desktop.click(panel.ui.addButton)
    click_at(module, desktop, (2, 2, 2))
    said.append(panel.ui.messageLabel.text)
    assert all(said)
    assert "no lesion where you clicked" in said[1]
    assert np.array_equal(labels(panel), before)


def test_unsaved_edits_are_autosaved_and_come_back_after_a_crash(module, desktop, tmp_path, monkeypatch):
    from BreastTumorSegGui import panel_correct

    monkeypatch.setattr(panel_correct, "AUTOSAVE_S", 0.0)
    path, panel = begin_correcting(module, desktop, tmp_path)
    press(module, desktop, "A")
    desktop.paint(panel.ui.editor, ball(CENTRES[1], 5.0))
    edited = labels(panel)
    unsaved = module.logic.reading.session.store.unsaved
    desktop.wait_until(lambda: unsaved.positions() == (0,), 10)
    crash(module)
    open_worklist(module, desktop, path)
    assert "Case 1: edits that were not saved" in module.panels.review.ui.messageLabel.text
    module.panels.correct.ui.correctSection.collapsed = True
    panel = open_correct(module)
    assert "Edits that were not saved are back" in panel.ui.messageLabel.text
    assert np.array_equal(labels(panel), edited)
    desktop.click(panel.ui.saveButton)
    assert unsaved.positions() == ()
    assert len(read_study(store_of(path)).corrections) == 1


def crash(module):
    """All that a killed Slicer leaves is its files: nothing is closed or kept on the way."""
    reading = module.logic.reading
    reading._timer.stop()
    reading._ahead.forget()
    panel = module.panels.correct
    panel._unkept = False
    panel._leave()
    reading.subject.remove()
    reading.session.store.close()
    reading.subject = reading.session = None
    module.panels.review.refresh()


@pytest.mark.parametrize("how", ["next", "close", "scene", "leave", "collapse", "quit"])
def test_edits_are_kept_however_the_reader_goes(module, desktop, tmp_path, how):
    _path, panel = begin_correcting(module, desktop, tmp_path)
    press(module, desktop, "A")
    desktop.paint(panel.ui.editor, ball(CENTRES[1], 5.0))
    edited = labels(panel)
    unsaved = module.logic.reading.session.store.unsaved
    {
        "next": lambda: desktop.click(module.panels.review.ui.nextButton),
        "close": lambda: desktop.click(module.panels.review.ui.closeButton),
        "scene": lambda: slicer.mrmlScene.Clear(0),
        "leave": desktop.leave,
        "collapse": lambda: setattr(panel.ui.correctSection, "collapsed", True),
        "quit": module.cleanup,
    }[how]()
    desktop.check()
    assert np.array_equal(unsaved.restore(0).labels, edited)


def full_disk(monkeypatch):
    """Autosaving fails."""
    from BreastTumorSegLib.core.errors import OutputError
    from BreastTumorSegLib.review.masks import Unsaved

    def fail(*_arguments):
        raise OutputError("The disk is full.", "Free space.")

    monkeypatch.setattr(Unsaved, "keep", fail)


def test_edits_that_the_disk_does_not_take_are_in_memory_and_kept_later(module, desktop, tmp_path, monkeypatch):
    from BreastTumorSegGui import panel_correct

    monkeypatch.setattr(panel_correct, "AUTOSAVE_S", 0.0)
    _path, panel = begin_correcting(module, desktop, tmp_path)
    unsaved = module.logic.reading.session.store.unsaved
    with monkeypatch.context() as disk:
        full_disk(disk)
        desktop.click(panel.ui.growButton)
        edited = labels(panel)
        desktop.click(module.panels.review.ui.nextButton)
        shown(module, desktop)
        assert unsaved.positions() == ()
        desktop.click(module.panels.review.ui.previousButton)
        shown(module, desktop)
        assert np.array_equal(labels(panel), edited)
        desktop.click(module.panels.review.ui.nextButton)
        shown(module, desktop)
    desktop.wait_until(lambda: unsaved.positions() == (0,), 10)
    assert np.array_equal(unsaved.restore(0).labels, edited)


def test_edits_that_can_not_be_restored_are_kept_aside(module, desktop, tmp_path):
    path = make_worklist(tmp_path / "study", 1)
    open_worklist(module, desktop, path)
    folder = module.logic.reading.session.store.unsaved.folder
    folder.mkdir(parents=True)
    (folder / "0.npz").write_bytes(b"torn")
    panel = open_correct(module)
    assert "0.npz is damaged" in panel.ui.messageLabel.text
    desktop.click(panel.ui.growButton)
    desktop.click(module.panels.review.ui.closeButton)
    assert (folder / "0-kept-1.npz").read_bytes() == b"torn"
    assert (folder / "0.npz").is_file()


def test_the_automatic_mask_in_memory_is_not_what_editors_write_in(module, desktop, tmp_path):
    from vtk.util.numpy_support import vtk_to_numpy

    open_worklist(module, desktop, make_worklist(tmp_path / "study", 1))
    subject = module.logic.reading.subject
    before = subject.case.automatic.copy()
    image = subject.automatic.GetBinaryLabelmapInternalRepresentation("Lesion1")
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = 7
    assert np.array_equal(subject.case.automatic, before)


def test_correcting_goes_on_from_the_saved_version(module, desktop, tmp_path):
    path, panel = begin_correcting(module, desktop, tmp_path)
    desktop.click(panel.ui.growButton)
    desktop.click(panel.ui.saveButton)
    grown = labels(panel)
    desktop.click(module.panels.review.ui.nextButton)
    shown(module, desktop)
    desktop.click(module.panels.review.ui.previousButton)
    shown(module, desktop)
    assert np.array_equal(labels(panel), grown)
    assert "saved version" in panel.ui.messageLabel.text
    (record,) = read_study(store_of(path)).corrections
    (path.parent / "stores" / "study-ann-masks" / record.file).unlink()
    desktop.click(module.panels.review.ui.nextButton)
    shown(module, desktop)
    desktop.click(module.panels.review.ui.previousButton)
    shown(module, desktop)
    assert "can't be read" in panel.ui.messageLabel.text
    assert np.array_equal(labels(panel), ball(CENTRES[0], 7.0))


def test_a_correction_that_can_not_be_saved_stays_in_the_editor(module, desktop, tmp_path, monkeypatch):
    from BreastTumorSegLib.core.errors import OutputError
    from BreastTumorSegLib.review import store as stores

    path, panel = begin_correcting(module, desktop, tmp_path)
    desktop.click(panel.ui.growButton)
    grown = labels(panel)

    def full(*_arguments):
        raise OutputError("The disk is full.", "Free space.")

    with monkeypatch.context() as disk:
        disk.setattr(stores, "write_mask", full)
        desktop.click(panel.ui.saveButton)
    assert "Not saved; your edits are still here. The disk is full." in panel.ui.messageLabel.text
    assert np.array_equal(labels(panel), grown)
    assert read_study(store_of(path)).corrections == ()
    desktop.click(panel.ui.saveButton)
    assert len(read_study(store_of(path)).corrections) == 1


def test_an_empty_mask_can_be_corrected(module, desktop, tmp_path):
    masks = write_cases(tmp_path / "study", 1)
    write_volume(np.zeros(GRID.shape, np.uint8), GRID, masks / "SECRET_0" / "tumor.nii.gz")
    path = tmp_path / "study" / "study.json"
    write_worklist(Worklist("study", 3, 0.0, tuple(from_results([masks], tmp_path / "study"))), path)
    open_worklist(module, desktop, path)
    panel = open_correct(module)
    press(module, desktop, "A")
    desktop.paint(panel.ui.editor, ball(CENTRES[1], 5.0))
    settle(desktop, panel)
    assert "one mask is empty" in panel.ui.changeLabel.text
    desktop.click(panel.ui.saveButton)
    assert read_study(store_of(path)).corrections[0].change.hd95_mm == float("inf")


def test_the_guidelines_are_at_hand(module):
    assert all(text in module.panels.correct.ui.guidelinesLabel.text for text in CORRECTION_GUIDELINES)


# The result in the scene


def test_a_result_is_scored_and_corrected_without_a_worklist(module, desktop, tmp_path):
    add_result(module, desktop, tmp_path)
    ui = module.panels.review.ui
    ui.reviewSection.collapsed = False
    ui.readerEdit.text = "ann"
    ui.storeFolderEdit.setCurrentPath(str(tmp_path / "stores"))
    desktop.click(ui.resultButton)
    shown(module, desktop)
    assert (module.logic.reading.problem, len(module.logic.reading.session)) == ("", 1)
    open_score(module)
    press(module, desktop, "2")
    panel = open_correct(module)
    desktop.click(panel.ui.growButton)
    desktop.click(panel.ui.saveButton)
    desktop.click(ui.closeButton)
    study = read_study(tmp_path / "stores" / "results-ann.sqlite")
    (item,) = study.items.values()
    assert (item.case, item.model) == ("run1", "tumor-net")
    assert [record.score for record in study.scores] == [Score.ACCEPTABLE]
    assert study.corrections[0].change.voxels_added > 0


def add_result(module, desktop, tmp_path):
    """A result of an exam in the scene, as a run leaves it."""
    from BreastTumorSegGui import results, scene
    from BreastTumorSegGui.exam import row_of
    from BreastTumorSegLib.core.exam import TimeSource

    write_cases(tmp_path / "cases", 1)
    folder = module.logic.settings.results_folder / "run1"
    folder.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cases" / "hidden-model" / "SECRET_0").rename(folder)
    models = [{"name": "tumor-net", "task": "tumor"}]
    (folder / "result.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    rows = []
    for phase in range(2):
        voxels = (100 + 200 * phase * ball(CENTRES[0], 9.0)).astype(np.int16)
        node = scene.add_volume(voxels, GRID, f"phase {phase}")
        rows.append(row_of(node, 120.0 * phase, TimeSource.USER))
    module.logic.exam.set_rows(rows)
    segmentation = scene.add_segmentation("Segmentation run1", rows[0].node)
    segmentation.SetAttribute(results.RESULT, "run1")
    module.logic.exam.parameters.result = segmentation
    desktop.spin()


def test_without_a_result_it_is_said(module, desktop):
    ui = module.panels.review.ui
    ui.reviewSection.collapsed = False
    ui.readerEdit.text = "ann"
    desktop.click(ui.resultButton)
    assert "No result is shown" in ui.messageLabel.text
