"""qMRMLSegmentEditorWidget after its C++: undo and selections are the real vtkSlicerSegmentEditorLogic's.

Of its sections there are the two selectors, the buttons, the effects, undo and redo, and the list of segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from shiboken6 import Shiboken

from desktop import dialogs, proxy, segment_shortcuts
from desktop.proxy import unwrap
from desktop.segment_editor_parts import EditorParts
from desktop.segment_effects import BRUSH, Effect
from desktop.widgets import qMRMLNodeComboBox, qMRMLWidget

MODIFIED = vtk.vtkCommand.ModifiedEvent
SCENE = slicer.vtkMRMLScene


class qMRMLSegmentEditorWidget(EditorParts):
    """Edits the segments of a segmentation."""

    API = "qMRMLSegmentEditorWidget"
    SIGNATURES: ClassVar = {
        **qMRMLWidget.SIGNATURES,
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
    }
    currentSegmentIDChanged = Signal(str)
    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node = self._segmentation = self._source = None
        self._active: Effect | None = None
        self._last: Effect | None = None
        self._read_only = False
        self._shortcuts: list[QtGui.QShortcut] = []
        self._observe("history", self._logic, {self._logic.SegmentationHistoryChangedEvent: self._update_undo})

    # Scene and nodes

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene; the segment editor node comes first or after."""
        if scene is self._scene:
            return
        for selector in (self._segmentations, self._volumes):
            selector.blockSignals(True)
            selector.setMRMLScene(scene)
            selector.blockSignals(False)
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)
        self._observe(
            "scene", scene, {SCENE.EndCloseEvent: self._on_closed, SCENE.EndBatchProcessEvent: self._on_batch}
        )
        self.updateWidgetFromMRML()

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        """Set the node that keeps what is selected."""
        if node is self._node:
            return
        self._observe("node", node, {MODIFIED: self.updateWidgetFromMRML})
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        if node is not None:
            self._set_defaults()
            self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        """The node that keeps what is selected."""
        return self._node

    def _set_defaults(self) -> None:
        for name, value in BRUSH.items():
            if self._node.GetAttribute(name) is None:
                self._node.SetAttribute(name, value)

    def setSegmentationNode(self, node: Any) -> None:
        """Edit another segmentation; the active effect ends, and what could be undone is forgotten."""
        if self._logic.GetSegmentationNode() is not node:
            self._logic.SetSegmentationNode(node)
            self.setActiveEffect(None)

    def setSegmentationNodeID(self, node_id: str) -> None:
        """As `setSegmentationNode`."""
        self.setSegmentationNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def segmentationNode(self) -> Any:
        """What is edited."""
        return self._logic.GetSegmentationNode()

    def segmentationNodeID(self) -> str:
        """ID of what is edited."""
        return _id(self.segmentationNode())

    def setSourceVolumeNode(self, node: Any) -> None:
        """Set what is looked at while editing; the segmentation comes first, else it is not taken."""
        self._logic.SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, node_id: str) -> None:
        """As `setSourceVolumeNode`."""
        self.setSourceVolumeNode(self._scene.GetNodeByID(node_id) if node_id else None)

    def sourceVolumeNode(self) -> Any:
        """What is looked at while editing."""
        return self._logic.GetSourceVolumeNode()

    def sourceVolumeNodeID(self) -> str:
        """ID of what is looked at."""
        return _id(self.sourceVolumeNode())

    def setCurrentSegmentID(self, segment_id: str) -> None:
        """Select a segment. As in Slicer, `currentSegmentIDChanged` tells of the user's selections, not of this."""
        if self._node is not None:
            self._node.SetSelectedSegmentID(segment_id or "")

    def currentSegmentID(self) -> str:
        """The selected segment."""
        return self._logic.GetCurrentSegmentID()

    def updateWidgetFromMRML(self) -> None:
        """Show what the nodes say."""
        scene = self._scene
        if scene is None or scene.IsClosing() or scene.IsBatchProcessing() or self._node is None:
            return
        with _one_event(self._node):
            self._follow_segmentation()
            self._follow_volume()
            self._select_row()
            self._update_effect()
        self._add_button.setEnabled(self._logic.CanAddSegments())
        self._remove_button.setEnabled(bool(self.currentSegmentID()) and not self._read_only)
        self._table.setEnabled(not self._read_only)
        self._effects_box.setEnabled(self.sourceVolumeNode() is not None and not self._read_only)
        self._update_undo()

    def _follow_segmentation(self) -> None:
        node = self._logic.GetSegmentationNode()
        _choose(self._segmentations, node)
        if node is self._segmentation:
            return
        changes = {slicer.vtkSegmentation.SegmentAdded: self._fill, slicer.vtkSegmentation.SegmentRemoved: self._fill}
        self._observe("segmentation", node, {MODIFIED: self.updateWidgetFromMRML, **changes})
        self._segmentation = node
        with QtCore.QSignalBlocker(self._table):
            self._fill()
        self._show_3d.setSegmentationNode(node)
        if node is not None:
            self._volumes.setCurrentNode(node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()))
            node.CreateDefaultDisplayNodes()
            if self._table.count():
                self._table.setCurrentRow(0)
        self.segmentationNodeChanged.emit(node)

    def _follow_volume(self) -> None:
        node = self._logic.GetSourceVolumeNode()
        if self._logic.GetSegmentationNode() is None or node is self._source:
            return
        self._source = node
        _choose(self._volumes, node)
        if node is not None and self.autoShowSourceVolumeNode:
            self.showSourceVolumeInSliceViewers()
        self.sourceVolumeNodeChanged.emit(node)

    def showSourceVolumeInSliceViewers(self, forceShowInBackground: bool = False, fitSlice: bool = False) -> None:
        """Show the source volume, and it alone, in the views that don't show it yet."""
        volume = self.sourceVolumeNode()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
            if forceShowInBackground or volume.GetID() not in shown:
                composite.SetBackgroundVolumeID(volume.GetID())
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)
        if fitSlice:
            slicer.app.layoutManager().resetSliceViews()

    def _on_closed(self) -> None:
        if self._node is not None:
            self._set_defaults()
        self.updateWidgetFromMRML()

    def _on_batch(self) -> None:
        if self._node is not None:
            self.setSegmentationNode(self._segmentations.currentNode())
            self.setSourceVolumeNode(self._volumes.currentNode())
        self.updateWidgetFromMRML()

    def _on_segmentation_chosen(self, node: Any) -> None:
        if self._scene is not None and not self._scene.IsBatchProcessing():
            self.setSegmentationNode(node)

    def _on_volume_chosen(self, node: Any) -> None:
        if self._scene is not None and not self._scene.IsBatchProcessing():
            self.setSourceVolumeNode(node)

    # Segments

    def _fill(self) -> None:
        """Show the segments; the selection moves on only where its segment is gone."""
        ids = self._segmentation.GetSegmentation().GetSegmentIDs() if self._segmentation is not None else ()
        for row in reversed(range(self._table.count())):
            if self._table.item(row).text() not in ids:
                self._table.takeItem(row)
        known = {self._table.item(row).text() for row in range(self._table.count())}
        for row, segment_id in enumerate(ids):
            if segment_id not in known:
                self._table.insertItem(row, segment_id)

    def _select_row(self) -> None:
        """As the node says."""
        found = self._table.findItems(self.currentSegmentID(), QtCore.Qt.MatchFlag.MatchExactly)
        if found:
            self._table.setCurrentItem(found[0])
        else:
            self._table.clearSelection()

    def _on_segment_chosen(self) -> None:
        chosen = [item.text() for item in self._table.selectedItems()]
        segment_id = chosen[0] if chosen else ""
        if self._node is None or segment_id == (self._node.GetSelectedSegmentID() or ""):
            return
        self._node.SetSelectedSegmentID(segment_id or None)
        if not segment_id and self._active is not None and self._active.perSegment:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()
        self.currentSegmentIDChanged.emit(segment_id)

    def selectPreviousSegment(self) -> None:
        """Select the visible segment before."""
        self.selectSegmentAtOffset(-1)

    def selectNextSegment(self) -> None:
        """Select the visible segment after."""
        self.selectSegmentAtOffset(1)

    def selectSegmentAtOffset(self, offset: int) -> None:
        """Select another visible segment: after the last comes the first, before the first comes none."""
        row, count = self._table.currentRow(), self._table.count()
        if self._segmentation is None or not self._table.selectedItems():
            return
        for _try in range(count):
            row = (row + offset) % count if row + offset >= 0 else 0
            segment_id = self._table.item(row).text()
            if self._segmentation.GetDisplayNode().GetSegmentVisibility(segment_id):
                self.setCurrentSegmentID(segment_id)
                return

    def _on_add(self) -> None:
        self._logic.AddEmptySegment("", 0)

    def _on_remove(self) -> None:
        self._logic.RemoveSelectedSegment()

    # Effects

    def activeEffect(self) -> Effect | None:
        """The effect that the mouse works with."""
        return self._active

    def setActiveEffect(self, effect: Effect | None) -> None:
        """Make an effect active, or none."""
        if self._node is not None:
            self._node.SetActiveEffectName(effect.objectName() if effect is not None else "")

    def setActiveEffectByName(self, name: str | None) -> None:
        """Make an effect active; a name that no effect has means none."""
        self.setActiveEffect(self._effects.get(name))

    def _update_effect(self) -> None:
        effect = self._effects.get(self._node.GetActiveEffectName())
        if effect is self._active:
            return
        if effect is not None and not self._make_labelmap():
            effect = None
        if effect is not None:
            self.setupViewObservations()
        else:
            self.removeViewObservations()
        for name, button in self._buttons.items():
            button.setChecked(name == (effect.objectName() if effect is not None else None))
        self._last, self._active = self._active, effect

    def _make_labelmap(self) -> bool:
        """Only binary labelmaps can be edited; the user is asked before other segments are converted."""
        if self._logic.CanTriviallyConvertSourceRepresentationToBinaryLabelMap():
            return self._logic.TrivialSetSourceRepresentationToBinaryLabelmap()
        if self._segmentation is None:
            proxy.errors.append(
                RuntimeError("Slicer 5.10 crashes where an effect is made active without segmentation.")
            )
            return False
        if not dialogs.answer("Change source representation to binary labelmap?"):
            return False
        return self._logic.SetSourceRepresentationToBinaryLabelMap()

    def setupViewObservations(self) -> None:
        """Listen to the views for the active effect."""
        manager = slicer.app.layoutManager()
        views = [manager.sliceWidget(name)._target.sliceView() for name in manager.sliceViewNames()]
        self.removeViewObservations()
        press = vtk.vtkCommand.LeftButtonPressEvent
        self._observers["views"] = [(v.interactor(), v.interactor().AddObserver(press, _nothing)) for v in views]

    def removeViewObservations(self) -> None:
        """Leave the views alone."""
        self._observe("views", None, {})

    # Undo

    def saveStateForUndo(self) -> None:
        """Keep the segments as they are; before a change."""
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        """Go back to the state before."""
        self._logic.Undo()

    def redo(self) -> None:
        """Go to the state after."""
        self._logic.Redo()

    def _update_undo(self) -> None:
        self._undo_button.setEnabled(self._logic.CanUndo() and not self._read_only)
        self._redo_button.setEnabled(self._logic.CanRedo() and not self._read_only)

    def setUndoEnabled(self, enabled: bool) -> None:
        """Show the buttons; what could be undone is forgotten. Hiding them alone does not stop undo by key or call."""
        if enabled:
            self._logic.ClearUndoState()
        self._undo_redo.setVisible(enabled)

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        """Set how many states are kept; 0 keeps none."""
        self._logic.SetMaximumNumberOfUndoStates(count)

    def setReadOnly(self, read_only: bool) -> None:
        """Allow no editing."""
        self._read_only = read_only
        if read_only:
            self.setActiveEffect(None)
        self.updateWidgetFromMRML()

    # Keys

    def installKeyboardShortcuts(self, parent: QtWidgets.QWidget | None = None) -> None:
        """Let keys choose effects and segments in a widget's whole window, by default the main window."""
        self.uninstallKeyboardShortcuts()
        self._shortcuts = segment_shortcuts.install(self, parent or unwrap(slicer.util.mainWindow()))

    def uninstallKeyboardShortcuts(self) -> None:
        """Give the keys back."""
        for shortcut in filter(Shiboken.isValid, self._shortcuts):
            Shiboken.delete(shortcut)
        self._shortcuts = []

    def toggleSourceVolumeIntensityMaskEnabled(self) -> None:
        """Edit in a range of intensities only, or anywhere."""
        self._logic.ToggleSourceVolumeIntensityMask()

    undoEnabled = Property(bool, lambda self: self._undo_redo.isVisible(), setUndoEnabled)
    maximumNumberOfUndoStates = Property(
        int, lambda self: self._logic.GetMaximumNumberOfUndoStates(), setMaximumNumberOfUndoStates
    )
    readOnly = Property(bool, lambda self: self._read_only, setReadOnly)


@contextmanager
def _one_event(node: Any) -> Iterator[None]:
    """A node's changes are told once, at the end."""
    was = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(was)


def _choose(selector: qMRMLNodeComboBox, node: Any) -> None:
    """Choose a node without telling."""
    with QtCore.QSignalBlocker(selector):
        selector.setCurrentNode(node)


def _id(node: Any) -> str:
    return node.GetID() if node is not None else ""


def _nothing(_caller: Any, _event: str) -> None:
    """What effects do with the mouse is `Desktop.paint`'s to do."""


SLICER = {"qMRMLSegmentEditorWidget": qMRMLSegmentEditorWidget}
