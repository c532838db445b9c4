"""The time that a reader spends."""

from __future__ import annotations

IDLE_S = 20.0
"""Who does nothing for longer is not at work: looking at a slice without moving takes less."""


class Stopwatch:
    """Counts the seconds between actions; of a pause, only its first `IDLE_S`.

    Attributes:
        seconds: Counted so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: float | None = None

    def start(self, now: float, seconds: float = 0.0) -> None:
        """Begin anew at a time in seconds, with what was counted before."""
        self.seconds = seconds
        self._last = now

    def acted(self, now: float) -> None:
        """The reader did something."""
        if self._last is not None:
            self.seconds += min(max(now - self._last, 0.0), IDLE_S)
            self._last = now

    def stop(self, now: float) -> None:
        """Count no longer."""
        self.acted(now)
        self._last = None
