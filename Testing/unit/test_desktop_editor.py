"""The stand-in's Segment Editor, keys and mouse do what Slicer's do."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytestmark = pytest.mark.xdist_group("module")

BOX = np.s_[1:3, 1:3, 1:3]
"""8 voxels."""
OTHER = np.s_[4:5, 2:5, 0:2]
"""6 voxels, none of them in the box."""


@pytest.fixture
def desktop():
    from desktop import Desktop

    slicer_desktop = Desktop()
    slicer_desktop.reset()
    yield slicer_desktop
    slicer_desktop.check()


@pytest.fixture
def segmentation(desktop):
    """Segments A, with 8 voxels, and B, empty, on a volume of 6 x 7 x 8 voxels."""
    volume = slicer.util.addVolumeFromArray(np.zeros((6, 7, 8), np.int16), name="volume")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in "AB":
        node.GetSegmentation().AddEmptySegment(name, name)
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[BOX] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "A")
    return node


@pytest.fixture
def editor(desktop, segmentation):
    """An editor of A with the Paint effect."""
    return make_editor(segmentation)


def make_editor(segmentation, effect="Paint"):
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(slicer.util.getNode("volume"))
    editor.setCurrentSegmentID("A")
    editor.setActiveEffectByName(effect)
    return editor


def voxels(segmentation, segment_id="A"):
    image = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    if image is None or image.GetNumberOfPoints() == 0:
        return 0
    return int(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id).sum())


def test_a_stroke_adds_and_erasing_takes_away_and_both_are_undone(desktop, editor, segmentation):
    desktop.paint(editor, OTHER)
    assert voxels(segmentation) == 14
    editor.setActiveEffectByName("Erase")
    desktop.paint(editor, np.s_[1:2, 1:3, 1:3])
    assert voxels(segmentation) == 10
    editor.undo()
    assert voxels(segmentation) == 14
    editor.undo()
    assert voxels(segmentation) == 8
    editor.undo()  # nothing is left to undo
    assert voxels(segmentation) == 8
    editor.redo()
    editor.redo()
    assert voxels(segmentation) == 10


def test_a_stroke_takes_voxels_from_other_segments_unless_overlap_is_allowed(desktop, editor, segmentation):
    editor.setCurrentSegmentID("B")
    desktop.paint(editor, BOX)
    assert (voxels(segmentation, "A"), voxels(segmentation, "B")) == (0, 8)
    editor.undo()
    editor.mrmlSegmentEditorNode().SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    desktop.paint(editor, BOX)
    assert (voxels(segmentation, "A"), voxels(segmentation, "B")) == (8, 8)


def test_a_new_stroke_after_undo_leaves_nothing_to_redo(desktop, editor, segmentation):
    desktop.paint(editor, OTHER)
    editor.undo()
    desktop.paint(editor, np.s_[5:6, 6:7, 7:8])
    editor.redo()
    assert voxels(segmentation) == 9


def test_undo_brings_back_what_a_script_removed_added_and_renamed(desktop, editor, segmentation):
    contents = segmentation.GetSegmentation()
    editor.saveStateForUndo()
    contents.RemoveSegment("B")
    contents.AddEmptySegment("C", "C")
    contents.GetSegment("A").SetName("renamed")
    editor.undo()
    assert (contents.GetSegmentIDs(), contents.GetSegment("A").GetName()) == (("A", "B"), "A")
    editor.redo()
    assert (contents.GetSegmentIDs(), contents.GetSegment("A").GetName()) == (("A", "C"), "renamed")


def test_only_so_many_states_are_kept_and_another_segmentation_forgets_them(desktop, editor, segmentation):
    assert editor.maximumNumberOfUndoStates == 5
    editor.setMaximumNumberOfUndoStates(2)
    for row in range(3):
        desktop.paint(editor, np.s_[5:6, row : row + 1, 0:1])
    for _undo in range(3):
        editor.undo()
    assert voxels(segmentation) == 10  # one state of the two is the newest, which undo keeps for redo
    desktop.paint(editor, OTHER)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    editor.setSegmentationNode(other)
    assert editor.activeEffect() is None
    editor.setSegmentationNode(segmentation)
    editor.undo()
    assert voxels(segmentation) == 16


def test_undo_works_while_its_buttons_are_hidden_and_enabling_it_forgets(desktop, editor, segmentation):
    desktop.paint(editor, OTHER)
    editor.undoEnabled = False
    editor.undo()
    assert voxels(segmentation) == 8
    editor.redo()
    editor.undoEnabled = True
    editor.undo()
    assert voxels(segmentation) == 14


def test_a_stroke_tells_that_the_mask_changed_undo_that_the_segment_did_and_display_neither(
    desktop, editor, segmentation
):
    kind, heard = slicer.vtkSegmentation, []
    for event in (kind.SourceRepresentationModified, kind.SegmentModified):
        segmentation.AddObserver(event, lambda _node, _event, event=event: heard.append(event))
    segmentation.GetDisplayNode().SetSegmentVisibility2DFill("A", False)
    segmentation.GetDisplayNode().SetVisibility(False)
    assert heard == []
    desktop.paint(editor, OTHER)
    assert kind.SourceRepresentationModified in heard
    heard.clear()
    editor.undo()
    assert set(heard) == {kind.SegmentModified}
    heard.clear()
    segmentation.GetSegmentation().GetSegment("A").SetName("renamed")
    assert set(heard) == {kind.SegmentModified}


def test_nothing_can_be_painted_without_effect_segment_or_where_it_is_read_only(desktop, editor):
    editor.readOnly = True
    assert editor.activeEffect() is None
    with pytest.raises(AssertionError):
        desktop.paint(editor, BOX)
    with pytest.raises(AssertionError):
        desktop.paint(make_editor(editor.segmentationNode(), "Threshold"), BOX)


def test_effects_are_slicers_and_keep_their_parameters_in_the_node(desktop, editor):
    assert "Islands" in editor.availableEffectNames()
    effect = editor.effectByName("Islands")
    effect.setParameter("Operation", "KEEP_LARGEST_ISLAND")
    effect.setParameter("MinimumSize", 12)
    node = editor.mrmlSegmentEditorNode()
    assert node.GetAttribute("Islands.Operation") == "KEEP_LARGEST_ISLAND"
    assert (effect.parameter("MinimumSize"), effect.integerParameter("MinimumSize")) == ("12", 12)
    assert editor.effectByName("Paint").parameter("BrushSphere") == "0"
    with pytest.raises(AttributeError):
        effect.apply()
    with pytest.raises(NotImplementedError):
        effect.self()
    editor.setActiveEffectByName("Paintbrush")
    assert editor.activeEffect() is None


def test_selecting_by_script_is_silent_and_by_the_user_is_told(desktop, editor):
    heard = []
    editor.connect("currentSegmentIDChanged(QString)", heard.append)
    editor.setCurrentSegmentID("B")
    assert (editor.currentSegmentID(), heard) == ("B", [])
    table = editor._target._table
    table.setCurrentRow(0)
    assert (editor.currentSegmentID(), heard) == ("A", ["A"])


def test_views_are_listened_to_while_an_effect_is_active(desktop, editor):
    assert len(editor._target._observers["views"]) == 3
    editor.setActiveEffect(None)
    assert "views" not in editor._target._observers
    editor.setActiveEffectByName("Paint")
    editor.removeViewObservations()
    assert "views" not in editor._target._observers


def test_the_editor_survives_a_closed_scene_and_shows_the_next_segmentation(desktop, editor):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    slicer.mrmlScene.Clear(0)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNode(node))
    assert (editor.segmentationNode(), editor.currentSegmentID()) == (None, "")
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert editor.segmentationNode() is first  # as the selector of Slicer's editor does


def test_an_effect_without_segmentation_is_refused_as_slicer_5_10_crashes(desktop):
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setActiveEffectByName("Paint")
    with pytest.raises(RuntimeError):
        desktop.check()


def test_what_the_editor_lacks_raises(desktop, editor):
    with pytest.raises(AttributeError):
        editor.undoStates  # noqa: B018
    with pytest.raises(AttributeError):
        editor.segmentationNode().nothing  # noqa: B018
    with pytest.raises(NotImplementedError):
        editor.rotateSliceViewsToSegmentation()


def test_a_form_has_an_editor(desktop, tmp_path):
    text = """<ui version="4.0"><class>Form</class><widget class="qMRMLWidget" name="Form">
     <layout class="QVBoxLayout"><item><widget class="qMRMLSegmentEditorWidget" name="editor">
      <property name="maximumNumberOfUndoStates"><number>10</number></property>
      <property name="segmentationNodeSelectorVisible"><bool>false</bool></property></widget></item></layout></widget>
     <customwidgets>
      <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header></customwidget>
      <customwidget><class>qMRMLSegmentEditorWidget</class><extends>qMRMLWidget</extends>
       <header>qMRMLSegmentEditorWidget.h</header></customwidget></customwidgets>
     <connections><connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
      <receiver>editor</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""
    (tmp_path / "form.ui").write_text(text)
    form = slicer.util.loadUI(str(tmp_path / "form.ui"))
    form.setMRMLScene(slicer.mrmlScene)
    editor = slicer.util.childWidgetVariables(form).editor
    assert editor.mrmlScene() is slicer.mrmlScene
    assert (editor.maximumNumberOfUndoStates, editor.segmentationNodeSelectorVisible) == (10, False)


def shortcut(key, heard):
    import qt

    made = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow())
    made.connect("activated()", lambda: heard.append(key))
    return made


def view(name="Red"):
    return slicer.app.layoutManager().sliceWidget(name).sliceView()


def test_a_shortcut_of_the_main_window_fires_in_a_slice_view_until_it_is_gone(desktop):
    heard = []
    one = shortcut("1", heard)
    desktop.press("1", view())
    assert heard == ["1"]
    assert not view().hasFocus()  # what is drawn in it has
    assert view().isAncestorOf(slicer.app.focusWidget())
    one.enabled = False
    desktop.press("1")
    one.setEnabled(True)
    desktop.press("2")
    desktop.press("Ctrl+1")
    assert heard == ["1"]
    desktop.press("1")
    one.delete()
    desktop.press("1")
    assert heard == ["1", "1"]


def test_what_is_typed_in_a_line_edit_is_text(desktop):
    import qt

    heard, typed, area = [], [], slicer.util.mainWindow().centralWidget()
    kept = shortcut("1", heard)
    edit = qt.QLineEdit(area)
    edit.connect("textEdited(QString)", typed.append)
    edit.connect("editingFinished()", lambda: typed.append("done"))
    edit.show()
    desktop.press("1", edit)
    desktop.press("Return")
    assert (edit.text, typed, heard) == ("1", ["1", "done"], [])
    assert kept.enabled


def test_two_shortcuts_of_one_key_are_ambiguous_and_neither_fires(desktop, editor):
    heard, ambiguous = [], []
    first, second = shortcut("1", heard), shortcut("1", heard)
    first.connect("activatedAmbiguously()", lambda: ambiguous.append(1))
    second.connect("activatedAmbiguously()", lambda: ambiguous.append(2))
    desktop.press("1", view())
    desktop.press("1", view())
    assert (heard, sorted(ambiguous)) == ([], [1, 2])


def test_a_shortcut_of_a_hidden_or_narrower_widget_does_not_fire(desktop):
    import qt

    heard, panel = [], qt.QWidget(slicer.util.mainWindow())
    kept = qt.QShortcut(qt.QKeySequence(qt.Qt.Key_1), panel)
    kept.setContext(qt.Qt.WidgetWithChildrenShortcut)
    kept.connect("activated()", lambda: heard.append("1"))
    panel.show()
    desktop.press("1", view())
    assert heard == []
    kept.setContext(qt.Qt.WindowShortcut)
    desktop.press("1", view())
    panel.hide()
    desktop.press("1", view())
    assert heard == ["1"]


def test_the_editors_keys_choose_effects_and_undo_and_stand_in_the_way_of_others(desktop, editor, segmentation):
    heard = []
    editor.installKeyboardShortcuts()
    desktop.press("1", view())
    assert editor.activeEffect().name == "Threshold"
    desktop.press("2")
    desktop.paint(editor, OTHER)
    desktop.press("Z")
    assert voxels(segmentation) == 8
    desktop.press("Y")
    desktop.press("Escape")
    assert (voxels(segmentation), editor.activeEffect()) == (14, None)
    desktop.press("W")
    assert editor.currentSegmentID() == "B"
    ours = shortcut("1", heard)
    desktop.press("1")
    assert (heard, editor.activeEffect()) == ([], None)
    editor.uninstallKeyboardShortcuts()
    desktop.press("1")
    assert (heard, ours.enabled) == (["1"], True)


def test_what_a_shortcuts_slot_raises_is_raised(desktop):
    import qt

    kept = qt.QShortcut(qt.QKeySequence("1"), slicer.util.mainWindow())
    kept.connect("activated()", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desktop.press("1", view())


def test_the_cursor_and_the_wheel_are_heard(desktop):
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    position, heard = [0.0, 0.0, 0.0], []
    assert slicer.util.getNode("Crosshair") is crosshair
    crosshair.AddObserver(crosshair.CursorPositionModifiedEvent, lambda *_event: heard.append("cursor"))
    desktop.move_cursor((1.0, 2.0, 3.0))
    assert crosshair.GetCursorPositionRAS(position)
    assert (position, heard) == ([1.0, 2.0, 3.0], ["cursor"])
    node = slicer.app.layoutManager().sliceWidget("Yellow").mrmlSliceNode()
    node.AddObserver("ModifiedEvent", lambda *_event: heard.append("slice"))
    before = node.GetSliceOffset()
    desktop.scroll("Yellow", 4.0)
    assert node.GetSliceOffset() == before + 4.0
    assert "slice" in heard


def test_buttons_boxes_and_texts_are_heard_by_signature(desktop):
    import qt

    heard, group = [], qt.QButtonGroup()
    group.connect("buttonClicked(QAbstractButton*)", lambda button: heard.append(button.text))
    buttons = [qt.QRadioButton(text) for text in ("Good", "Poor")]
    for number, button in enumerate(buttons):
        group.addButton(button, number)
    buttons[1].connect("toggled(bool)", heard.append)
    tool = qt.QToolButton()
    tool.connect("clicked()", lambda: heard.append("clicked"))
    note, bar, box = qt.QPlainTextEdit(), qt.QProgressBar(), qt.QComboBox()
    note.connect("textChanged()", lambda: heard.append(note.plainText))
    bar.connect("valueChanged(int)", heard.append)
    box.addItems(["a", "b"])
    box.connect("currentIndexChanged(int)", heard.append)
    buttons[1].click()
    tool.click()
    note.plainText = "why"
    bar.value = 7
    box.currentIndex = 1
    assert heard == [True, "Poor", "clicked", "why", 7, 1]
    assert (group.checkedId(), group.checkedButton().text) == (1, "Poor")
