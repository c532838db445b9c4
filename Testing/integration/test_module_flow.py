"""The radiologist's flow in the module, by its buttons: load, confirm, run a real worker, see the result."""

import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.errors import OutputError

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

TIMEOUT_S = 240


def load(module, desktop, *paths):
    """Load as the dialogs would."""
    module.panels.exam.load(module.logic.sources.from_files(paths))
    desktop.wait_until(lambda: not module.panels.exam.busy, 60)


def load_and_confirm(module, desktop, case):
    load(module, desktop, case)
    desktop.click(module.panels.exam.ui.confirmButton)


def start(module, desktop, until=""):
    """Press Run, and wait until a stage is told."""
    desktop.click(module.panels.segment.ui.runButton)
    if until:
        desktop.wait_until(lambda: until in module.panels.segment.ui.logText.plainText, TIMEOUT_S)


def finish(module, desktop):
    desktop.wait_until(lambda: not module.panels.segment.running, TIMEOUT_S)
    return module.logic.exam.parameters.result


def said(module):
    return module.panels.segment.ui.messageLabel.text


def workers():
    """Processes of the library, wherever in the tree they are."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "BreastTumorSegLib" in process.cmdline()
    ]


def wait_for_no_worker(within_s):
    end = time.monotonic() + within_s
    while workers() and time.monotonic() < end:
        time.sleep(0.02)
    assert workers() == []


def node_names():
    scene = slicer.mrmlScene
    return sorted(scene.GetNthNode(index).GetName() or "" for index in range(scene.GetNumberOfNodes()))


def results_of(module):
    """What lies in the results folder, but for logs."""
    folder = module.logic.settings.results_folder
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".log") if folder.is_dir() else []


def scratch_folders():
    return sorted(Path(slicer.app.temporaryPath).iterdir())


def ras_of(volume, index):
    """RAS of a voxel (i, j, k), by MRML."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array(matrix.MultiplyPoint((*map(float, index), 1.0))[:3])


def test_the_whole_flow(module, desktop, case):
    ui = module.panels.segment.ui
    assert not ui.runButton.enabled
    assert "Load the phases" in ui.runButton.toolTip
    load(module, desktop, case)
    assert not ui.runButton.enabled
    assert "Confirm" in ui.runButton.toolTip
    desktop.click(module.panels.exam.ui.confirmButton)

    from desktop import Heartbeat

    with Heartbeat() as heartbeat:
        start(module, desktop, until="Finding lesions")
        assert 0 < ui.progressBar.value < 100
        assert ui.cancelButton.enabled
        result = finish(module, desktop)
    assert "Done" in said(module)
    assert heartbeat.busiest < 0.1, "the GUI was not served for longer than 100 ms"
    assert heartbeat.longest < 0.5, "waiting for something"
    wait_for_no_worker(2)
    assert scratch_folders() == []
    check_segmentation(result, case, module)
    check_maps(result, case, module)
    check_second_run(module, desktop, result)


def check_segmentation(result, case, module):
    """Geometry and voxels of every segment are those of the files that the worker wrote, in RAS."""
    segmentation = result.GetSegmentation()
    names = [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]
    assert names[:2] == ["Right breast", "Left breast"]
    assert names[2:] == [f"Lesion {i + 1}" for i in range(len(names) - 2)]
    assert "76752008" in segmentation.GetSegment("RightBreast").GetTerminology()
    folder = module.logic.settings.results_folder / result.GetAttribute("BreastTumorSeg.Result")
    reference = module.logic.exam.pre
    for segment, name, label in (("RightBreast", "breast", 1), ("LeftBreast", "breast", 2), ("Lesion1", "tumor", 1)):
        image = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(result, segment, reference)
        assert np.array_equal(voxels > 0, sitk.GetArrayFromImage(image) == label), segment
        corner = image.TransformIndexToPhysicalPoint((1, 2, 3))
        assert ras_of(reference, (1, 2, 3)) == pytest.approx([-corner[0], -corner[1], corner[2]], abs=1e-3)
    check_against_truth(result, case)


def check_against_truth(result, case):
    """The simulated lesion's and breasts' true places, in RAS: nothing is mirrored or shifted."""
    truth = sitk.ReadImage(str(next(case.parents[1].glob("segmentations/**/*.nii.gz"))))
    voxels = np.argwhere(sitk.GetArrayFromImage(truth) > 0)[:, ::-1]
    left, posterior, superior = truth.TransformContinuousIndexToPhysicalPoint(voxels.mean(axis=0).tolist())
    centre = result.GetSegmentCenterRAS("Lesion1")
    assert centre == pytest.approx([-left, -posterior, superior], abs=6.0)
    right_breast, left_breast = (result.GetSegmentCenterRAS(name) for name in ("RightBreast", "LeftBreast"))
    assert right_breast[0] > left_breast[0], "R is positive towards the patient's right"


def check_maps(result, case, module):
    from BreastTumorSegGui import results

    folder = module.logic.settings.results_folder / result.GetAttribute(results.RESULT)
    for title, file in results.MAPS.items():
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{file}.nii.gz")))
        assert np.array_equal(slicer.util.arrayFromVolume(results.map_of(result, title)), written), title
    ui = module.panels.result.ui
    lesions = results.lesions_of(result)
    assert ui.lesionTable.rowCount == len(lesions) >= 1
    module.panels.result._jump(0)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    assert red.GetSliceToRAS().GetElement(2, 3) == pytest.approx(float(lesions[0]["S_mm"]), abs=1.5)
    for title, lowest in (("Percent enhancement", 50.0), ("Signal enhancement ratio", 0.01)):
        display = results.map_of(result, title).GetDisplayNode()
        assert display.GetApplyThreshold(), "or tissue without enhancement hides the exam"
        assert display.GetLowerThreshold() == pytest.approx(lowest)
    display = result.GetDisplayNode()
    assert display.GetSegmentOpacity3D("RightBreast") < 0.5, "or the breast's surface hides the lesions"
    ui.overlaySelector.setCurrentIndex(1)
    ui.thresholdSlider.value = 0.9
    display = results.map_of(result, results.PROBABILITY).GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == pytest.approx(0.9)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {c.GetForegroundVolumeID() for c in composites} == {results.map_of(result, results.PROBABILITY).GetID()}
    assert ui.reportButton.enabled


def check_second_run(module, desktop, first):
    """A second run stands beside the first, on disk and in the scene; the first one's corrections stay."""
    voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(first, "Lesion1")
    first.GetSegmentation().GetSegment("Lesion1").SetName("corrected by a reader")
    before = voxels.copy()
    start(module, desktop)
    second = finish(module, desktop)
    assert second.GetID() != first.GetID()
    assert len(results_of(module)) == 2
    assert first.GetSegmentation().GetSegment("Lesion1").GetName() == "corrected by a reader"
    assert np.array_equal(slicer.util.arrayFromSegmentInternalBinaryLabelmap(first, "Lesion1"), before)
    assert (first.GetDisplayNode().GetVisibility(), second.GetDisplayNode().GetVisibility()) == (0, 1)


def test_cancel_leaves_no_process_and_the_scene_as_it_was(module, desktop, case):
    load_and_confirm(module, desktop, case)
    before = node_names()
    start(module, desktop, until="Finding the breasts")
    assert workers()
    pressed = time.monotonic()
    desktop.click(module.panels.segment.ui.cancelButton)
    wait_for_no_worker(2)
    assert time.monotonic() - pressed < 2
    assert said(module) == "Cancelled."
    assert node_names() == before
    assert results_of(module) == []
    assert scratch_folders() == []
    assert module.panels.segment.ui.runButton.enabled


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_killed_from_outside_is_told(module, desktop, case):
    load_and_confirm(module, desktop, case)
    before = node_names()
    start(module, desktop, until="Finding the breasts")
    for process in workers():
        process.send_signal(signal.SIGKILL)
    assert finish(module, desktop) is None
    assert "ended from outside" in said(module)
    assert "memory" in said(module)
    assert node_names() == before
    assert results_of(module) == []
    log = next(module.logic.settings.results_folder.glob("*.log"))
    assert log.name in said(module)
    assert "@bts" in log.read_text()


def test_a_worker_without_torch_says_how_to_get_it(module, desktop, case, tmp_path, monkeypatch):
    load_and_confirm(module, desktop, case)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start(module, desktop)
    assert finish(module, desktop) is None
    assert "torch" in said(module)
    assert "Set-up panel" in said(module)


def test_a_missing_model_is_told(module, desktop, case, tmp_path, monkeypatch):
    load_and_confirm(module, desktop, case)
    monkeypatch.setenv("BREASTTUMORSEG_MODELS", str(tmp_path))
    start(module, desktop)
    assert finish(module, desktop) is None
    assert "model registry" in said(module)


def test_a_results_folder_that_can_not_be_made_is_told(module, desktop, case, tmp_path):
    load_and_confirm(module, desktop, case)
    (tmp_path / "file").write_text("in the way")
    module.panels.segment.ui.resultsFolderEdit.setCurrentPath(str(tmp_path / "file"))
    start(module, desktop)
    assert finish(module, desktop) is None
    assert "can't be made" in said(module)
    assert (tmp_path / "file").read_text() == "in the way"
    assert scratch_folders() == []


def test_a_full_disk_is_told_and_leaves_nothing(module, desktop, case, monkeypatch):
    load_and_confirm(module, desktop, case)
    from BreastTumorSegGui import segmentation

    def fill(*_arguments):
        raise OutputError("phase_0.nrrd can't be written: the disk is full.", "Free space, or use another disk.")
        yield

    monkeypatch.setattr(segmentation, "write_in_pieces", fill)
    start(module, desktop)
    assert finish(module, desktop) is None
    assert "disk is full" in said(module)
    assert scratch_folders() == []


@pytest.mark.parametrize("how", ["scene closed", "module reloaded", "Slicer quits"])
def test_nothing_outlives_its_scene_or_module(module, desktop, case, how):
    load_and_confirm(module, desktop, case)
    start(module, desktop, until="Finding the breasts")
    assert workers()
    if how == "scene closed":
        slicer.mrmlScene.Clear(0)
    elif how == "module reloaded":
        desktop.reload()
    else:
        desktop.quit()
    wait_for_no_worker(2)
    assert scratch_folders() == []
    if how == "scene closed":
        assert module.logic.exam.rows == []
        assert module.panels.exam.ui.phasesTable.rowCount == 0
        assert "Load the phases" in module.panels.segment.ui.runButton.toolTip


def test_a_reloaded_module_works(module, desktop, case):
    load_and_confirm(module, desktop, case)
    desktop.reload()
    again = desktop.module
    assert again is not module
    desktop.wait_until(lambda: again.panels.setup.idle)
    assert len(again.logic.exam.rows) == 4
    assert again.panels.segment.ui.runButton.enabled


def test_a_scene_saved_closed_and_opened_has_table_and_result(module, desktop, case, tmp_path):
    load_and_confirm(module, desktop, case)
    start(module, desktop)
    result = finish(module, desktop)
    expected = [(row.name, row.time, row.source) for row in module.logic.exam.rows]
    lesion = slicer.util.arrayFromSegmentBinaryLabelmap(result, "Lesion1", module.logic.exam.pre).copy()
    count = module.panels.result.ui.lesionTable.rowCount
    (tmp_path / "scene").mkdir()
    file = desktop.save_scene(tmp_path / "scene")
    text = file.read_text()
    assert str(module.logic.settings.results_folder) not in text, "a path of this computer in the scene"
    slicer.mrmlScene.Clear(0)
    assert module.logic.exam.rows == []
    shutil.move(tmp_path / "scene", tmp_path / "moved")
    desktop.open_scene(tmp_path / "moved" / file.name)
    assert [(row.name, row.time, row.source) for row in module.logic.exam.rows] == expected
    assert module.panels.segment.ui.runButton.enabled, "it was confirmed"
    reopened = module.logic.exam.parameters.result
    assert module.panels.result.ui.lesionTable.rowCount == count
    assert np.array_equal(
        slicer.util.arrayFromSegmentBinaryLabelmap(reopened, "Lesion1", module.logic.exam.pre), lesion
    )


def test_a_run_goes_on_while_the_user_is_in_another_module(module, desktop, case):
    load_and_confirm(module, desktop, case)
    start(module, desktop, until="Reading the phases")
    desktop.leave()
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    red.JumpSliceByCentering(1.0, 2.0, 3.0)
    result = finish(module, desktop)
    assert result is not None
    assert red.GetSliceToRAS().GetElement(2, 3) == 3.0, "the views are the other module's"
    desktop.enter()
    assert module.panels.result.ui.lesionTable.rowCount >= 1
    assert red.GetSliceToRAS().GetElement(2, 3) != 3.0


def test_the_self_test_passes(module, desktop):
    """The flow that runs inside a real Slicer, on the sample exam."""
    import BreastTumorSeg

    slicer.util.selectModule = lambda _name: None  # there is no main window here
    BreastTumorSeg.BreastTumorSegTest().runTest(msec=0)
