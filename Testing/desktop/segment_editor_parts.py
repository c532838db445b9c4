"""What qMRMLSegmentEditorWidget consists of; what it does is in `segment_editor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property
from shiboken6 import Shiboken

from desktop.segment_effects import CLASSES, Effect, make_effects
from desktop.widgets import qMRMLNodeComboBox, qMRMLSegmentationShow3DButton, qMRMLWidget


def _part(name: str) -> tuple[Property, Callable[[Any, bool], None]]:
    """A property that shows a part of the widget, and its setter. It reads False while the widget itself is hidden."""

    def show(self: Any, visible: bool) -> None:
        getattr(self, name).setVisible(visible)

    return Property(bool, lambda self: getattr(self, name).isVisible(), show), show


def _option(name: str, default: Any) -> tuple[Property, Callable[[Any, Any], None]]:
    """A property that is only kept, and its setter."""

    def keep(self: Any, value: Any) -> None:
        self._options[name] = value

    return Property(type(default), lambda self: self._options.get(name, default), keep), keep


class EditorParts(qMRMLWidget):
    """The editor's selectors, buttons and list of segments, its options, and what it observes."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._options: dict[str, Any] = {}
        self._observers: dict[str, list[tuple[Any, int]]] = {}
        self._effects: dict[str, Effect] = make_effects(self)
        self._order = list(CLASSES)
        self._build()
        self.updateEffectList()

    def _build(self) -> None:
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._segmentations = self._selector("SegmentationNodeComboBox", "vtkMRMLSegmentationNode", False)
        self._volumes = self._selector("SourceVolumeNodeComboBox", "vtkMRMLScalarVolumeNode", True)
        self._segmentations.currentNodeChanged.connect(self._on_segmentation_chosen)
        self._volumes.currentNodeChanged.connect(self._on_volume_chosen)
        self._add_remove = QtWidgets.QWidget(self)
        self._show_3d = qMRMLSegmentationShow3DButton(self)
        self._switch = QtWidgets.QToolButton(self)
        self._undo_redo = QtWidgets.QFrame(self)
        self._table = QtWidgets.QListWidget(self)
        self._table.setObjectName("SegmentsTableView")
        self._table.itemSelectionChanged.connect(self._on_segment_chosen)
        self._effects_box = QtWidgets.QFrame(self)
        self._add_effect_buttons()
        self._undo_button = _button(self._undo_redo, "UndoButton", "Undo", self.undo)
        self._redo_button = _button(self._undo_redo, "RedoButton", "Redo", self.redo)
        self._add_button = _button(self._add_remove, "AddSegmentButton", "Add", self._on_add)
        self._remove_button = _button(self._add_remove, "RemoveSegmentButton", "Remove", self._on_remove)
        rows = (self._segmentations, self._volumes, self._add_remove, self._show_3d, self._switch, self._effects_box)
        for part in (*rows, self._undo_redo, self._table):
            layout.addWidget(part)

    def _selector(self, name: str, node_type: str, none: bool) -> qMRMLNodeComboBox:
        selector = qMRMLNodeComboBox(self)
        selector.setObjectName(name)
        selector.noneEnabled = none
        selector.nodeTypes = [node_type]
        return selector

    def _add_effect_buttons(self) -> None:
        grid = QtWidgets.QGridLayout(self._effects_box)
        self._buttons = {}
        for index, name in enumerate((None, *self._effects)):
            button = QtWidgets.QToolButton(self._effects_box)
            button.setObjectName(name or "NULL")
            button.setText(name or "None")
            button.setCheckable(True)
            button.clicked.connect(lambda _on=False, name=name: self.setActiveEffectByName(name))
            grid.addWidget(button, index // 2, index % 2)
            self._buttons[name] = button

    def availableEffectNames(self) -> tuple[str, ...]:
        """Names of all effects."""
        return tuple(self._effects)

    def effectByName(self, name: str) -> Effect | None:
        """An effect; None where there is none of this name."""
        return self._effects.get(name)

    def setEffectNameOrder(self, names: list[str]) -> None:
        """Set which effects come first."""
        self._order = list(names)
        self.updateEffectList()

    def effectNameOrder(self) -> tuple[str, ...]:
        """Which effects come first."""
        return tuple(self._order)

    def updateEffectList(self) -> None:
        """Show the buttons of the effects that are asked for."""
        for name, button in self._buttons.items():
            button.setVisible(name in self._displayed())

    def _show_unordered(self, visible: bool) -> None:
        self._options["unordered"] = visible
        self.updateEffectList()

    def _displayed(self) -> list[str | None]:
        named = [name for name in self._order if name in self._effects]
        others = [name for name in self._effects if name not in named] if self.unorderedEffectsVisible else []
        return [None, *named, *others]

    def effectByIndex(self, index: int) -> Effect | None:
        """The effect of a button by its place; the first is no effect."""
        names = self._displayed()
        return self._effects.get(names[index]) if 0 <= index < len(names) else None

    def effectCount(self) -> int:
        """How many buttons there are."""
        return len(self._displayed())

    def _observe(self, what: str, target: Any, slots: dict[Any, Callable[[], None]]) -> None:
        """Observe one object in the place of the one before."""
        for before, tag in self._observers.pop(what, ()):
            before.RemoveObserver(tag)
        if target is not None:
            self._observers[what] = [(target, target.AddObserver(event, self._call(f))) for event, f in slots.items()]

    def _call(self, slot: Callable[[], None]) -> Callable[[Any, str], None]:
        """A slot that is left out once the widget is deleted."""
        return lambda _caller, _event: slot() if Shiboken.isValid(self) else None

    segmentationNodeSelectorVisible, setSegmentationNodeSelectorVisible = _part("_segmentations")
    sourceVolumeNodeSelectorVisible, setSourceVolumeNodeSelectorVisible = _part("_volumes")
    switchToSegmentationsButtonVisible, setSwitchToSegmentationsButtonVisible = _part("_switch")
    addRemoveSegmentButtonsVisible, setAddRemoveSegmentButtonsVisible = _part("_add_remove")
    show3DButtonVisible, setShow3DButtonVisible = _part("_show_3d")
    maskingSectionVisible, setMaskingSectionVisible = _option("maskingSectionVisible", True)
    specifyGeometryButtonVisible, setSpecifyGeometryButtonVisible = _option("specifyGeometryButtonVisible", True)
    autoShowSourceVolumeNode, setAutoShowSourceVolumeNode = _option("autoShowSourceVolumeNode", True)
    jumpToSelectedSegmentEnabled, setJumpToSelectedSegmentEnabled = _option("jumpToSelectedSegmentEnabled", False)
    effectColumnCount, setEffectColumnCount = _option("effectColumnCount", 2)
    unorderedEffectsVisible = Property(
        bool, lambda self: self._options.get("unordered", True), lambda self, visible: self._show_unordered(visible)
    )


def _button(parent: QtWidgets.QWidget, name: str, text: str, slot: Callable[[], None]) -> QtWidgets.QToolButton:
    button = QtWidgets.QToolButton(parent)
    button.setObjectName(name)
    button.setText(text)
    button.clicked.connect(lambda _on=False: slot())
    (parent.layout() or QtWidgets.QHBoxLayout(parent)).addWidget(button)
    return button
