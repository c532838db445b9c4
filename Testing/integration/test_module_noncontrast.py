"""Without contrast in the module: what is offered when, what is said before and after, what is loaded."""

import json

import numpy as np
import pytest

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import NONCONTRAST_NOTICE
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.io.result_files import write_noncontrast_result
from Testing.noncontrast_models import NONCONTRAST, write_models
from Testing.results import noncontrast_result

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

GRID = Geometry((40, 40, 8), (4.0, 4.0, 6.0))
USUAL = {"name": "usual", "task": "tumor", "ok": True, "message": "", "contrast": True}
WITHOUT = {"name": NONCONTRAST, "task": "tumor", "ok": True, "message": "", "contrast": False}


def set_exam(module, phases):
    """Phases that are loaded and not confirmed."""
    from BreastTumorSegGui import scene
    from BreastTumorSegGui.exam import row_of
    from BreastTumorSegLib.core.exam import TimeSource

    voxels = np.random.default_rng(0).integers(0, 500, (phases, *GRID.shape)).astype(np.int16)
    nodes = [scene.add_volume(phase, GRID, f"p{index}") for index, phase in enumerate(voxels)]
    rows = [row_of(node, 120.0 * index, TimeSource.ACQUISITION_TIME) for index, node in enumerate(nodes)]
    module.logic.exam.set_rows(rows)


def offered(module):
    selector = module.panels.segment.ui.modelSelector
    return [selector.itemText(index) for index in range(selector.count)]


def choose(module, index):
    """As a user does."""
    selector = module.panels.segment.ui.modelSelector
    selector.setCurrentIndex(index)
    selector._target.activated.emit(index)


def test_with_contrast_they_are_marked_and_never_chosen_by_themselves(module, desktop):
    segment = module.panels.segment
    segment.offer({"models": [WITHOUT, USUAL]})
    set_exam(module, 3)
    assert offered(module) == ["Default", "usual", f"{NONCONTRAST} (without contrast)"]
    assert segment.ui.modelSelector.currentIndex == 0 and not segment.ui.contrastLabel.visible
    choose(module, 2)
    assert segment.ui.contrastLabel.text == NONCONTRAST_NOTICE and segment.ui.contrastLabel.visible
    segment.refresh()
    assert segment.ui.modelSelector.currentIndex == 2, "it is for this exam"
    set_exam(module, 3)
    assert segment.ui.modelSelector.currentIndex == 0, "and for no other one"
    assert not segment.ui.contrastLabel.visible


def test_one_phase_is_told_confirmed_and_offered_nothing_else(module, desktop):
    segment, exam = module.panels.segment, module.panels.exam
    set_exam(module, 1)
    assert "one phase only" in exam.ui.notesLabel.text and exam.ui.notesLabel.visible
    desktop.click(exam.ui.confirmButton)
    assert not exam.ui.subtractButton.enabled and not exam.ui.compareButton.enabled
    segment.offer({"models": [USUAL]})
    assert offered(module) == []
    assert not segment.ui.runButton.enabled and "no model" in segment.ui.runButton.toolTip
    segment.offer({"models": [USUAL, WITHOUT]})
    assert offered(module) == [f"{NONCONTRAST} (without contrast)"]
    assert segment.ui.runButton.enabled and segment.ui.contrastLabel.text == NONCONTRAST_NOTICE
    assert "needs contrast" in module.panels.heterogeneity.ui.runButton.toolTip
    set_exam(module, 2)
    assert offered(module)[0] == "Default" and "one phase" not in exam.ui.notesLabel.text


def test_a_result_says_what_it_is_and_loads_predictions_by_honest_names(module, desktop, tmp_path):
    from BreastTumorSegGui import results, scene

    found = noncontrast_result(lesions=2)
    folder = tmp_path / "results" / "2026-01-01_12-00-00"
    folder.mkdir(parents=True)
    lesions = [{**vars(lesion), "size_category": lesion.size_category} for lesion in found.lesions]
    found.manifest.update(contrast=False, heterogeneity="predicted", lesions=lesions)
    write_noncontrast_result(found, folder)
    loading = results.load(folder, scene.add_volume(found.exam.pre, found.exam.geometry, "pre"))
    with pytest.raises(StopIteration) as end:
        while True:
            next(loading)
    module._on_finished(end.value.value)
    ui = module.panels.result.ui
    titles = ["Tumour probability", "Predicted clusters", "Uncertainty"]
    assert [ui.overlaySelector.itemText(index) for index in range(ui.overlaySelector.count)] == ["None", *titles]
    assert NONCONTRAST_NOTICE in ui.summaryLabel.text
    assert ui.lesionTable.rowCount == 2 and ui.lesionTable.isColumnHidden(3)
    node = results.map_of(end.value.value, "Predicted clusters")
    assert node.GetName() == "Predicted clusters 2026-01-01_12-00-00"
    assert np.array_equal(slicer.util.arrayFromVolume(node), read_volume(folder / "heterogeneity.nii.gz")[0])
    colors = node.GetDisplayNode().GetColorNode()
    assert colors.GetColorName(0) == "not predicted to enhance" and colors.GetColorName(1) == "predicted cluster 1"
    display = results.map_of(end.value.value, "Uncertainty").GetDisplayNode()
    assert display.GetLowerThreshold() == pytest.approx(0.25)


@pytest.mark.slow
def test_one_phase_is_segmented_by_a_worker(module, desktop, tmp_path, monkeypatch):
    write_models(tmp_path / "models")
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(tmp_path / "models"))
    module.panels.segment.offer({"models": [USUAL, WITHOUT]})
    set_exam(module, 1)
    desktop.click(module.panels.exam.ui.confirmButton)
    desktop.click(module.panels.segment.ui.runButton)
    desktop.wait_until(lambda: not module.panels.segment.running, 240)
    result = module.logic.exam.parameters.result
    assert result is not None, module.panels.segment.ui.messageLabel.text
    folder = module.logic.settings.results_folder / result.GetAttribute("BreastTumorSeg.Result")
    manifest = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert manifest["contrast"] is False and (folder / "uncertainty.nii.gz").is_file()
    said = [warning for warning in manifest["warnings"] if "one phase only" in warning]
    assert len(said) == 1
    assert NONCONTRAST_NOTICE in module.panels.result.ui.summaryLabel.text


def test_one_phase_under_review_has_no_subtraction(module):
    from BreastTumorSegGui.subject import Subject, pictures
    from BreastTumorSegLib.review.case import Case
    from BreastTumorSegLib.review.records import Place

    pre = np.ones(GRID.shape, np.float32)
    labels = np.zeros(GRID.shape, np.uint8)
    shown = []
    for post in (pre, 2 * pre):
        preparing = pictures(Case(pre, post, labels, "", labels, labels, GRID))
        with pytest.raises(StopIteration) as end:
            while True:
                next(preparing)
        subject = Subject(Place(0, "item"), end.value.value)
        subject.show(True)
        red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
        shown.append(red.GetBackgroundVolumeID() == subject.subtraction.GetID())
        subject.remove()
    assert shown == [False, True]
