"""`slicer.ScriptedLoadableModule`: the base classes of a scripted module, as far as ours uses them."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import slicer

from desktop import api
from desktop.proxy import wrap


class ModuleParent:
    """The C++ side of a module: takes only the properties that it has."""

    def __init__(self, path: Path) -> None:
        object.__setattr__(self, "path", str(path))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in api.members("qSlicerScriptedLoadableModule"):
            raise AttributeError(f"qSlicerScriptedLoadableModule has no property {name!r}.")
        object.__setattr__(self, name, value)

    def widgetRepresentation(self) -> Any:
        """What the module's widget lives in."""
        return slicer.modules.__dict__[f"{Path(self.path).stem}Widget"].parent


class ScriptedLoadableModule:
    """Base of the class that declares a module."""

    def __init__(self, parent: ModuleParent) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    """Base of a module's widget."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.layout = wrap(parent._target.layout())
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        """A file in the module's Resources."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Build the widget."""

    def cleanup(self) -> None:
        """The widget goes."""

    def onReload(self) -> None:
        """Reload the module."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            manager = slicer.app.moduleManager()
            manager.disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Base of a module's logic."""

    def __init__(self) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        """The module's parameter node; made where there is none."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetModuleName(self.moduleName)
        node.SetName(self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's self test."""

    def delayDisplay(self, message: str, msec: int = 0) -> None:
        """Tell what is going on."""

    def runTest(self) -> None:
        """The test."""
