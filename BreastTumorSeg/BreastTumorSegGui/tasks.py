"""Long work on the GUI thread's event loop, in slices too short to be felt.

A task is a generator: it yields often, `Progress` where there is something to tell, `WAIT` where there is nothing to do
now. Python threads are not used: whether they get on while Slicer's main thread sits in Qt depends on who holds the
interpreter, and MRML must be touched from the main thread alone.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import qt

from BreastTumorSegLib.core.errors import BreastTumorSegError, Cancelled

SLICE_S = 0.02
WAIT_MS = 50


@dataclass(frozen=True)
class Progress:
    """How far a stage is.

    Attributes:
        stage: Its name.
        fraction: Done part of it, 0 to 1.
    """

    stage: str
    fraction: float


WAIT = object()
"""Yielded where a task waits for a process."""

Work = Generator[Any, None, Any]


def stage(name: str, pieces: Iterator[float], index: int = 0, count: int = 1) -> Work:
    """Turn the fractions that a piecewise job yields into progress of a stage; passes on what it returns.

    Args:
        index: Which of the stage's jobs this is.
        count: How many jobs the stage has.
    """
    while True:
        try:
            fraction = next(pieces)
        except StopIteration as end:
            return end.value
        yield Progress(name, (index + fraction) / count)


def follow(events: Generator[dict[str, Any] | None, None, None], hear: Callable[[dict[str, Any]], None]) -> Work:
    """Wait for a worker: its progress is passed on, its other events are heard; closing this ends it."""
    with closing(events):
        for event in events:
            if event is None:
                yield WAIT
            elif event["event"] == "progress":
                yield Progress(event["stage"], event["done"] / max(event["total"], 1))
            else:
                hear(event)


class Task:
    """Runs one generator to its end.

    Args:
        work: The generator. Closing it, in the middle, must leave nothing behind.
        done: Called with what it returns.
        failed: Called with the exception that ended it; `Cancelled` after `cancel`.
        progress: Called with each `Progress`.
    """

    def __init__(
        self,
        work: Work,
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        progress: Callable[[Progress], None] = lambda _said: None,
    ) -> None:
        self._work = work
        self._done = done
        self._failed = failed
        self._progress = progress
        self.running = True
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._slice)
        self._timer.start(0)

    def cancel(self) -> None:
        """End the work now; it cleans up behind itself."""
        if self.running:
            self._end()
            self._work.close()
            self._failed(Cancelled())

    def abandon(self) -> None:
        """As `cancel`, where nobody is left to be told: the scene closes, the module is unloaded."""
        if self.running:
            self._end()
            self._work.close()

    def _slice(self) -> None:
        if not self.running:
            return
        tell = None
        try:
            wait = self._advance()
        except StopIteration as end:
            tell = partial(self._done, end.value)
        except Exception as error:  # noqa: BLE001 - of whatever kind: it is shown, not lost in the event loop
            _log_unexpected(error)
            tell = partial(self._failed, error)
        if tell is not None:  # outside of the handlers: an error in it is not this one's
            self._end()
            tell()
        elif self.running:  # what was told of the progress may have ended it
            self._timer.start(WAIT_MS if wait else 0)

    def _advance(self) -> bool:
        """One slice; True when the work waits."""
        end = time.monotonic() + SLICE_S
        while time.monotonic() < end and self.running:
            said = next(self._work)
            if said is WAIT:
                return True
            if isinstance(said, Progress):
                self._progress(said)
        return False

    def _end(self) -> None:
        self.running = False
        self._timer.stop()
        self._timer.disconnect("timeout()", self._slice)  # else timer and task keep each other for ever


def _log_unexpected(error: Exception) -> None:
    """Where a bug is; not its words, which may quote what nobody may read."""
    if not isinstance(error, BreastTumorSegError):
        places = "".join(traceback.format_tb(error.__traceback__))
        logging.error("%s in BreastTumorSeg:\n%s", type(error).__name__, places)
