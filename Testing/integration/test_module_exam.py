"""The Exam panel by its buttons: where phases come from, checking and correcting them, what is derived from them."""

import numpy as np
import pytest
import SimpleITK as sitk

from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from Testing.dicom_files import write_series

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

GRID = Geometry((6, 5, 4), (1.0, 2.0, 3.0), (10.0, -20.0, 30.0))


def volume(value, name, geometry=GRID, number_type=np.int16):
    """A volume in the scene whose voxels rise from a value."""
    from BreastTumorSegGui import scene

    voxels = value + np.arange(np.prod(geometry.shape), dtype=number_type).reshape(geometry.shape)
    return scene.add_volume(voxels.astype(number_type), geometry, name)


def use(module, desktop, *volumes):
    """Check volumes and press Use."""
    ui = module.panels.exam.ui
    ui.sceneSection.collapsed = False
    for node in volumes:
        ui.volumesSelector.check(node)
    desktop.click(ui.useVolumesButton)
    done(module, desktop)


def done(module, desktop):
    desktop.wait_until(lambda: not module.panels.exam.busy, 60)


def table(module):
    return [(row.name, row.time, row.source) for row in module.logic.exam.rows]


def cells(module, column):
    """Texts of a column, one a phase or problem."""
    widget = module.panels.exam.ui.phasesTable
    return [widget.item(row, column).text() if widget.item(row, column) else "" for row in range(widget.rowCount)]


def said(module):
    return module.panels.exam.ui.messageLabel.text


def names():
    return sorted(slicer.mrmlScene.GetNthNode(i).GetID() for i in range(slicer.mrmlScene.GetNumberOfNodes()))


def test_a_dicom_folder(module, desktop, tmp_path):
    from desktop import dialogs

    for number, time in ((2, "101500"), (5, "101730"), (1, "101210")):
        voxels = np.full((3, 4, 5), 100 * number, np.int16) + np.arange(5, dtype=np.int16)
        write_series(tmp_path / "dicom", number, voxels, AcquisitionTime=time)
    dialogs.answers.append(tmp_path / "dicom")
    desktop.click(module.panels.exam.ui.loadFolderButton)
    done(module, desktop)
    assert [(time, source) for _name, time, source in table(module)] == [
        (0.0, TimeSource.ACQUISITION_TIME),
        (170.0, TimeSource.ACQUISITION_TIME),
        (320.0, TimeSource.ACQUISITION_TIME),
    ]
    assert [int(slicer.util.arrayFromVolume(row.node)[0, 0, 0]) for row in module.logic.exam.rows] == [100, 200, 500]
    assert cells(module, 2)[0] == "acquisition time"
    assert not any("Doe" in text for column in range(4) for text in cells(module, column))


def test_files(module, desktop, tmp_path):
    from desktop import dialogs

    for index in range(3):
        image = GRID.image(np.full(GRID.shape, index + 1, np.float32) + np.indices(GRID.shape)[2].astype(np.float32))
        sitk.WriteImage(image, str(tmp_path / f"phase_{index}.nii.gz"))
    dialogs.answers.append(sorted(tmp_path.glob("*.nii.gz")))
    desktop.click(module.panels.exam.ui.loadFilesButton)
    done(module, desktop)
    assert [time for _name, time, _source in table(module)] == [0.0, 120.0, 240.0]
    assert {row.geometry.size for row in module.logic.exam.rows} == {GRID.size}
    assert any("The time is assumed" in text for text in cells(module, 0))
    assert "assumed" in module.panels.exam.ui.notesLabel.text


def test_nothing_is_loaded_where_the_dialog_is_cancelled(module, desktop):
    from desktop import dialogs

    dialogs.answers += [None, None]
    desktop.click(module.panels.exam.ui.loadFolderButton)
    desktop.click(module.panels.exam.ui.loadFilesButton)
    assert not module.panels.exam.busy


def test_what_can_not_be_loaded_is_told_and_leaves_the_exam_in_the_table(module, desktop, tmp_path):
    use(module, desktop, volume(0, "a"), volume(100, "b"))
    before, nodes = table(module), names()
    (tmp_path / "text.txt").write_text("no exam")
    module.panels.exam.load(module.logic.sources.from_files([tmp_path]))
    done(module, desktop)
    assert "holds no DICOM files" in said(module)
    assert (table(module), names()) == (before, nodes)


def test_loading_can_be_cancelled(module, desktop, case):
    module.panels.exam.load(module.logic.sources.from_files([case]))
    desktop.wait_until(lambda: module.panels.exam.ui.cancelLoadingButton.visible)
    desktop.click(module.panels.exam.ui.cancelLoadingButton)
    assert "Cancelled" in said(module)
    assert not module.panels.exam.ui.loadingArea.visible


def test_half_an_exam_is_taken_back(module, case):
    nodes = names()
    work = module.logic.sources.from_files([case])
    while len(names()) == len(nodes):  # until the first phase is there
        next(work)
    work.close()
    assert names() == nodes


def test_volumes_of_the_scene_bring_the_times_that_they_were_loaded_with(module, desktop, case):
    module.panels.exam.load(module.logic.sources.from_files([case]))
    done(module, desktop)
    before = table(module)
    volumes = [row.node for row in module.logic.exam.rows]
    module.logic.exam.set_rows([])
    use(module, desktop, *reversed(volumes))
    assert table(module) == before


def test_volumes_of_slicers_dicom_database_bring_their_own_times(module, desktop, tmp_path, monkeypatch):
    files = {}
    volumes = []
    for number, time in ((1, "080000"), (2, "080230")):
        written = write_series(tmp_path / str(number), number, np.zeros((3, 4, 5), np.int16), AcquisitionTime=time)
        files.update({f"1.2.{number}.{index}": str(file) for index, file in enumerate(written)})
        volumes.append(volume(number, f"series {number}"))
        volumes[-1].SetAttribute(
            "DICOM.instanceUIDs", " ".join(uid for uid in files if uid.startswith(f"1.2.{number}."))
        )

    class Database:
        def fileForInstance(self, uid):
            return files[uid]

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    use(module, desktop, *volumes)
    assert table(module) == [
        ("series 1", 0.0, TimeSource.ACQUISITION_TIME),
        ("series 2", 150.0, TimeSource.ACQUISITION_TIME),
    ]


@pytest.mark.parametrize(
    ("index", "unit", "values", "times", "source"),
    [
        ("time", "s", ("10", "130", "250"), [0.0, 120.0, 240.0], TimeSource.SEQUENCE),
        ("time", "ms", ("0", "90000", "180000"), [0.0, 90.0, 180.0], TimeSource.SEQUENCE),
        ("frame", "", ("0", "1", "2"), [0.0, 120.0, 240.0], TimeSource.ASSUMED),
    ],
)
def test_a_sequence_browser(module, desktop, index, unit, values, times, source):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    sequence.SetIndexName(index)
    sequence.SetIndexUnit(unit)
    for number, value in enumerate(values):
        node = volume(1000 * number, "item")
        sequence.SetDataNodeAtValue(node, value)
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    ui = module.panels.exam.ui
    ui.sceneSection.collapsed = False
    ui.sequenceSelector.setCurrentNode(browser)
    desktop.click(ui.useSequenceButton)
    done(module, desktop)
    assert [(row.time, row.source) for row in module.logic.exam.rows] == [(time, source) for time in times]
    assert [row.geometry for row in module.logic.exam.rows] == [GRID] * 3
    assert [int(slicer.util.arrayFromVolume(row.node)[0, 0, 0]) for row in module.logic.exam.rows] == [0, 1000, 2000]


@pytest.mark.parametrize(
    ("tag", "unit", "labels", "times"),
    [("AcquisitionTime", "ms", "0,60000,150000", [0.0, 60.0, 150.0]), ("FlipAngle", "degrees", "5,10,15", None)],
)
def test_a_multivolume(module, desktop, tag, unit, labels, times):
    """Its class comes with another extension; what counts is its voxels of several components, and its attributes."""
    from BreastTumorSegGui import scene

    first = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    frames = np.stack([first + 1000 * index for index in range(3)], axis=-1)
    node = slicer.util.addVolumeFromArray(frames, name="dynamic", nodeClassName="vtkMRMLVectorVolumeNode")
    node.SetIJKToRASMatrix(scene.matrix_of(GRID))
    for name, value in (
        ("FrameLabels", labels),
        ("FrameIdentifyingDICOMTagName", tag),
        ("FrameIdentifyingDICOMTagUnits", unit),
    ):
        node.SetAttribute(f"MultiVolume.{name}", value)
    module.panels.exam.load(module.logic.sources.from_multivolume(node))
    done(module, desktop)
    rows = module.logic.exam.rows
    assert [row.time for row in rows] == (times or [0.0, 120.0, 240.0])
    assert {row.source for row in rows} == {TimeSource.MULTIVOLUME if times else TimeSource.ASSUMED}
    for index, row in enumerate(rows):
        assert np.array_equal(scene.voxels(row.node), frames[..., index])
        assert row.geometry == GRID


def test_times_and_names_are_edited_in_the_table(module, desktop):
    use(module, desktop, volume(0, "pre"), volume(100, "post"))
    widget = module.panels.exam.ui.phasesTable
    widget.item(1, 1).setText("95.5")
    widget.item(1, 0).setText("first pass")
    desktop.check()
    assert table(module)[1] == ("first pass", 95.5, TimeSource.USER)
    assert cells(module, 2) == ["assumed", "typed here"]
    widget.item(1, 1).setText("soon")
    desktop.check()
    assert "no time" in said(module)
    assert cells(module, 1)[1] == "95.5"


def test_a_cell_that_is_being_edited_survives_what_else_changes(module, desktop):
    use(module, desktop, volume(0, "pre"), volume(100, "post"))
    widget = module.panels.exam.ui.phasesTable
    before = widget.item(1, 1)
    module.logic.exam.parameters.opacity = 0.3  # as a slider does, or a run that ends
    assert widget.item(1, 1) == before, "the table was not made anew"


def test_a_volume_without_voxels_is_told(module, desktop):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    use(module, desktop, volume(0, "pre"), empty)
    assert "empty has no voxels" in said(module)
    assert table(module) == []


def test_label_maps_are_no_phases(module, desktop):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    volume(0, "pre")
    assert module.panels.exam.ui.volumesSelector.nodeCount() == 1


def test_the_users_own_overlay_stays(module, desktop):
    mine = volume(0, "mine")
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    for composite in composites:
        composite.SetForegroundVolumeID(mine.GetID())
    module.logic.exam.parameters.opacity = 0.3
    desktop.leave()
    desktop.enter()
    assert {composite.GetForegroundVolumeID() for composite in composites} == {mine.GetID()}


def test_problems_stand_under_their_row_and_forbid_confirming(module, desktop):
    import vtk

    other = Geometry((6, 5, 4), (1.0, 2.0, 3.5), (10.0, -20.0, 30.0))
    use(module, desktop, volume(0, "pre"), volume(100, "post"), volume(200, "late", other))
    assert any(
        "Not on the first phase's grid: spacing 1 x 2 x 3 mm against 1 x 2 x 3.5 mm" in t for t in cells(module, 0)
    )
    button = module.panels.exam.ui.confirmButton
    assert not button.enabled
    assert "late" in button.toolTip
    assert "late" in module.panels.segment.ui.runButton.toolTip
    module.panels.exam.ui.phasesTable.selectRow(3)
    desktop.click(module.panels.exam.ui.removeButton)
    assert button.enabled
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = vtk.vtkMatrix4x4()
    moved.SetElement(0, 3, 5.0)
    transform.SetMatrixTransformToParent(moved)
    module.logic.exam.rows[1].node.SetAndObserveTransformNodeID(transform.GetID())
    module.panels.exam.refresh()
    assert any("A transform moves this volume" in text for text in cells(module, 0))
    assert not button.enabled


def test_rows_are_moved_and_removed(module, desktop):
    use(module, desktop, volume(0, "a"), volume(100, "b"), volume(200, "c"))
    ui = module.panels.exam.ui
    ui.phasesTable.selectRow(0)
    assert not ui.upButton.enabled
    desktop.click(ui.downButton)
    assert [(name, time) for name, time, _source in table(module)] == [("b", 0.0), ("a", 120.0), ("c", 240.0)]
    desktop.click(ui.downButton)  # it stayed selected
    assert [name for name, _time, _source in table(module)] == ["b", "c", "a"]
    assert not ui.downButton.enabled
    desktop.click(ui.removeButton)
    assert [name for name, _time, _source in table(module)] == ["b", "c"]
    assert slicer.util.getNode("a") is not None, "the volume stays"


@pytest.mark.parametrize("change", ["time", "order", "removed", "deleted", "loaded"])
def test_every_change_asks_to_confirm_again(module, desktop, change):
    use(module, desktop, volume(0, "a"), volume(100, "b"), volume(200, "c"))
    ui = module.panels.exam.ui
    desktop.click(ui.confirmButton)
    run = module.panels.segment.ui.runButton
    assert run.enabled
    if change == "time":
        ui.phasesTable.item(cells(module, 0).index("c"), 1).setText("330")
    elif change in ("order", "removed"):
        ui.phasesTable.selectRow(cells(module, 0).index("c"))
        desktop.click(ui.upButton if change == "order" else ui.removeButton)
    elif change == "deleted":
        slicer.mrmlScene.RemoveNode(slicer.util.getNode("c"))
        module.panels.exam.refresh()
        module.panels.segment.refresh()
    else:
        use(module, desktop)
    assert not run.enabled
    assert ui.confirmButton.enabled


def test_subtractions(module, desktop):
    use(
        module,
        desktop,
        volume(50, "pre", number_type=np.uint16),
        volume(20, "early", number_type=np.uint16),
        volume(60, "late"),
    )
    desktop.click(module.panels.exam.ui.subtractButton)
    done(module, desktop)
    for name, difference in (("early - pre", -30.0), ("late - pre", 10.0)):
        node = slicer.util.getNode(name)
        assert np.unique(slicer.util.arrayFromVolume(node)).tolist() == [difference]
        from BreastTumorSegGui import scene

        assert scene.geometry_of(node) == GRID


def test_projections_are_shown_each_in_its_view(module, desktop):
    from BreastTumorSegGui import scene

    use(module, desktop, volume(0, "pre"), volume(100, "post"))
    slicer.util.arrayFromVolume(slicer.util.getNode("post"))[1, 2, 3] = 900
    desktop.click(module.panels.exam.ui.projectButton)
    done(module, desktop)
    axial = slicer.util.getNode("MIP axial")
    assert slicer.util.arrayFromVolume(axial).shape == (1, 5, 6)
    pre = slicer.util.arrayFromVolume(slicer.util.getNode("pre"))
    assert slicer.util.arrayFromVolume(axial)[0, 2, 3] == 900 - pre[1, 2, 3]
    bounds = [0.0] * 6
    axial.GetRASBounds(bounds)
    whole = [0.0] * 6
    slicer.util.getNode("pre").GetRASBounds(whole)
    assert bounds == pytest.approx(whole), "it shows at every slice of the volume"
    for view, plane in (("Red", "axial"), ("Yellow", "sagittal"), ("Green", "coronal")):
        composite = slicer.app.layoutManager().sliceWidget(view).sliceLogic().GetSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == slicer.util.getNode(f"MIP {plane}").GetID()
    assert scene.geometry_of(axial).spacing == (1.0, 2.0, 12.0)


def test_phases_are_compared_side_by_side(module, desktop):
    use(module, desktop, volume(0, "a"), volume(100, "b"), volume(200, "c"), volume(300, "d"))
    desktop.click(module.panels.exam.ui.compareButton)
    manager = slicer.app.layoutManager()
    shown = [manager.sliceWidget(f"BreastPhase{i}").sliceLogic().GetSliceCompositeNode() for i in range(4)]
    assert [node.GetBackgroundVolumeID() for node in shown] == [row.node.GetID() for row in module.logic.exam.rows]
    assert all(node.GetLinkedControl() for node in shown)
    assert {manager.sliceWidget(f"BreastPhase{i}").mrmlSliceNode().GetOrientation() for i in range(4)} == {"Axial"}
    desktop.click(module.panels.exam.ui.breastLayoutButton)
    assert manager.layout == 21040
    red = manager.sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == slicer.util.getNode("b").GetID()


def test_oblique_volumes_keep_their_place(module, desktop):
    """There and back between RAS and LPS, for a grid with no axis in common with either."""
    from BreastTumorSegGui import scene

    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    grid = Geometry((6, 5, 4), (0.7, 1.1, 2.5), (-13.0, 7.0, 21.0), tuple(turn.ravel().tolist()))
    node = volume(0, "oblique", grid)
    assert scene.geometry_of(node).difference(grid) is None
    index = np.array([2.0, 3.0, 1.0, 1.0])
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    assert matrix.MultiplyPoint(index)[:3] == pytest.approx((grid.matrix @ index)[:3] * [-1, -1, 1])
