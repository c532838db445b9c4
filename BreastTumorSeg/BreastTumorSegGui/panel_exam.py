"""The Exam panel: load phases, check their order and times, confirm them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import ask, derived, exam_table, layouts, scene
from BreastTumorSegGui.exam import Exam
from BreastTumorSegGui.exam_sources import ExamSources, Loaded
from BreastTumorSegGui.exam_table import Row
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.phase_table import NAME, TIME, PhaseTable
from BreastTumorSegGui.tasks import Progress, Task, Work, stage


class ExamPanel:
    """Wires the panel's widgets to an exam.

    Args:
        widget: The loaded ExamPanel.ui.
        exam: The exam in the scene.
        sources: Where phases come from.
    """

    def __init__(self, widget: qt.QWidget, exam: Exam, sources: ExamSources) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._exam = exam
        self._sources = sources
        self._task: Task | None = None
        self._table = PhaseTable(self.ui.phasesTable, self._on_edited, self._enable)
        self._connect()
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether something is being loaded or computed."""
        return self._task is not None

    def abandon(self) -> None:
        """End what is under way: the scene closes or the module goes."""
        if self._task is not None:
            self._task.abandon()
            self._task = None

    def refresh(self) -> None:
        """Show the exam as it is."""
        rows = self._exam.rows
        self._table.show(rows)
        shown = {str(problem) for problems in exam_table.problems_of(rows) for problem in problems}
        notes = [note for note in self._exam.notes if note not in shown] + exam_table.notes_of(rows)
        self.ui.notesLabel.text = "\n".join(notes)
        self.ui.notesLabel.visible = bool(notes)
        self._enable(rows)

    def load(self, work: Work) -> None:
        """Load an exam in the place of the one in the table."""
        self._start(work, self._loaded)

    def _connect(self) -> None:
        ui = self.ui
        clicks: dict[Any, Callable[[], None]] = {
            ui.loadFolderButton: self._on_folder,
            ui.loadFilesButton: self._on_files,
            ui.useVolumesButton: lambda: self.load(self._sources.from_volumes(ui.volumesSelector.checkedNodes())),
            ui.useSequenceButton: self._on_sequence,
            ui.cancelLoadingButton: lambda: self._task and self._task.cancel(),
            ui.upButton: lambda: self._move(-1),
            ui.downButton: lambda: self._move(1),
            ui.removeButton: self._on_remove,
            ui.confirmButton: self._on_confirm,
            ui.subtractButton: lambda: self._start(self._subtractions(), self._show_subtractions),
            ui.projectButton: lambda: self._start(self._projections(), layouts.show_projections),
            ui.breastLayoutButton: self._on_breast_layout,
            ui.compareButton: lambda: layouts.show_comparison([row.node for row in self._exam.rows]),
        }
        for button, action in clicks.items():
            button.connect("clicked()", action)
        ui.volumesSelector.connect("checkedNodesChanged()", self._enable)
        ui.sequenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda _node: self._enable())

    def _on_folder(self) -> None:
        folder = ask.for_folder(_("Folder of the exam"))
        if folder:
            self.load(self._sources.from_files([folder]))

    def _on_files(self) -> None:
        files = ask.for_volume_files(_("Files of the phases"))
        if files:
            self.load(self._sources.from_files(files))

    def _on_sequence(self) -> None:
        node = self.ui.sequenceSelector.currentNode()
        is_browser = node.IsA("vtkMRMLSequenceBrowserNode")
        self.load(self._sources.from_sequence(node) if is_browser else self._sources.from_multivolume(node))

    def _on_breast_layout(self) -> None:
        layouts.show_breast()
        scene.show(self._exam.first_post)

    def _on_edited(self, index: int, column: int, text: str) -> None:
        rows = self._exam.rows
        if column == NAME and text.strip():
            rows[index].node.SetName(text.strip())
        try:
            changed = exam_table.with_time(rows, index, text) if column == TIME else rows
        except ValueError:
            self._tell(_("{text} is no time: type seconds such as 120.").format(text=repr(text)))
            changed = rows
        if changed == rows:
            self._table.show(self._exam.rows, again=True)
        else:
            self._exam.set_rows(changed)

    def _move(self, step: int) -> None:
        index = self._table.current
        self._exam.set_rows(exam_table.moved(self._exam.rows, index, step))
        self._table.select(index + step)

    def _on_confirm(self) -> None:
        self._exam.confirm()
        self._tell("")

    def _on_remove(self) -> None:
        index = self._table.current
        rows = self._exam.rows
        self._exam.set_rows(rows[:index] + rows[index + 1 :])

    def _loaded(self, loaded: Loaded) -> None:
        self._exam.set_rows(loaded.rows, loaded.notes)
        self.refresh()
        if self.widget.visible:  # the views belong to whichever module the user is in
            scene.show(self._exam.first_post)
        self._tell(_("Check order and times, then confirm them."))

    def _subtractions(self) -> Work:
        """A subtraction volume for every phase after contrast."""
        rows = self._exam.rows
        made: list[Any] = []
        with scene.taken_back(made):
            for row in rows[1:]:
                pieces = derived.subtract(scene.voxels(row.node), scene.voxels(rows[0].node))
                enhancement = yield from stage(_("Subtraction"), pieces)
                made.append(scene.add_volume(enhancement, row.geometry, f"{row.name} - {rows[0].name}"))
            scene.put_in_folder("Subtractions", made)
            return made

    def _show_subtractions(self, made: list[Any]) -> None:
        first = [row.node for row in self._exam.rows].index(self._exam.first_post)
        scene.show(made[max(first - 1, 0)])

    def _projections(self) -> Work:
        """Projections of the first subtraction along the three planes."""
        geometry = self._exam.rows[0].geometry
        pieces = derived.subtract(scene.voxels(self._exam.first_post), scene.voxels(self._exam.pre))
        enhancement = yield from stage(_("Subtraction"), pieces)
        made: dict[str, Any] = {}
        with scene.taken_back(made.values()):
            for plane in derived.AXES:
                axis = derived.projection_axis(geometry, plane)
                image = yield from stage(_("Projection"), derived.project(enhancement, axis))
                made[plane] = scene.add_volume(image, derived.projected(geometry, axis), f"MIP {plane}")
            scene.put_in_folder("Projections", made.values())
            return made

    def _start(self, work: Work, done: Callable[[Any], None]) -> None:
        def ended(finish: Callable[[Any], None]) -> Callable[[Any], None]:
            def end(value: Any) -> None:
                self._task = None
                self._tell("")
                self.refresh()
                finish(value)

            return end

        self.ui.loadingBar.setRange(0, 0)  # busy, until there is something to tell
        self._task = Task(work, ended(done), ended(lambda error: self._tell(str(error))), self._show_progress)
        self._enable()

    def _show_progress(self, said: Progress) -> None:
        self.ui.loadingBar.setRange(0, 100)
        self.ui.loadingBar.setValue(round(100 * said.fraction))

    def _tell(self, text: str) -> None:
        tell(self.ui.messageLabel, text)

    def _enable(self, rows: list[Row] | None = None) -> None:
        rows = self._exam.rows if rows is None else rows
        ui, idle = self.ui, not self.busy
        selected = self._table.current
        reason = exam_table.reason_against(rows)
        confirmed = not self._exam.reason_against_running
        for button in (ui.loadFolderButton, ui.loadFilesButton):
            button.enabled = idle
        ui.useVolumesButton.enabled = idle and len(ui.volumesSelector.checkedNodes()) > 0
        ui.useSequenceButton.enabled = idle and ui.sequenceSelector.currentNode() is not None
        ui.loadingArea.visible = not idle
        ui.upButton.enabled = idle and selected > 0
        ui.downButton.enabled = idle and 0 <= selected < len(rows) - 1
        ui.removeButton.enabled = idle and selected >= 0
        ui.confirmButton.enabled = idle and not reason and not confirmed
        ui.confirmButton.text = _("Confirmed") if confirmed else _("Confirm phases and times")
        ui.confirmButton.toolTip = reason or _("Confirm that order and times are right.")
        for button in (ui.subtractButton, ui.projectButton, ui.compareButton):
            button.enabled = idle and not reason and not exam_table.reason_against_curves(rows)
        ui.breastLayoutButton.enabled = idle and bool(rows)
