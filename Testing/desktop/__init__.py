"""Stands in for Slicer's desktop, so that tests can press the module's buttons without one.

MRML and `slicer.util` are the real ones, from slicer-core. Qt is PySide6, offscreen. `qt`, `ctk`, the application, its
views and widgets, and the scripted module's base classes are stood in for here, as far as the module uses them; .ui
files are loaded for real.

It is strict: a property, signal, slot or method that the real class lacks raises at once. Of Slicer's and CTK's classes
`slicer_api.json` says what they have, of Qt's classes Qt itself (`proxy`, `api`). What is real but not made here raises
NotImplementedError. Nothing is drawn in views, and Qt is Qt 6.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from desktop import application, dialogs, parameter_node, proxy, qt_module, sample_data, scripted_module, views, widgets
from desktop.hands import Hands
from desktop.proxy import Proxy, QtClass, unwrap, wrap


class Desktop(Hands):
    """A running Slicer. One a process, since Qt allows one application only.

    Attributes:
        module: The widget class's instance of the open module.
    """

    def __init__(self) -> None:
        self._qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
        _use_a_font()
        _install_modules()
        self.module: Any = None
        self._parent: Any = None

    def reset(self) -> None:
        """A new scene, new views, and no module."""
        _close_windows()
        slicer.mrmlScene = application.new_scene()
        slicer.app = application.Application()
        slicer.modules = application.Modules()
        slicer.util.messageBox = dialogs.message_box
        for kept in (dialogs.answers, dialogs.messages, proxy.errors):
            kept.clear()
        qt_module.Settings().clear()
        self.module = self._parent = None

    def open_module(self, path: Path) -> Any:
        """Load a scripted module, open it, and give its widget."""
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        python = importlib.import_module(path.stem)
        module_parent = scripted_module.ModuleParent(path)
        module = getattr(python, path.stem)(module_parent)
        setattr(slicer.modules, path.stem.lower(), module_parent)
        setattr(slicer.modules, f"{path.stem}Instance", module)
        application._signals.startupCompleted.emit()
        self._parent = widgets.qSlicerScriptedLoadableModuleWidget()
        QtWidgets.QVBoxLayout(self._parent)
        slicer.app._window._show_panel(self._parent)
        self._parent.setMRMLScene(slicer.mrmlScene)
        self._parent._reload = lambda: self._make(path.stem)
        self._make(path.stem)
        return self.module

    def _make(self, name: str) -> None:
        self.module = getattr(sys.modules[name], f"{name}Widget")(wrap(self._parent))
        setattr(slicer.modules, f"{name}Widget", self.module)
        self.module.setup()
        self.enter()

    def enter(self) -> None:
        """The user opens the module."""
        self._parent._entered = True
        self._parent.show()
        self.module.enter()

    def leave(self) -> None:
        """The user opens another module."""
        self._parent._entered = False
        self.module.exit()
        self._parent.hide()

    def reload(self) -> None:
        """The developer presses Reload."""
        self.module.onReload()
        self.module = slicer.modules.__dict__[f"{self.module.moduleName}Widget"]

    def quit(self) -> None:
        """The user quits Slicer."""
        application._signals.aboutToQuit.emit()
        application._signals.moduleAboutToBeUnloaded.emit(self.module.moduleName)

    def close(self) -> None:
        """Take the module down after a test."""
        if self.module is not None:
            self.quit()
            self._parent.hide()
            self._parent.deleteLater()
            self.spin()

    def click(self, button: Proxy) -> None:
        """Press a button; one that can't be pressed is an error of the test."""
        target = unwrap(button)
        if not target.isEnabled() or not target.isVisible():
            raise AssertionError(f"{target.objectName()} can't be pressed: {target.toolTip()}")
        target.click()
        self.check()

    def answer_next(self, *answers: Any) -> None:
        """Answer the next dialogs, in their order: True or False, a path, or a list of paths."""
        dialogs.answers.extend(answers)

    def check(self) -> None:
        """Raise what a slot raised."""
        if proxy.errors:
            raise proxy.errors.pop(0)

    def spin(self) -> None:
        """Serve the event loop once."""
        self._qt.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
        self._qt.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Serve the event loop until something is so."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"Waited {timeout_s} s in vain.")
            self.spin()
            self.check()
            time.sleep(0.001)

    def screenshot(self, widget: Proxy, path: Path, width: int = 350) -> None:
        """A picture of a widget of the module, its panel so wide."""
        self.spin()  # layouts follow their contents
        target = unwrap(widget)
        panel = self._parent
        height = max(panel.layout().totalHeightForWidth(width), panel.minimumSizeHint().height())
        slicer.app._window._resize_panel(max(width, panel.minimumSizeHint().width()), height)
        self.spin()
        self.spin()
        path.parent.mkdir(parents=True, exist_ok=True)
        target.grab().save(str(path))

    def save_scene(self, folder: Path) -> Path:
        """Save the scene as the application does: every node's data beside the scene file."""
        scene = slicer.mrmlScene
        scene.SetRootDirectory(str(folder))
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
            _save_data(scene.GetNthNodeByClass(index, "vtkMRMLStorableNode"), folder)
        scene.SetURL(str(folder / "scene.mrml"))
        if not scene.Commit():
            raise OSError("The scene could not be saved.")
        return folder / "scene.mrml"

    def open_scene(self, path: Path) -> None:
        """Close the scene and open a file in its place."""
        slicer.mrmlScene.SetURL(str(path))
        if not slicer.mrmlScene.Connect():
            raise OSError("The scene could not be opened.")


class Heartbeat:
    """Measures the longest time in which the GUI thread did not serve its event loop.

    Attributes:
        longest: Seconds by the clock; a computer with more work than cores makes it longer.
        busiest: Seconds that the thread itself computed meanwhile.
    """

    def __enter__(self) -> Heartbeat:
        self.longest = self.busiest = 0.0
        self._last = self._now()
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(0)
        return self

    def _beat(self) -> None:
        now = self._now()
        self.longest = max(self.longest, now[0] - self._last[0])
        self.busiest = max(self.busiest, now[1] - self._last[1])
        self._last = now

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.thread_time()

    def __exit__(self, *_error: object) -> None:
        self._timer.stop()


def write_launcher(folder: Path) -> Path:
    """An executable PythonSlicer that starts Python as a process of its own and waits, as the real one does."""
    path = folder / "PythonSlicer"
    path.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" &\nwait $!\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def _save_data(node: Any, folder: Path) -> None:
    if node.GetHideFromEditors() or not node.GetSaveWithScene() or not node.GetModifiedSinceRead():
        return
    storage = node.GetStorageNode() or (node.AddDefaultStorageNode() and node.GetStorageNode())
    if storage is None:
        return
    storage.SetFileName(str(folder / f"{node.GetID()}.{storage.GetDefaultWriteFileExtension()}"))
    if not storage.WriteData(node):
        raise OSError(f"{node.GetName()} could not be saved.")


def _install_modules() -> None:
    """Put the stood-in modules where the module imports them from."""
    sys.modules["qt"] = qt_module.QtModule("qt")
    sys.modules["ctk"] = qt_module.CtkModule("ctk")
    translation = type(sys)("slicer.i18n")
    translation.tr = lambda text: text
    translation.translate = lambda _context, text: text
    for name, module in (
        ("i18n", translation),
        ("ScriptedLoadableModule", scripted_module),
        ("parameterNodeWrapper", parameter_node),
    ):
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    sys.modules["SampleData"] = sample_data
    for name, kind in qt_module.SLICER.items():
        setattr(slicer, name, QtClass(kind))


def _close_windows() -> None:
    """Main windows of earlier tests go."""
    for window in QtWidgets.QApplication.topLevelWidgets():
        if isinstance(window, views.qSlicerMainWindow):
            window.setObjectName("")  # slicer.util.mainWindow looks for the name
            window.hide()
            window.deleteLater()


def _use_a_font() -> None:
    """Qt offscreen has no font where the system has none; matplotlib brings one."""
    if not QtGui.QFontDatabase.families():
        import matplotlib

        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        QtGui.QFontDatabase.addApplicationFont(str(fonts / "DejaVuSans.ttf"))
    QtWidgets.QApplication.setFont(QtGui.QFont("DejaVu Sans", 9))
