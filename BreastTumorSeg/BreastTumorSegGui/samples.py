"""Sample data: an exam simulated on the spot, so that nothing is downloaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from BreastTumorSegGui import scratch
from BreastTumorSegGui.exam_sources import ExamSources
from BreastTumorSegGui.tasks import Progress, Task, Work, follow
from BreastTumorSegGui.worker import Launcher

CATEGORY = "BreastTumorSeg"
NAME = "SimulatedBreastDCE"
SITE, SEED = "DUKE", 100
"""An exam with a lesion, none that the weights were trained on; `make demo` shows the same."""


def register(thumbnail: Path, download: Callable[[Any], list[Any]]) -> None:
    """Offer the simulated exam in the Sample Data module."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and later
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("Breast Tumor Segmentation"))
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        uris=[],  # nothing to download; None would be taken for one unnamed file
        fileNames=[],
        thumbnailFileName=str(thumbnail),
        customDownloader=download,
    )


class Simulation:
    """Simulates the sample exam in a process of its own and loads it."""

    def __init__(self, launcher: Launcher, sources: ExamSources) -> None:
        self._launcher = launcher
        self._sources = sources

    def work(self) -> Work:
        """The work of a task that ends with `exam_sources.Loaded`."""
        folder = scratch.new()
        try:
            arguments = ["simulate", str(folder), "--site", SITE, "--seed", str(SEED), "--progress", "json"]
            events = self._launcher.run("BreastTumorSegLib", arguments, folder / "log.txt")
            yield from follow(events, lambda _event: None)
            case = next((folder / "images").iterdir())
            return (yield from self._sources.from_files([case]))
        finally:
            scratch.discard(folder)

    def download(self, _source: Any = None) -> list[Any]:
        """Simulate and load while a dialog shows progress; the volumes, none where the user cancelled."""
        dialog = slicer.util.createProgressDialog(
            labelText=_("Simulating an exam..."),
            autoClose=False,
            autoReset=False,
            windowModality=qt.Qt.ApplicationModal,
        )
        ended: list[Any] = []
        task = Task(self.work(), lambda loaded: ended.extend(loaded.made), ended.append, _shown_in(dialog))
        try:
            while task.running and not dialog.wasCanceled:
                slicer.app.processEvents()
                time.sleep(0.005)
        finally:
            task.abandon()
            dialog.close()
        if ended and isinstance(ended[0], Exception):
            slicer.util.errorDisplay(str(ended[0]))
            return []
        return ended


def _shown_in(dialog: qt.QProgressDialog) -> Callable[[Progress], None]:
    def show(said: Progress) -> None:
        dialog.setValue(round(100 * said.fraction))

    return show
