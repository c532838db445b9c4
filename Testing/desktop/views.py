"""The main window and the views in it: slice views take events and the focus, nothing is drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import slicer
import vtk
from PySide6 import QtWidgets
from PySide6.QtCore import Qt

from desktop import api
from desktop.proxy import Proxy, wrap
from desktop.widgets import qMRMLWidget

PLANES = ("Red", "Yellow", "Green")


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The module's panel at the side, the views in the middle. `slicer.util.mainWindow` finds it by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._views = QtWidgets.QWidget()
        QtWidgets.QHBoxLayout(self._views)
        self.setCentralWidget(self._views)
        self._area = QtWidgets.QScrollArea()
        dock = QtWidgets.QDockWidget(self)
        dock.setObjectName("PanelDockWidget")
        dock.setWidget(self._area)
        self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self.resize(1000, 700)
        self.show()

    def _show_panel(self, panel: QtWidgets.QWidget) -> None:
        self._area.setWidgetResizable(True)
        self._area.setWidget(panel)

    def _resize_panel(self, width: int, height: int) -> None:
        """For a picture: the whole panel, however little of it the window shows."""
        self._area.setWidgetResizable(False)
        self._area.widget().resize(width, height)


class SliceView(QtWidgets.QWidget):
    """qMRMLSliceView: takes events, draws nothing. The focus is its VTK widget's, as in Slicer."""

    API = "qMRMLSliceView"

    def __init__(self, parent: QtWidgets.QWidget, node: Any) -> None:
        super().__init__(parent)
        drawn = QtWidgets.QWidget(self)
        drawn.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        QtWidgets.QVBoxLayout(self).addWidget(drawn)
        self._node = node
        self._interactor = vtk.vtkRenderWindowInteractor()

    def interactor(self) -> Any:
        """What the mouse's events come from."""
        return self._interactor

    def mrmlSliceNode(self) -> Any:
        """The view's node."""
        return self._node


class SliceWidget(qMRMLWidget):
    """qMRMLSliceWidget: the slice logic with its nodes is real, the picture is not drawn."""

    API = "qMRMLSliceWidget"

    def __init__(self, name: str, orientation: str) -> None:
        super().__init__()
        node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode") or _new_view_node("vtkMRMLSliceNode", name)
        node.SetOrientation(orientation)
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        self._logic = logic
        self._view = SliceView(self, node)
        QtWidgets.QVBoxLayout(self).addWidget(self._view)
        self.setMRMLScene(slicer.mrmlScene)

    def sliceView(self) -> SliceView:
        """Where the slice is drawn."""
        return self._view

    def sliceLogic(self) -> Any:
        """The view's logic."""
        return self._logic

    def mrmlSliceNode(self) -> Any:
        """The view's node."""
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        """Which volumes the view shows."""
        return self._logic.GetSliceCompositeNode()


def _new_view_node(kind: str, name: str) -> Any:
    node = slicer.mrmlScene.CreateNodeByClass(kind)
    node.UnRegister(None)
    node.SetName(name)
    node.SetLayoutName(name)
    node.SetSingletonTag(name)
    return slicer.mrmlScene.AddNode(node)


class PlotWidget(api.Strict):
    """qMRMLPlotWidget: the node is real, the chart is not drawn."""

    API = "qMRMLPlotWidget"

    def __init__(self, name: str) -> None:
        self._node = _new_view_node("vtkMRMLPlotViewNode", name)

    def mrmlPlotViewNode(self) -> Any:
        """The view's node."""
        return self._node


class LayoutManager(api.Strict):
    """qSlicerLayoutManager: makes the slice views that a layout's description names."""

    API = "qSlicerLayoutManager"

    def __init__(self, window: qSlicerMainWindow) -> None:
        self._window = window
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._widgets: dict[str, SliceWidget] = {}
        self._plots: dict[str, PlotWidget] = {}
        for name, orientation in zip(PLANES, ("Axial", "Sagittal", "Coronal"), strict=True):
            self._add_slice_view(name, orientation)

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
                self._add_slice_view(name, orientation)
            if view.get("class") == "vtkMRMLPlotViewNode" and name not in self._plots:
                self._plots[name] = PlotWidget(name)

    def _add_slice_view(self, name: str, orientation: str) -> None:
        self._widgets[name] = SliceWidget(name, orientation)
        self._window._views.layout().addWidget(self._widgets[name])

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the slice views."""
        return tuple(self._widgets)

    def plotWidget(self, index: int) -> PlotWidget:
        """A plot view by its place."""
        return list(self._plots.values())[index]

    def sliceWidget(self, name: str) -> Proxy | None:
        """A slice view by name."""
        return wrap(self._widgets.get(name))

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
