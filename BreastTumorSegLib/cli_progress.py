"""How commands tell their progress: to people on standard error, to programs as lines of JSON."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, Any

import typer

from BreastTumorSegLib.core.cancel import heed_signals
from BreastTumorSegLib.core.events import Events, JsonEvents


class ProgressForm(str, Enum):
    """How progress is shown."""

    text = "text"
    json = "json"


Progress = Annotated[ProgressForm, typer.Option(help="text for people, json for programs.")]


class TextEvents(Events):
    """Progress and warnings for people, on standard error; a counting stage stays on its line in a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""

    def show(self, event: dict[str, Any]) -> None:
        """Print the event where it says something new."""
        if event["event"] == "warning":
            self._line(f"warning: {event['message']}")
        elif event["event"] == "progress":
            count = f" {event['done']}/{event['total']}" if event["total"] > 1 else ""
            text = event["stage"] + count
            if sys.stderr.isatty():
                print(f"\r{text:<40}", end="", file=sys.stderr, flush=True)
            elif event["stage"] != self._stage:
                self._line(event["stage"])
            self._stage = event["stage"]

    def _line(self, text: str) -> None:
        print(("\r" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def events_of(progress: ProgressForm) -> Events:
    """What a command tells its progress to; from here on it can be cancelled."""
    heed_signals()
    return JsonEvents(sys.stdout) if progress is ProgressForm.json else TextEvents()


def duration(seconds: float) -> str:
    """As `3 h 05 min`, or `4 min`."""
    hours, minutes = divmod(-int(-seconds // 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
