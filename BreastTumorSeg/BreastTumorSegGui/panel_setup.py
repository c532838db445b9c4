"""The Set-up panel: what is installed, and installing what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import ask, setup
from BreastTumorSegGui.message import tell
from BreastTumorSegGui.settings import Settings
from BreastTumorSegGui.setup import Setup
from BreastTumorSegGui.tasks import Task


class SetupPanel:
    """Wires the panel's widgets to the installation.

    Args:
        widget: The loaded SetupPanel.ui.
        installation: Examines and completes the installation.
        settings: Of this computer.
        examined: Called with what was found.
    """

    def __init__(
        self,
        widget: qt.QWidget,
        installation: Setup,
        settings: Settings,
        examined: Callable[[dict[str, Any]], None],
    ) -> None:
        self.widget = widget
        self.ui = slicer.util.childWidgetVariables(widget)
        self._setup = installation
        self._settings = settings
        self._examined = examined
        self._task: Task | None = None
        self._installing = False
        self._tell("")
        self.ui.reportText.setFont(qt.QFontDatabase.systemFont(qt.QFontDatabase.FixedFont))  # it has columns
        self.ui.examineButton.connect("clicked()", self.examine)
        self.ui.copyButton.connect("clicked()", self._on_copy)
        self.ui.installButton.connect("clicked()", self._on_install)
        self.ui.installWheelsButton.connect("clicked()", self._on_install_wheels)
        self.ui.wheelsFolderEdit.connect("currentPathChanged(QString)", lambda _path: self._enable())
        self._enable()

    @property
    def idle(self) -> bool:
        """Whether neither an examination nor an installation is under way."""
        return self._task is None and not self._installing

    def examine(self) -> None:
        """See in the background what is installed."""
        if self.idle:
            self._tell(_("Examining..."))
            self._task = Task(self._setup.examine(self._settings.results_folder), self._on_examined, self._on_failed)
            self._enable()

    def abandon(self) -> None:
        """End an examination, with nobody to tell."""
        if self._task is not None:
            self._task.abandon()
            self._task = None

    def _on_examined(self, report: dict[str, Any]) -> None:
        self._task = None
        self.ui.reportText.plainText = setup.as_text(report)
        ready = report.get("ready", False)
        self._tell(_("Ready.") if ready else _("Something is missing; see the last lines."))
        if not ready:
            self.ui.setupSection.collapsed = False
        self._enable()
        self._examined(report)

    def _on_failed(self, error: Exception) -> None:
        self._task = None
        self._tell(str(error))
        self._enable()

    def _on_copy(self) -> None:
        slicer.app.clipboard().setText(self.ui.reportText.plainText)

    def _on_install(self) -> None:
        question = _("Packages will be downloaded from the internet and installed into Slicer. PyTorch is large.")
        self._install(question, self._setup.install)

    def _on_install_wheels(self) -> None:
        folder = Path(self.ui.wheelsFolderEdit.currentPath)
        question = _("Packages will be installed into Slicer from {folder}.").format(folder=folder)
        self._install(question, lambda: self._setup.install_from(folder))

    def _install(self, question: str, install: Callable[[], None]) -> None:
        if not ask.whether(question, _("Install packages")):
            return
        self._installing = True
        self._tell(_("Installing..."))
        self._enable()
        try:
            install()
        except Exception as error:  # noqa: BLE001 - a damaged package can raise anything
            self._tell(_("Not installed: {error}").format(error=error))
            self._installing = False
            self._enable()
        else:
            self._installing = False
            self.examine()

    def _enable(self) -> None:
        self.ui.examineButton.enabled = self.idle
        self.ui.installButton.enabled = self.idle
        self.ui.installWheelsButton.enabled = self.idle and bool(self.ui.wheelsFolderEdit.currentPath)
        self.ui.copyButton.enabled = bool(self.ui.reportText.plainText)

    def _tell(self, text: str) -> None:
        tell(self.ui.messageLabel, text)
