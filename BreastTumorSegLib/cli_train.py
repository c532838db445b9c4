"""`breast-tumor-seg train` and `leave-one-out`."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from BreastTumorSegLib.cli_progress import Progress, ProgressForm, TextEvents, duration
from BreastTumorSegLib.core.events import Events, JsonEvents
from BreastTumorSegLib.core.job import reporting

Config = Annotated[Path, typer.Argument(help="YAML; docs/training.md has every field.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]

SHOW_EVERY_S = 10.0


class TrainingText(TextEvents):
    """A line of the training every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = -SHOW_EVERY_S

    def show(self, event: dict[str, Any]) -> None:
        """Print a warning, or how far it is."""
        if event.get("stage") != "train":
            super().show(event)
            return
        now = time.monotonic()
        if now - self._shown >= SHOW_EVERY_S or event["done"] == event["total"]:
            self._shown = now
            left = duration(event["seconds_left"])
            line = f"train {event['done']}/{event['total']}, loss {event['loss']:.3f}, {left} left"
            print(line, file=sys.stderr, flush=True)


def train(config: Config, device: Device = "auto", progress: Progress = ProgressForm.text) -> None:
    """Train a network as CONFIG says, or go on with it; ends with a bundle in the run's folder."""
    events = _events(progress)
    with reporting(events):
        events.started(command="train")
        from BreastTumorSegLib.segmentation.inference import choose_device
        from BreastTumorSegLib.training.config import TrainingConfig, read_config
        from BreastTumorSegLib.training.run import train as run

        models = run(read_config(config, TrainingConfig), choose_device(device), events)
        events.finished(models=str(models))
    if progress is ProgressForm.text:
        print(models)


def leave_one_out(config: Config, device: Device = "auto", progress: Progress = ProgressForm.text) -> None:
    """Hold each site of a cohort out once: train on the others, test on it, and write the table; resumable."""
    events = _events(progress)
    with reporting(events):
        events.started(command="leave-one-out")
        from BreastTumorSegLib.report.leave_one_out import write_tables
        from BreastTumorSegLib.segmentation.inference import choose_device
        from BreastTumorSegLib.training.config import LeaveOneOutConfig, read_config
        from BreastTumorSegLib.training.leave_one_out import leave_one_out as run

        settings = read_config(config, LeaveOneOutConfig)
        rows = run(settings, choose_device(device), events)
        if rows:
            write_tables(rows, settings.out)
        events.finished(out=str(settings.out))
    if progress is ProgressForm.text and rows:
        print((settings.out / "table1.md").read_text(encoding="utf-8"), end="")


def _events(progress: ProgressForm) -> Events:
    """A signal asks the job to stop where it can go on later, and is not heeded a second time."""
    events = JsonEvents(sys.stdout) if progress is ProgressForm.json else TrainingText()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: events.cancel())
    return events
