"""The modules `qt` and `ctk` as PythonQt offers them: every class of Qt under one name."""

from __future__ import annotations

import tempfile
import types
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from desktop import dialogs, segment_editor, widgets
from desktop.proxy import Proxy, QtClass, unwrap, wrap

_QT = (QtCore, QtGui, QtWidgets)
SLICER = {**widgets.SLICER, **segment_editor.SLICER}
_SETTINGS = Path(tempfile.mkdtemp(prefix="desktop-settings-")) / "Slicer.ini"


class Settings(QtCore.QSettings):
    """Settings of the tests, never the user's."""

    def __init__(self) -> None:
        super().__init__(str(_SETTINGS), QtCore.QSettings.Format.IniFormat)


class UiLoader(QtUiTools.QUiLoader):
    """Loads .ui files, with CTK's and Slicer's widgets among Qt's."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget:
        """Make one widget of the file."""
        made = {**widgets.CTK, **SLICER}.get(class_name)
        if made is None:
            if class_name.startswith(("ctk", "qMRML", "qSlicer")):
                raise NotImplementedError(f"The stand-in lacks {class_name}.")
            return super().createWidget(class_name, parent, name)
        widget = made(parent)
        widget.setObjectName(name)
        return widget


def load_ui(file: QtCore.QFile) -> QtWidgets.QWidget:
    """The widget of a .ui file. Its connections are made here: those of vtk's types are unknown to PySide6."""
    root = ElementTree.fromstring(bytes(file.readAll().data()))
    connections = root.find("connections")
    found = list(connections) if connections is not None else []
    for connection in found:
        connections.remove(connection)
    data = QtCore.QBuffer()
    data.setData(ElementTree.tostring(root))
    data.open(QtCore.QBuffer.OpenModeFlag.ReadOnly)
    widget = UiLoader().load(data)
    for connection in found:
        sender, signal, receiver, slot = (
            connection.findtext(part) for part in ("sender", "signal", "receiver", "slot")
        )
        wrap(_named(widget, sender)).connect(signal, getattr(wrap(_named(widget, receiver)), slot.partition("(")[0]))
    return widget


def _named(widget: QtWidgets.QWidget, name: str) -> QtWidgets.QWidget:
    found = widget if widget.objectName() == name else widget.findChild(QtWidgets.QWidget, name)
    if found is None:
        raise ValueError(f"The .ui file connects {name!r}, which it does not have.")
    return found


class _Loader:
    """`qt.QUiLoader()`."""

    def load(self, file: Proxy) -> Proxy:
        """Load a .ui file."""
        return wrap(load_ui(unwrap(file)))


class QtModule(types.ModuleType):
    """Every class of QtCore, QtGui and QtWidgets."""

    QSettings = QtClass(Settings)
    QUiLoader = _Loader
    QFileDialog = dialogs.FileDialog
    Qt = QtCore.Qt

    def __getattr__(self, name: str) -> Any:
        return _qt_class(name)


@cache
def _qt_class(name: str) -> QtClass:
    for module in _QT:
        if hasattr(module, name) and not name.startswith("_"):
            return QtClass(getattr(module, name))
    raise AttributeError(f"Qt has no class {name!r}.")


class CtkModule(types.ModuleType):
    """CTK's widgets."""

    def __getattr__(self, name: str) -> Any:
        if name not in widgets.CTK:
            raise AttributeError(f"The stand-in lacks ctk.{name}.")
        return QtClass(widgets.CTK[name])
