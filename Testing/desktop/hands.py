"""What the user does with keyboard and mouse in the main window."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtTest, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from desktop.proxy import Proxy, unwrap


class Hands:
    """Keyboard and mouse of a desktop."""

    def press(self, key: str, focus: Proxy | None = None) -> None:
        """Press and release a key, such as "1" or "Ctrl+Z".

        It goes the way of a real one: a line edit takes what it can type, then shortcuts get it, then the widget.

        Args:
            focus: The widget to press it in; by default the one that has the focus, else the main window.
        """
        widget = unwrap(focus) or QtWidgets.QApplication.focusWidget() or unwrap(slicer.util.mainWindow())
        widget = _focus(widget)
        pressed = QtGui.QKeySequence(key)[0]
        QtTest.QTest.keyClick(widget, pressed.key(), pressed.keyboardModifiers())
        self.check()

    def paint(self, editor: Proxy, where: Any, erase: bool = False) -> None:
        """Make a stroke with the editor's active Paint or Erase effect.

        Args:
            editor: A qMRMLSegmentEditorWidget.
            where: What indexes an array (Z, Y, X) on the reference geometry: a mask, or slices.
            erase: Take away instead, as Paint does with its modifier key.
        """
        target = unwrap(editor)
        effect = target.activeEffect()
        name = effect.objectName() if effect is not None else None
        if name not in ("Paint", "Erase") or not target.currentSegmentID() or target.sourceVolumeNode() is None:
            raise AssertionError(
                f"Nothing can be painted: active effect {name}, segment {target.currentSegmentID()!r}."
            )
        effect.saveStateForUndo()
        stroke = effect.defaultModifierLabelmap()
        columns, rows, slices = stroke.GetDimensions()
        vtk_to_numpy(stroke.GetPointData().GetScalars()).reshape(slices, rows, columns)[where] = 1
        mode = effect.ModificationModeRemove if erase or name == "Erase" else effect.ModificationModeAdd
        effect.modifySelectedSegmentByLabelmap(stroke, mode)
        self.check()

    def move_cursor(self, ras: tuple[float, float, float]) -> None:
        """Move the mouse over a position in a view."""
        slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode").SetCursorPositionRAS(ras)
        self.check()

    def scroll(self, view: str = "Red", mm: float = 1.0) -> None:
        """Turn the mouse wheel over a slice view, by so many millimetres along its normal."""
        logic = slicer.app.layoutManager().sliceWidget(view).sliceLogic()
        logic.SetSliceOffset(logic.GetSliceOffset() + mm)
        self.check()


def _focus(widget: QtWidgets.QWidget) -> QtWidgets.QWidget:
    """Give a widget, or what is in it, the focus and its window the keyboard, as a click does. Gives who has it."""
    window = widget.window()
    window.activateWindow()
    for _try in range(20):
        QtWidgets.QApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
        if window.isActiveWindow():
            break
    else:
        raise AssertionError(f"The window of {widget.objectName()} did not get the keyboard.")
    inside = (widget, *widget.findChildren(QtWidgets.QWidget))
    taker = next((w for w in inside if w.focusPolicy() & QtCore.Qt.FocusPolicy.ClickFocus and w.isVisible()), widget)
    taker.setFocus()
    return taker
