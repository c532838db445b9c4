"""The Segment Editor's effects: parameters, undo and writing are real, options and cursors are not drawn."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore
from PySide6.QtCore import Property

_LOGIC = slicer.vtkSlicerSegmentEditorLogic
SCRIPTED = "qSlicerSegmentEditorScriptedEffect"
SCRIPTED_LABEL = "qSlicerSegmentEditorScriptedLabelEffect"
CLASSES = {
    "Threshold": SCRIPTED,
    "Paint": "qSlicerSegmentEditorPaintEffect",
    "Draw": SCRIPTED_LABEL,
    "Erase": "qSlicerSegmentEditorEraseEffect",
    "Level tracing": SCRIPTED_LABEL,
    "Grow from seeds": SCRIPTED,
    "Fill between slices": SCRIPTED,
    "Margin": SCRIPTED,
    "Hollow": SCRIPTED,
    "Smoothing": "qSlicerSegmentEditorScriptedPaintEffect",
    "Scissors": "qSlicerSegmentEditorScissorsEffect",
    "Islands": SCRIPTED,
    "Logical operators": SCRIPTED,
    "Mask volume": SCRIPTED,
}
"""Slicer's own effects in the order of their buttons, and their classes."""
OF_ALL_SEGMENTS = ("Grow from seeds", "Fill between slices")
BRUSH = {
    "BrushMinimumAbsoluteDiameter": "0.01",
    "BrushMaximumAbsoluteDiameter": "100",
    "BrushAbsoluteDiameter": "5",
    "BrushRelativeDiameter": "3",
    "BrushDiameterIsRelative": "1",
    "BrushSphere": "0",
    "EditIn3DViews": "0",
    "BrushPixelMode": "0",
}
"""Common defaults of Paint and Erase, qSlicerSegmentEditorPaintEffect::setMRMLDefaults."""


class Effect(QtCore.QObject):
    """qSlicerSegmentEditorAbstractEffect."""

    API = "qSlicerSegmentEditorAbstractEffect"
    ModificationModeSet = _LOGIC.ModificationModeSet
    ModificationModeAdd = _LOGIC.ModificationModeAdd
    ModificationModeRemove = _LOGIC.ModificationModeRemove
    ModificationModeRemoveAll = _LOGIC.ModificationModeRemoveAll

    def __init__(self, editor: Any, name: str) -> None:
        super().__init__(editor)
        self.setObjectName(name)
        self._editor = editor

    def parameterSetNode(self) -> Any:
        """The segment editor node, where parameters are."""
        return self._editor.mrmlSegmentEditorNode()

    def active(self) -> bool:
        """Whether this is the active effect."""
        return self._editor.activeEffect() is self

    def parameterDefined(self, name: str) -> bool:
        """Whether a parameter of this effect is set."""
        node = self.parameterSetNode()
        return bool(node and node.GetAttribute(f"{self.objectName()}.{name}"))

    def parameter(self, name: str) -> str:
        """A parameter of this effect, else the common one; "" and a complaint in the log where there is none."""
        node = self.parameterSetNode()
        value = node and (node.GetAttribute(f"{self.objectName()}.{name}") or node.GetAttribute(name))
        if value is None:
            QtCore.qCritical(f"Parameter named {name} cannot be found for effect {self.objectName()}")
        return value or ""

    def integerParameter(self, name: str) -> int:
        """A parameter as a number; 0 where it is none."""
        return int(self.doubleParameter(name))

    def doubleParameter(self, name: str) -> float:
        """A parameter as a number; 0 where it is none."""
        value, valid = QtCore.QLocale.c().toDouble(self.parameter(name))
        return value if valid else 0.0

    def setParameter(self, name: str, value: Any) -> None:
        """Set a parameter of this effect."""
        self.setCommonParameter(f"{self.objectName()}.{name}", value)

    def setCommonParameter(self, name: str, value: Any) -> None:
        """Set a parameter that effects share."""
        text, node = str(value), self.parameterSetNode()
        if node is None:
            QtCore.qCritical(f"Invalid segment editor parameter set node set to effect {self.objectName()}")
            return
        if (node.GetAttribute(name) or "") == text:
            return
        disabled = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(disabled)
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def saveStateForUndo(self) -> None:
        """Keep the segments as they are; before a change."""
        self._editor.saveStateForUndo()

    def selectEffect(self, name: str) -> None:
        """Make another effect active."""
        self._editor.setActiveEffectByName(name)

    def defaultModifierLabelmap(self) -> Any:
        """An empty labelmap on the reference geometry, to paint into."""
        logic = self._editor._logic
        return logic.GetModifierLabelmap() if logic.ResetModifierLabelmapToDefault() else None

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, bypassMasking: bool = False) -> None:
        """Change the selected segment, and by the masking settings others."""
        node, everything = self.parameterSetNode(), (0, -1, 0, -1, 0, -1)
        self._editor._logic.ModifySegmentByLabelmap(
            node.GetSegmentationNode(),
            node.GetSelectedSegmentID() or "",
            labelmap,
            mode,
            everything,
            self._per_segment(),
            bypassMasking,
        )

    def _per_segment(self) -> bool:
        return self.objectName() not in OF_ALL_SEGMENTS

    name = Property(str, lambda self: self.objectName())
    title = Property(str, lambda self: self.objectName())
    perSegment = Property(bool, _per_segment)
    requireSegments = Property(bool, lambda self: True)


def make_effects(editor: Any) -> dict[str, Effect]:
    """Effects of an editor by name."""
    return {
        name: type(real.removeprefix("qSlicerSegmentEditor"), (Effect,), {"API": real})(editor, name)
        for name, real in CLASSES.items()
    }
