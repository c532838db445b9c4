"""How long each stage of a job takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from BreastTumorSegLib.core.events import Events


class Stopwatch:
    """Seconds a stage, and progress when it starts and ends."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; where it tells progress, a cancelled job ends."""
        self._events.progress(name, 0, 1)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 3)
        self._events.progress(name, 1, 1)
