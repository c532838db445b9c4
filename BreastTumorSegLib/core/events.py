"""Progress, warnings and cancellation between a long job and whoever started it."""

from __future__ import annotations

import json
import threading
from typing import IO, Any

from BreastTumorSegLib.core.errors import BreastTumorSegError, Cancelled

PREFIX = "@bts "

SEGMENT_STAGES = ("headers", "load", "models", "breast", "tumor", "kinetics", "clusters", "lesions", "write", "report")
NONCONTRAST_STAGES = ("headers", "load", "models", "breast", "clusters", "tumor", "lesions", "write", "report")
"""Stages of `segment`, in order; only DICOM has "headers"."""

CONVERT_STAGES = ("headers", "load", "write")
"""Stages of `io.convert`, in order; only DICOM has "headers"."""


class Events:
    """Receives what a job tells, and stops it when asked. This base keeps warnings and shows nothing.

    Attributes:
        warnings: Every warning so far, in order, each once.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop; its next call of `progress` or `check` raises. Safe from any thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self._cancelled.is_set()

    def progress(self, stage: str, done: int, total: int, **facts: Any) -> None:
        """Tell that `done` of `total` steps of a stage are finished, and `facts` such as an estimate.

        Raises:
            Cancelled: `cancel` was called.
        """
        self.check()
        self.show({"event": "progress", "stage": stage, "done": done, "total": total, **facts})

    def check(self) -> None:
        """Stop the job here if it shall, without telling anything.

        Raises:
            Cancelled: `cancel` was called.
        """
        if self.cancelled:
            raise Cancelled

    def warning(self, message: str) -> None:
        """Tell something that the user should know and that does not stop the job."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.show({"event": "warning", "message": message})

    def table(self, table: dict[str, Any]) -> None:
        """Tell the phases and problems of an exam, as `PhaseTable.as_dict` has them, before its voxels are read."""
        self.show({"event": "table", **table})

    def started(self, **facts: Any) -> None:
        """Tell that the job runs."""
        self.show({"event": "started", **facts})

    def finished(self, **facts: Any) -> None:
        """Tell that the job is done and its results are in place."""
        self.show({"event": "finished", **facts})

    def failed(self, error: BreastTumorSegError) -> None:
        """Tell that the job ended without results."""
        self.show({"event": "failed", "code": error.exit_code, "message": error.message, "remedy": error.remedy})

    def show(self, event: dict[str, Any]) -> None:
        """Show one event; the base class shows nothing."""


class JsonEvents(Events):
    """One ASCII line of JSON an event, each with the prefix `@bts `, so that log lines can't be mistaken for events."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream

    def show(self, event: dict[str, Any]) -> None:
        """Write the event's line and flush it."""
        self._stream.write(PREFIX + json.dumps(event, ensure_ascii=True) + "\n")
        self._stream.flush()
