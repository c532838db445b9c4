"""The Segment panel: choose model and device, run, see how far it is, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import time_left
from BreastTumorSegGui.exam import Exam
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.segmentation import Order, Segmentation
from BreastTumorSegGui.settings import Settings
from BreastTumorSegGui.tasks import Progress, Task
from BreastTumorSegGui.time_left import TimeLeft
from BreastTumorSegLib.core.errors import Cancelled
from BreastTumorSegLib.core.result import NONCONTRAST_NOTICE

LOG_TAIL = 20_000
"""Characters of a log that are shown; the file has all of it."""


def stage_words(stage: str) -> str:
    """What is being done, in words."""
    return {
        "export": _("Writing the phases"),
        "load": _("Reading the phases"),
        "models": _("Loading the models"),
        "breast": _("Finding the breasts"),
        "tumor": _("Finding lesions"),
        "kinetics": _("Computing kinetic maps"),
        "clusters": _("Making the heterogeneity map"),
        "lesions": _("Measuring lesions"),
        "write": _("Writing the results"),
        "report": _("Writing the report"),
        "import": _("Loading the results"),
    }.get(stage, stage)


class SegmentPanel:
    """Wires the panel's widgets to a segmentation.

    Args:
        widget: The loaded SegmentPanel.ui.
        exam: The exam in the scene.
        segmentation: Runs orders.
        settings: Of this computer.
        finished: Called with the segmentation node of a run that is done.
    """

    def __init__(
        self,
        widget: qt.QWidget,
        exam: Exam,
        segmentation: Segmentation,
        settings: Settings,
        finished: Callable[[slicer.vtkMRMLSegmentationNode], None],
    ) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._exam = exam
        self._segmentation = segmentation
        self._settings = settings
        self._finished = finished
        self._task: Task | None = None
        self._time: TimeLeft | None = None
        self._with_contrast = True
        self._stage = ""
        self._models: list[dict[str, Any]] = []
        self._offered_for: frozenset[str] = frozenset()
        self.offer({})
        self.ui.resultsFolderEdit.setCurrentPath(str(settings.results_folder))
        self._connect()
        self._tell("")
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._task is not None

    def abandon(self) -> None:
        """End a run, with nobody to tell."""
        if self._task is not None:
            self._task.abandon()
            self._task = None
            self.refresh()

    def offer(self, report: dict[str, Any]) -> None:
        """Offer the devices and models that `doctor` found."""
        devices = [(device["id"], _device_words(device)) for device in report.get("devices", [])]
        _fill(self.ui.deviceSelector, [("auto", _("Automatic")), *devices], self._settings.device)
        self._models = [model for model in report.get("models", []) if model["task"] == "tumor"]
        self._offer_models()
        self.refresh()

    def _offer_models(self) -> None:
        """All of them, the default first; for an exam of one phase those alone that do without contrast."""
        noncontrast = [(model["name"], _model_words(model)) for model in self._models if not model["contrast"]]
        usual = [(model["name"], _model_words(model)) for model in self._models if model["contrast"]]
        offered = noncontrast if self._exam.is_one_phase else [("", _("Default")), *usual, *noncontrast]
        _fill(self.ui.modelSelector, offered, self._settings.model)
        self._tell_of_contrast()

    @property
    def _is_noncontrast(self) -> bool:
        """Whether a model without contrast is chosen."""
        chosen = self.ui.modelSelector.currentData
        return any(model["name"] == chosen and not model["contrast"] for model in self._models)

    def _tell_of_contrast(self) -> None:
        tell(self.ui.contrastLabel, NONCONTRAST_NOTICE if self._is_noncontrast else "")

    @property
    def _reason_against_running(self) -> str:
        reason = self._exam.reason_against_running
        if reason or not self._exam.is_one_phase or self._is_noncontrast:
            return reason
        return _("There is one phase only, and no model that works without contrast is installed.")

    def refresh(self) -> None:
        """Enable what can be done now, and say why what can't be."""
        phases = frozenset(row.node.GetID() for row in self._exam.rows)
        if phases != self._offered_for:
            self._offered_for = phases
            self._offer_models()
        reason = self._reason_against_running
        self.ui.runButton.enabled = not reason and not self.running
        self.ui.runButton.toolTip = reason or _("Segment the exam in the background.")
        self.ui.cancelButton.enabled = self.running
        for widget in (self.ui.modelSelector, self.ui.deviceSelector, self.ui.resultsFolderEdit):
            widget.enabled = not self.running
        self.ui.progressBar.visible = self.running
        self.ui.stageLabel.visible = self.running

    def _connect(self) -> None:
        ui = self.ui
        ui.runButton.connect("clicked()", self._on_run)
        ui.cancelButton.connect("clicked()", lambda: self._task and self._task.cancel())
        ui.deviceSelector.connect("activated(int)", lambda _index: self._keep_choices())
        ui.modelSelector.connect("activated(int)", lambda _index: self._keep_choices())

    def _keep_choices(self) -> None:
        self._settings.device = self.ui.deviceSelector.currentData
        if not self._is_noncontrast:  # which is chosen for one exam, and never by itself for the next
            self._settings.model = self.ui.modelSelector.currentData
        self._tell_of_contrast()

    def _on_run(self) -> None:
        self.refresh()
        reason = self._reason_against_running  # a volume may have been moved since the button was enabled
        typed = self.ui.resultsFolderEdit.currentPath.strip()
        if reason or not typed:
            self._tell(reason or _("Choose a folder for the results."))
            return
        self._settings.results_folder = Path(typed).expanduser().absolute()
        self._start()

    def _start(self) -> None:
        device, model = self.ui.deviceSelector.currentData, self.ui.modelSelector.currentData
        order = Order(self._exam.rows, self._exam.notes, self._settings.results_folder, model, device)
        self._with_contrast = not self._is_noncontrast
        self._time = TimeLeft(self._settings.stage_seconds(device, self._with_contrast), time.monotonic)
        self._stage = ""
        self.ui.logText.plainText = ""
        self.ui.progressBar.setValue(0)
        self._tell("")
        work = self._segmentation.run(order, self._log)
        self._task = Task(work, self._on_done, self._on_failed, self._show_progress)
        self.refresh()

    def _on_done(self, segmentation: slicer.vtkMRMLSegmentationNode) -> None:
        self._task = None
        device = self.ui.deviceSelector.currentData
        self._settings.keep_stage_seconds(device, self._time.measured(), self._with_contrast)
        self._tell(_("Done: {name}.").format(name=segmentation.GetName()))
        self.refresh()
        self._finished(segmentation)

    def _on_failed(self, error: Exception) -> None:
        self._task = None
        log = getattr(error, "log", None)
        kept = _(" The log is {file}.").format(file=log) if log else ""
        self._tell(_("Cancelled.") if isinstance(error, Cancelled) else f"{error}{kept}")
        if log and log.is_file():
            self._log(log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:])
        self.refresh()

    def _show_progress(self, said: Progress) -> None:
        self._time.update(said.stage, said.fraction)
        if said.stage != self._stage:
            self._stage = said.stage
            self._log(stage_words(said.stage))
        self.ui.progressBar.setValue(round(100 * self._time.fraction))
        left = time_left.text(self._time.seconds)
        self.ui.stageLabel.text = ", ".join(filter(None, (stage_words(said.stage), left)))

    def _log(self, text: str) -> None:
        self.ui.logText.appendPlainText(text)

    def _tell(self, text: str) -> None:
        tell(self.ui.messageLabel, text)


def _fill(selector: qt.QComboBox, entries: list[tuple[str, str]], chosen: str) -> None:
    selector.clear()
    for value, words in entries:
        selector.addItem(words, value)
    values = [value for value, _words in entries]
    selector.setCurrentIndex(values.index(chosen) if chosen in values else 0)


def _device_words(device: dict[str, Any]) -> str:
    free = device.get("memory_free_mb")
    return f"{device['name']}, {free / 1024:.1f} GB free" if free else device["name"]


def _model_words(model: dict[str, Any]) -> str:
    name = model["name"] if model["contrast"] else _("{name} (without contrast)").format(name=model["name"])
    return f"{name} ({model['message']})" if model["ok"] is False else name
