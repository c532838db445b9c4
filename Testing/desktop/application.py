"""The application: scene, module manager, layout manager, views. They have nothing that the real ones lack."""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ElementTree
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from desktop import api
from desktop.proxy import QtClass, wrap
from desktop.qt_module import Settings

PLANES = ("Red", "Yellow", "Green")


class Strict:
    """Says of a missing member whether the real class has it."""

    API = ""

    def __getattr__(self, name: str) -> Any:
        if name in api.members(self.API):
            raise NotImplementedError(f"{self.API}.{name} is real, but the stand-in lacks it.")
        raise AttributeError(f"{self.API} has no member {name!r}, by slicer_api.json.")


class _Signals(QtCore.QObject):
    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    moduleAboutToBeUnloaded = QtCore.Signal(str)


_signals = _Signals()


class Connectable(Strict):
    """Passes on the application's signals."""

    SIGNALS: tuple[str, ...] = ()

    def connect(self, signature: str, function: Any) -> bool:
        """Connect a signal by its C++ signature."""
        if signature not in self.SIGNALS:
            raise AttributeError(f"{self.API} has no signal {signature}.")
        return wrap(_signals).connect(signature, function)

    def disconnect(self, signature: str, function: Any) -> bool:
        """Undo `connect`."""
        return wrap(_signals).disconnect(signature, function)


class ModuleManager(Connectable):
    """qSlicerModuleManager."""

    API = "qSlicerModuleManager"
    SIGNALS = ("moduleAboutToBeUnloaded(QString)",)


class SliceWidget(Strict):
    """qMRMLSliceWidget: the slice logic with its nodes is real, the picture is not drawn."""

    API = "qMRMLSliceWidget"

    def __init__(self, name: str, orientation: str) -> None:
        node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode") or _new_view_node("vtkMRMLSliceNode", name)
        node.SetOrientation(orientation)
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        self._logic = logic
        self._view = SliceView()

    def sliceView(self) -> SliceView:
        """Where the slice is drawn."""
        return self._view

    def sliceLogic(self) -> Any:
        """The view's logic."""
        return self._logic

    def mrmlSliceNode(self) -> Any:
        """The view's node."""
        return self._logic.GetSliceNode()


def _new_view_node(kind: str, name: str) -> Any:
    node = slicer.mrmlScene.CreateNodeByClass(kind)
    node.UnRegister(None)
    node.SetName(name)
    node.SetLayoutName(name)
    node.SetSingletonTag(name)
    return slicer.mrmlScene.AddNode(node)


class SliceView(Strict):
    """qMRMLSliceView: takes events, draws nothing."""

    API = "qMRMLSliceView"

    def __init__(self) -> None:
        self._interactor = vtk.vtkRenderWindowInteractor()

    def interactor(self) -> Any:
        """What the mouse's events come from."""
        return self._interactor


class PlotWidget(Strict):
    """qMRMLPlotWidget: the node is real, the chart is not drawn."""

    API = "qMRMLPlotWidget"

    def __init__(self, name: str) -> None:
        self._node = _new_view_node("vtkMRMLPlotViewNode", name)

    def mrmlPlotViewNode(self) -> Any:
        """The view's node."""
        return self._node


class LayoutManager(Strict):
    """qSlicerLayoutManager: makes the slice views that a layout's description names."""

    API = "qSlicerLayoutManager"

    def __init__(self) -> None:
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._widgets: dict[str, SliceWidget] = {}
        self._plots: dict[str, PlotWidget] = {}
        for name, orientation in zip(PLANES, ("Axial", "Sagittal", "Coronal"), strict=True):
            self._widgets[name] = SliceWidget(name, orientation)

    @property
    def layout(self) -> int:
        """The layout's id."""
        return self._logic.GetLayoutNode().GetViewArrangement()

    def layoutLogic(self) -> Any:
        """The logic, real."""
        return self._logic

    def setLayout(self, layout_id: int) -> None:
        """Show a layout; it must be described."""
        node = self._logic.GetLayoutNode()
        if not node.IsLayoutDescription(layout_id):
            raise ValueError(f"No layout {layout_id} is described.")
        node.SetViewArrangement(layout_id)
        for view in ElementTree.fromstring(node.GetLayoutDescription(layout_id)).iter("view"):
            name, orientation = view.get("singletontag"), view.findtext("property[@name='orientation']")
            if view.get("class") == "vtkMRMLSliceNode" and name not in self._widgets:
                self._widgets[name] = SliceWidget(name, orientation)
            if view.get("class") == "vtkMRMLPlotViewNode" and name not in self._plots:
                self._plots[name] = PlotWidget(name)

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the slice views."""
        return tuple(self._widgets)

    def plotWidget(self, index: int) -> PlotWidget:
        """A plot view by its place."""
        return list(self._plots.values())[index]

    def sliceWidget(self, name: str) -> SliceWidget | None:
        """A slice view by name."""
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        """The slice views' logics, as a vtkCollection."""
        logics = vtk.vtkCollection()
        for widget in self._widgets.values():
            logics.AddItem(widget.sliceLogic())
        return logics

    def resetSliceViews(self) -> None:
        """Fit all slice views."""
        for widget in self._widgets.values():
            widget.sliceLogic().FitSliceToAll()


class Application(Connectable):
    """qSlicerApplication."""

    API = "qSlicerApplication"
    SIGNALS = ("startupCompleted()", "aboutToQuit()")
    applicationName = "Slicer"
    majorVersion, minorVersion = 5, 13

    def __init__(self) -> None:
        self.temporaryPath = tempfile.mkdtemp(prefix="desktop-")
        self._modules = ModuleManager()
        self._layouts = LayoutManager()

    def __getattr__(self, name: str) -> Any:
        """What Qt's own application has is real."""
        if name.startswith("_") or not hasattr(QtWidgets.QApplication, name):
            return super().__getattr__(name)
        return getattr(wrap(QtWidgets.QApplication.instance()), name)

    def layoutManager(self) -> LayoutManager:
        """The views."""
        return self._layouts

    def moduleManager(self) -> ModuleManager:
        """The modules."""
        return self._modules

    def testingEnabled(self) -> bool:
        """False: dialogs are shown, and answered by the test."""
        return False

    def settings(self) -> Any:
        """Settings of the tests."""
        return QtClass(Settings)()

    userSettings = settings

    def clipboard(self) -> Any:
        """The clipboard."""
        return wrap(QtWidgets.QApplication.clipboard())

    def processEvents(self) -> None:
        """Serve the event loop once."""
        QtWidgets.QApplication.processEvents()

    def startupEnvironment(self) -> dict[str, str]:
        """The environment that Slicer was started in."""
        return dict(os.environ)

    def pauseRender(self) -> None:
        """Nothing is drawn."""

    def resumeRender(self) -> None:
        """Nothing is drawn."""


class LogicOfModule:
    """One of Slicer's own modules: its logic is the real one."""

    def __init__(self, logic: Any) -> None:
        self._logic = logic

    def logic(self) -> Any:
        """The module's logic."""
        return self._logic


class Modules:
    """`slicer.modules`: what tests and slicer.util ask for."""

    def __init__(self) -> None:
        logics = {
            "volumes": slicer.vtkSlicerVolumesLogic(),
            "segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
            "sequences": slicer.vtkSlicerSequencesLogic(),
        }
        for name, logic in logics.items():
            logic.SetMRMLScene(slicer.mrmlScene)  # registers the module's nodes, too
            setattr(self, name, LogicOfModule(logic))


def new_scene() -> Any:
    """A scene with the singletons that Slicer's has at its start."""
    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkMRMLApplicationLogic()
    application_logic.SetMRMLScene(scene)
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    scene._logics = (application_logic, colors)  # alive as long as the scene
    for kind in ("vtkMRMLCrosshairNode", "vtkMRMLViewNode", "vtkMRMLCameraNode"):
        node = scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        if kind != "vtkMRMLCameraNode":
            node.SetSingletonTag("default" if kind == "vtkMRMLCrosshairNode" else "1")
        scene.AddNode(node)
    scene.AddObserver(scene.NodeAddedEvent, _show_in_hierarchy)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, _take_from_hierarchy)
    return scene


@vtk.calldata_type(vtk.VTK_OBJECT)
def _show_in_hierarchy(scene: Any, _event: str, node: Any) -> None:
    """Give a new node its item in the subject hierarchy, as qSlicerSubjectHierarchyPluginLogic does."""
    if node.IsA("vtkMRMLStorableNode") and not node.GetHideFromEditors():
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _take_from_hierarchy(scene: Any, _event: str, node: Any) -> None:
    if node.IsA("vtkMRMLStorableNode"):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        item = hierarchy.GetItemByDataNode(node)
        if item != hierarchy.GetInvalidItemID():
            hierarchy.RemoveItem(item, False, False)
