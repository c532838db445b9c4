"""The Heterogeneity panel by its buttons, with a real worker on a small simulated exam."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")


@pytest.fixture
def segmented(module, desktop, case):
    """The module with a confirmed exam and a result whose one lesion is the simulated one."""
    from BreastTumorSegGui import results, scene, terminology
    from BreastTumorSegGui.scene import SegmentStyle

    module.panels.exam.load(module.logic.sources.from_files([case]))
    desktop.wait_until(lambda: not module.panels.exam.busy, 60)
    desktop.click(module.panels.exam.ui.confirmButton)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(next(case.parents[1].glob("segmentations/**/*.nii.gz")))))
    node = scene.add_segmentation("result", module.logic.exam.pre)
    node.SetAttribute(results.RESULT, "result")
    breast = np.ones_like(truth, np.uint8)
    grid = module.logic.exam.rows[0].geometry
    styles = [
        (breast, SegmentStyle(1, "RightBreast", "Right breast", (0, 1, 1), terminology.breast("right"), 0.1, 0.1)),
        (
            (truth > 0).astype(np.uint8),
            SegmentStyle(1, "Lesion1", "Lesion 1", (0, 1, 0), terminology.lesion(""), 0.3, 1),
        ),
    ]
    for labels, style in styles:
        scene.add_segments(node, labels.astype(np.uint8), grid, [style])
    module.logic.exam.parameters.result = node
    module.panels.heterogeneity.ui.heterogeneitySection.collapsed = False
    return module, truth > 0


def run(module, desktop):
    panel = module.panels.heterogeneity
    desktop.click(panel.ui.runButton)
    desktop.wait_until(lambda: not panel.running, 120)
    return panel._map


def test_nothing_runs_without_a_result(module, desktop, case):
    button = module.panels.heterogeneity.ui.runButton
    assert not button.enabled
    module.panels.exam.load(module.logic.sources.from_files([case]))
    desktop.wait_until(lambda: not module.panels.exam.busy, 60)
    desktop.click(module.panels.exam.ui.confirmButton)
    assert not button.enabled
    assert "Segment the exam" in button.toolTip


def test_lesions_with_a_rim_and_the_breasts(segmented, desktop):
    module, truth = segmented
    ui = module.panels.heterogeneity.ui
    inside = slicer.util.arrayFromVolume(run(module, desktop))
    assert inside.any()
    assert not inside[~truth].any(), "the region is the lesion"
    ui.rimSpinBox.value = 6.0
    around = slicer.util.arrayFromVolume(run(module, desktop))
    assert (around[~truth] > 0).any()
    assert np.array_equal(around[truth], inside[truth]), "a voxel keeps its cluster in another region"
    ui.regionSelector.setCurrentIndex(1)
    assert not ui.rimSpinBox.enabled
    everywhere = slicer.util.arrayFromVolume(run(module, desktop))
    assert (everywhere > 0).sum() > (around > 0).sum()


def test_the_curves_are_those_that_were_written_and_a_click_adds_the_voxels(segmented, desktop):
    from BreastTumorSegGui import results
    from BreastTumorSegGui.heterogeneity import CHART, CURVES

    module, truth = segmented
    found = run(module, desktop)
    assert results.map_of(module.logic.exam.parameters.result, "Clusters") == found
    folder = sorted(module.logic.settings.results_folder.glob("*/curves.csv"))[-1]
    with folder.open() as lines:
        rows = list(csv.DictReader(lines))
    table = found.GetNodeReference(CURVES).GetTable()
    for row in rows:
        times = [table.GetColumnByName("s after pre-contrast").GetValue(i) for i in range(table.GetNumberOfRows())]
        value = table.GetColumnByName(row["cluster"]).GetValue(times.index(float(row["time_s"])))
        assert value == pytest.approx(float(row["mean_pe_percent"]))
    chart = found.GetNodeReference(CHART)
    assert slicer.app.layoutManager().plotWidget(0).mrmlPlotViewNode().GetPlotChartNodeID() == chart.GetID()
    desktop.click(module.panels.heterogeneity.ui.probeButton)
    place = tuple(int(value) for value in np.argwhere(truth)[0])
    position = ras_of(module.logic.exam.pre, place[::-1])
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCursorPositionRAS(position)
    slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor().InvokeEvent("LeftButtonPressEvent")
    phases = [slicer.util.arrayFromVolume(row.node)[place] for row in module.logic.exam.rows]
    drawn = [table.GetColumnByName("voxel").GetValue(i) for i in range(table.GetNumberOfRows())]
    assert drawn == pytest.approx([100 * (float(phase) / float(phases[0]) - 1) for phase in phases], rel=1e-4)
    desktop.leave()
    table.GetColumnByName("voxel").SetValue(0, 77.0)
    slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor().InvokeEvent("LeftButtonPressEvent")
    assert table.GetColumnByName("voxel").GetValue(0) == 77.0, "clicks are another module's"


def ras_of(volume, index):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return list(matrix.MultiplyPoint((*map(float, index), 1.0))[:3])


def test_a_corrected_mask_counts(segmented, desktop):
    """The region is the segment as a reader left it, here smaller and in an image of its own."""
    module, truth = segmented
    node = module.logic.exam.parameters.result
    voxels = np.argwhere(truth)
    kept = np.zeros_like(truth)
    kept[tuple(voxels[: len(voxels) // 2].T)] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(kept.astype(np.uint8), node, "Lesion1", module.logic.exam.pre)
    inside = slicer.util.arrayFromVolume(run(module, desktop))
    assert inside[kept].any()
    assert not inside[~kept].any()


def test_cancel_leaves_no_half_written_result(segmented, desktop):
    module, _truth = segmented
    panel = module.panels.heterogeneity
    folder = module.logic.settings.results_folder
    desktop.click(panel.ui.runButton)
    desktop.wait_until(lambda: any(folder.glob(".*.partial-*")), 60)
    desktop.click(panel.ui.cancelButton)
    assert [path.name for path in folder.iterdir() if path.suffix != ".log"] == []


def test_no_lesion_is_told(segmented, desktop):
    module, _truth = segmented
    module.logic.exam.parameters.result.GetSegmentation().RemoveSegment("Lesion1")
    assert run(module, desktop) is None
    assert "no lesions" in module.panels.heterogeneity.ui.messageLabel.text
