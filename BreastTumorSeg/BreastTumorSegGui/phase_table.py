"""The table of phases: one row a phase, and what is wrong with it in words right under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
from slicer.i18n import tr as _

from BreastTumorSegGui import exam_table
from BreastTumorSegGui.exam_table import Row
from BreastTumorSegLib.core.exam import Problem, TimeSource

NAME, TIME, SOURCE, GRID = range(4)
WIDTHS = {NAME: 74, TIME: 54, SOURCE: 80}
HEIGHTS = (110, 460)
"""Pixels: the table is as high as its rows, within these."""
FATAL, WARNING = "✖ ", "⚠ "


def source_words(source: TimeSource) -> str:
    """Where a time was read, in words short enough for a column."""
    return {
        TimeSource.ACQUISITION_DATE_TIME: _("acquisition date and time"),
        TimeSource.ACQUISITION_TIME: _("acquisition time"),
        TimeSource.TRIGGER_TIME: _("trigger time"),
        TimeSource.TEMPORAL_OFFSET: _("temporal offset"),
        TimeSource.TEMPORAL_POSITION: _("temporal position"),
        TimeSource.CONTENT_TIME: _("content time"),
        TimeSource.SERIES_TIME: _("series time"),
        TimeSource.SERIES_DESCRIPTION: _("series text TT="),
        TimeSource.MAMA_MIA: _("MAMA-MIA json"),
        TimeSource.NRRD: _("NRRD header"),
        TimeSource.SEQUENCE: _("sequence index"),
        TimeSource.MULTIVOLUME: _("frame labels"),
        TimeSource.USER: _("typed here"),
        TimeSource.ASSUMED: _("assumed"),
    }[source]


class PhaseTable:
    """Fills a table widget and tells what is edited and selected, by the number of the phase.

    Args:
        widget: The QTableWidget, with four columns.
        edited: Called with phase, column and the new text.
        selected: Called when another row is selected.
    """

    def __init__(
        self, widget: qt.QTableWidget, edited: Callable[[int, int, str], None], selected: Callable[[], None]
    ) -> None:
        self._widget = widget
        self._edited = edited
        self._phases: list[int] = []
        """The phase of each row of the widget."""
        self._rows: list[Row] = []
        for column, width in WIDTHS.items():
            widget.horizontalHeader().resizeSection(column, width)
        widget.connect("cellChanged(int,int)", self._on_cell)
        widget.connect("itemSelectionChanged()", selected)

    @property
    def current(self) -> int:
        """Number of the selected phase; -1 where none is."""
        items = self._widget.selectedItems()
        return self._phases[items[0].row()] if items else -1

    def select(self, phase: int) -> None:
        """Select a phase."""
        self._widget.selectRow(self._phases.index(phase))

    def show(self, rows: Sequence[Row], again: bool = False) -> None:
        """Show the phases and their problems. What is shown already stays, and with it a cell that is being edited.

        Args:
            again: Show them even so: a cell holds a text that was refused.
        """
        if list(rows) == self._rows and not again:
            return
        self._rows = list(rows)
        blocked = self._widget.blockSignals(True)
        self._widget.clearSpans()
        self._widget.setRowCount(0)
        self._phases = []
        for number, (row, problems) in enumerate(zip(rows, exam_table.problems_of(rows), strict=True)):
            self._add_phase(number, row)
            for problem in problems:
                self._add_problem(number, problem)
        self._widget.resizeRowsToContents()
        self._fit_height()
        self._widget.blockSignals(blocked)

    def _fit_height(self) -> None:
        """Without a scroll bar the columns have room for their texts."""
        widget = self._widget
        rows = sum(widget.rowHeight(index) for index in range(widget.rowCount))
        height = widget.horizontalHeader().sizeHint.height() + rows + 2 * widget.frameWidth
        widget.setFixedHeight(min(max(height, HEIGHTS[0]), HEIGHTS[1]))

    def _on_cell(self, index: int, column: int) -> None:
        self._edited(self._phases[index], column, self._widget.item(index, column).text())

    def _add_phase(self, number: int, row: Row) -> None:
        texts = (
            row.name,
            f"{row.time:.1f}".removesuffix(".0"),
            source_words(row.source),
            exam_table.grid_text(row.geometry),
        )
        index = self._add_row(number)
        for column, text in enumerate(texts):
            self._set(index, column, text, editable=column in (NAME, TIME))

    def _add_problem(self, number: int, problem: Problem) -> None:
        index = self._add_row(number)
        self._set(index, NAME, (FATAL if problem.fatal else WARNING) + str(problem), editable=False)
        self._widget.setSpan(index, NAME, 1, GRID + 1)

    def _add_row(self, number: int) -> int:
        self._phases.append(number)
        self._widget.insertRow(len(self._phases) - 1)
        return len(self._phases) - 1

    def _set(self, index: int, column: int, text: str, editable: bool) -> None:
        item = qt.QTableWidgetItem(text)
        item.setToolTip(text)
        if not editable:
            item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
        self._widget.setItem(index, column, item)
