"""The application: scene, module manager, modules. They have nothing that the real ones lack."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from desktop import api, views
from desktop.proxy import QtClass, wrap
from desktop.qt_module import Settings


class _Signals(QtCore.QObject):
    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    moduleAboutToBeUnloaded = QtCore.Signal(str)


_signals = _Signals()


class Connectable(api.Strict):
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


class Application(Connectable):
    """qSlicerApplication."""

    API = "qSlicerApplication"
    SIGNALS = ("startupCompleted()", "aboutToQuit()")
    applicationName = "Slicer"
    majorVersion, minorVersion = 5, 13

    def __init__(self) -> None:
        self.temporaryPath = tempfile.mkdtemp(prefix="desktop-")
        self._modules = ModuleManager()
        self._window = views.qSlicerMainWindow()
        self._layouts = views.LayoutManager(self._window)

    def __getattr__(self, name: str) -> Any:
        """What Qt's own application has is real."""
        if name.startswith("_") or not hasattr(QtWidgets.QApplication, name):
            return super().__getattr__(name)
        return getattr(wrap(QtWidgets.QApplication.instance()), name)

    def layoutManager(self) -> views.LayoutManager:
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
