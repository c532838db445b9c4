"""The Correct panel's tools: what is done to a lesion by a button, or by a button and a click into an image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from slicer.i18n import tr as _

from BreastTumorSegGui import scene
from BreastTumorSegGui.clicks import Clicks
from BreastTumorSegGui.reading import Reading
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.review import edits, growing, shapes

Edit = Callable[[np.ndarray, int], np.ndarray]
"""Gives the mask anew, from the mask and the chosen lesion's label."""
Index = tuple[int, int, int]


class Editing(Protocol):
    """Who applies edits, tells what can't be done, and lets all be undone."""

    def edit(self, edit: Edit, needs_lesion: bool = True) -> None:
        """Apply an edit."""

    def tell(self, text: str) -> None:
        """Say something."""


class LesionTools:
    """Wires the tools' buttons.

    Args:
        ui: The panel's widgets.
        reading: What is reviewed.
        editing: Applies the edits.
    """

    def __init__(self, ui: Any, reading: Reading, editing: Editing) -> None:
        self._ui = ui
        self._reading = reading
        self._editing = editing
        self._pending: tuple[Any, Callable[[np.ndarray, Index], np.ndarray]] | None = None
        self._clicks = Clicks(self._on_click)
        for button, edit in (
            (ui.growButton, lambda labels, label: shapes.resize(labels, label, self._grid, self._millimetres)),
            (ui.shrinkButton, lambda labels, label: shapes.resize(labels, label, self._grid, -self._millimetres)),
            (ui.fillButton, edits.fill_holes),
            (ui.smoothButton, lambda labels, label: shapes.smooth(labels, label, self._grid, self._millimetres)),
            (ui.splitButton, lambda labels, label: shapes.split(labels, label, self._grid)),
            (ui.thresholdButton, self._thresholded),
        ):
            button.connect("clicked()", lambda edit=edit: editing.edit(edit))
        for button, anew in ((ui.probabilityButton, self._from_probability), (ui.restartButton, self._automatic)):
            button.connect("clicked()", lambda anew=anew: editing.edit(anew, needs_lesion=False))
        for button, on_click in (
            (ui.keepButton, self._keep),
            (ui.removeButton, self._remove),
            (ui.addButton, self._add),
        ):
            button.connect(
                "clicked(bool)", lambda on, b=button, f=on_click: self._ask_for_click((b, f) if on else None)
            )

    def stop(self) -> None:
        """Let the views' clicks be."""
        self._ask_for_click(None)

    def suggest_threshold(self, labels: np.ndarray, label: int) -> None:
        """Offer what parts a lesion from its surroundings."""
        enhancement = self._reading.subject.enhancement
        self._ui.thresholdSlider.maximum = max(float(enhancement.max()), 1.0)
        with suppress(InputError):  # an empty lesion has none
            self._ui.thresholdSlider.value = growing.suggested_threshold(
                labels, label, enhancement, self._grid, self._millimetres
            )

    @property
    def _case(self) -> Any:
        return self._reading.subject.case

    @property
    def _grid(self) -> Any:
        return self._case.geometry

    @property
    def _millimetres(self) -> float:
        return self._ui.millimetreBox.value

    def _thresholded(self, labels: np.ndarray, label: int) -> np.ndarray:
        enhancement, low = self._reading.subject.enhancement, self._ui.thresholdSlider.value
        return growing.threshold_near(labels, label, enhancement, low, np.inf, self._grid, self._millimetres)

    def _from_probability(self, labels: np.ndarray, _label: int) -> np.ndarray:
        return edits.from_probability(labels, self._case.probability, self._ui.probabilitySlider.value)

    def _automatic(self, _labels: np.ndarray, _label: int) -> np.ndarray:
        return self._case.automatic

    def _ask_for_click(self, wanted: tuple[Any, Callable[[np.ndarray, Index], np.ndarray]] | None) -> None:
        """Wait for a click into a view, of one button at a time."""
        if self._pending is not None:
            self._pending[0].checked = False
        self._pending = wanted
        self._clicks.switch(wanted is not None)
        if wanted is not None:
            wanted[0].checked = True
            self._ui.editor.setActiveEffect(None)  # else the click would paint, too
            self._editing.tell(_("Click into an image."))

    def _on_click(self, position_ras: list[float]) -> None:
        index = scene.index_of(self._reading.subject.post, position_ras)
        _button, edit = self._pending
        self._ask_for_click(None)
        if index is not None:
            self._editing.edit(lambda labels, _label: edit(labels, index), needs_lesion=False)

    def _keep(self, labels: np.ndarray, index: Index) -> np.ndarray:
        return edits.keep_lesion(labels, self._clicked(labels, index))

    def _remove(self, labels: np.ndarray, index: Index) -> np.ndarray:
        return edits.remove_lesion(labels, self._clicked(labels, index))

    def _add(self, labels: np.ndarray, index: Index) -> np.ndarray:
        return growing.add_from_seed(labels, index, self._reading.subject.enhancement, self._case.breast, self._grid)

    def _clicked(self, labels: np.ndarray, index: Index) -> int:
        label = edits.lesion_at(labels, index, self._grid)
        if not label:
            raise InputError("There is no lesion where you clicked.", "Click into one.")
        return label
