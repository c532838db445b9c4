"""Where the user clicks in the slice views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk


class Clicks:
    """Hears left clicks in all slice views while it is switched on.

    Args:
        heard: Called with the position, RAS millimetres.
    """

    def __init__(self, heard: Callable[[list[float]], None]) -> None:
        self._heard = heard
        self._observed: list[tuple[Any, int]] = []

    def switch(self, on: bool) -> None:
        """Hear clicks, or let them be."""
        for interactor, tag in self._observed:
            interactor.RemoveObserver(tag)
        self._observed = []
        if on:
            manager = slicer.app.layoutManager()
            for name in manager.sliceViewNames():
                interactor = manager.sliceWidget(name).sliceView().interactor()
                tag = interactor.AddObserver(vtk.vtkCommand.LeftButtonPressEvent, self._on_click)
                self._observed.append((interactor, tag))

    def _on_click(self, _interactor: Any, _event: str) -> None:
        """The crosshair node knows where the mouse is."""
        position = [0.0, 0.0, 0.0]
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair.GetCursorPositionRAS(position):
            self._heard(position)
