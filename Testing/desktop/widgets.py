"""CTK's and Slicer's widgets, as far as the module uses them. `API` names the class of slicer_api.json."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal
from shiboken6 import Shiboken

NODE_TYPES = "QStringList"


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A titled section that hides what is in it."""

    API = "ctkCollapsibleButton"
    contentsCollapsed = Signal(bool)
    HEADER = 26

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._hidden: list[QtWidgets.QWidget] = []
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self.HEADER, 0, 0)
        self.clicked.connect(lambda: self._collapse(not self._collapsed))

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._apply()
        self.contentsCollapsed.emit(collapsed)

    def _apply(self) -> None:
        if self._collapsed:
            shown = [c for c in self.children() if isinstance(c, QtWidgets.QWidget) and not c.isHidden()]
            self._hidden += shown
            for child in shown:
                child.hide()
        else:
            for child in self._hidden:
                child.show()
            self._hidden = []
        self.setMaximumHeight(self.HEADER if self._collapsed else 16777215)
        self.updateGeometry()

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        """What a .ui file put in after it was collapsed is hidden, too."""
        self._apply()
        super().showEvent(event)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        """The title alone can be clicked."""
        return position.y() < self.HEADER

    def sizeHint(self) -> QtCore.QSize:
        """Title, and what is in it unless collapsed."""
        if self._collapsed or self.layout() is None:
            return QtCore.QSize(120, self.HEADER)
        return self.layout().totalSizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        """As `sizeHint`, at its narrowest."""
        if self._collapsed or self.layout() is None:
            return QtCore.QSize(60, self.HEADER)
        return self.layout().totalMinimumSize()

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        """A bar with an arrow and the title."""
        painter = QtGui.QPainter(self)
        bar = QtCore.QRect(0, 0, self.width(), self.HEADER - 4)
        painter.fillRect(bar, self.palette().color(QtGui.QPalette.ColorRole.Midlight))
        painter.drawText(
            bar.adjusted(8, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, ("▸ " if self._collapsed else "▾ ") + self.text()
        )

    collapsed = Property(bool, lambda self: self._collapsed, _collapse)


class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a menu."""

    API = "ctkMenuButton"


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path with a button to browse."""

    API = "ctkPathLineEdit"
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit(self)
        self._edit.textChanged.connect(self.currentPathChanged)
        browse = QtWidgets.QToolButton(self)
        browse.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        layout.addWidget(browse)

    def setCurrentPath(self, path: str) -> None:
        """Set the path."""
        self._edit.setText(path)

    currentPath = Property(str, lambda self: self._edit.text(), setCurrentPath, notify=currentPathChanged)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a box for its number."""

    API = "ctkSliderWidget"
    valueChanged = Signal(float)
    STEPS = 1000

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setMaximum(self.STEPS)
        self._box = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._moved)
        self._slider.sliderMoved.connect(
            lambda step: self._box.setValue(self._low() + step * self._span() / self.STEPS)
        )

    def setValue(self, value: float) -> None:
        """Set the value."""
        self._box.setValue(value)

    def _moved(self, value: float) -> None:
        self._slider.setValue(round(self.STEPS * (value - self._low()) / (self._span() or 1)))
        self.valueChanged.emit(value)

    def _low(self) -> float:
        return self._box.minimum()

    def _span(self) -> float:
        return self._box.maximum() - self._box.minimum()

    value = Property(float, lambda self: self._box.value(), setValue, notify=valueChanged)
    minimum = Property(float, lambda self: self._box.minimum(), lambda self, v: self._box.setMinimum(v))
    maximum = Property(float, lambda self: self._box.maximum(), lambda self, v: self._box.setMaximum(v))
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    decimals = Property(int, lambda self: self._box.decimals(), lambda self, v: self._box.setDecimals(v))


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    API = "qMRMLWidget"
    SIGNATURES: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene and tell it."""
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What a scripted module's widget lives in."""

    API = "qSlicerScriptedLoadableModuleWidget"

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._entered = False
        self._reload: Any = None

    def reload(self) -> None:
        """Make the Python widget anew."""
        self._reload()

    isEntered = Property(bool, lambda self: self._entered)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Chooses a node of the scene."""

    API = "qMRMLNodeComboBox"
    SIGNATURES: ClassVar = {"currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged"}
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._tags: list[int] = []
        self._types: list[str] = []
        self._filters: list[tuple[str, str, Any]] = []
        self._current = ""
        self._flags = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
            "showChildNodeTypes": True,
        }
        self._box = QtWidgets.QComboBox(self)
        self._box.activated.connect(lambda index: self.setCurrentNodeID(self._box.itemData(index) or ""))
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)

    def setMRMLScene(self, scene: Any) -> None:
        """Follow a scene's nodes."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        events = (
            (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent) if scene else ()
        )
        self._tags = [scene.AddObserver(event, self._on_scene) for event in events]
        self._update()

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """Offer nodes with this attribute only."""
        self._filters.append((node_type, name, value))
        self._update()

    def currentNode(self) -> Any:
        """The chosen node."""
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node, or none."""
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        """Choose a node by its ID; one that is not offered is ignored."""
        self._update()
        index = self._box.findData(node_id or None)
        if index < 0:
            return
        self._box.setCurrentIndex(index)
        if (node_id or "") != self._current:
            self._current = node_id or ""
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(self._current)

    def nodeCount(self) -> int:
        """How many nodes are offered."""
        return len(self._offered())

    def _on_scene(self, _scene: Any, _event: str) -> None:
        if Shiboken.isValid(self):
            self._update()

    def _offered(self) -> list[Any]:
        if self._scene is None or self._scene.IsClosing():
            return []
        nodes = [
            self._scene.GetNthNodeByClass(i, t)
            for t in self._types
            for i in range(self._scene.GetNumberOfNodesByClass(t))
        ]
        if not self._flags["showChildNodeTypes"]:
            nodes = [node for node in nodes if node.GetClassName() in self._types]
        return [node for node in nodes if not node.GetHideFromEditors() and all(_fits(node, *f) for f in self._filters)]

    def _update(self) -> None:
        nodes = self._offered()
        self._box.clear()
        if self._flags["noneEnabled"] or not nodes:
            self._box.addItem("None", None)
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        ids = [node.GetID() for node in nodes]
        wanted = self._current if self._current in ids else ("" if self._flags["noneEnabled"] or not ids else ids[0])
        self._box.setCurrentIndex(max(0, self._box.findData(wanted or None)))
        if wanted != self._current:
            self._current = wanted
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(wanted)

    def _set_types(self, types: list[str]) -> None:
        self._types = types
        self._update()

    def _flag(name: str) -> Any:  # noqa: N805
        return Property(bool, lambda self: self._flags[name], lambda self, value: self._flags.__setitem__(name, value))

    nodeTypes = Property(NODE_TYPES, lambda self: self._types, _set_types)
    noneEnabled, addEnabled = _flag("noneEnabled"), _flag("addEnabled")
    showChildNodeTypes = _flag("showChildNodeTypes")
    removeEnabled, renameEnabled = _flag("removeEnabled"), _flag("renameEnabled")
    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID)


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Checks any number of nodes."""

    API = "qMRMLCheckableNodeComboBox"
    checkedNodesChanged = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._checked: set[str] = set()

    def checkedNodes(self) -> list[Any]:
        """The checked nodes, in the order of the scene."""
        return [node for node in self._offered() if node.GetID() in self._checked]

    def check(self, node: Any) -> None:
        """Check a node."""
        self._checked.add(node.GetID())
        self._tell()

    def uncheck(self, node: Any) -> None:
        """Uncheck a node."""
        self._checked.discard(node.GetID())
        self._tell()

    def _tell(self) -> None:
        self._box.setItemText(0, ", ".join(node.GetName() for node in self.checkedNodes()) or "None")
        self.checkedNodesChanged.emit()


class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Shows a segmentation's surfaces."""

    API = "qMRMLSegmentationShow3DButton"

    def setSegmentationNode(self, node: Any) -> None:
        """Which segmentation."""
        self._node = node
        self.setEnabled(node is not None)

    def segmentationNode(self) -> Any:
        """Which segmentation."""
        return self._node


def _fits(node: Any, node_type: str, name: str, value: Any) -> bool:
    found = node.GetAttribute(name)
    return not node.IsA(node_type) or (found is not None and (value is None or found == str(value)))


CTK = {c.__name__: c for c in (ctkCollapsibleButton, ctkMenuButton, ctkPathLineEdit, ctkSliderWidget)}
SLICER = {
    c.__name__: c
    for c in (
        qMRMLWidget,
        qMRMLNodeComboBox,
        qMRMLCheckableNodeComboBox,
        qMRMLSegmentationShow3DButton,
        qSlicerScriptedLoadableModuleWidget,
    )
}
