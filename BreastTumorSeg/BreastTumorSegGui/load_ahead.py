"""Reads what is wanted now, and then what will be wanted next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from BreastTumorSegGui.tasks import Task, Work


class LoadAhead:
    """Holds one thing at most that nobody has asked for yet, so that memory does not grow.

    Args:
        read: The work that reads a position.
    """

    def __init__(self, read: Callable[[int], Work]) -> None:
        self._read = read
        self._position: int | None = None
        self._task: Task | None = None
        self._outcome: Any = None
        self._done: Callable[[Any], None] | None = None

    def get(self, position: int, done: Callable[[Any], None]) -> None:
        """Call `done` with what is read at a position, or with the exception that reading ended in."""
        self._done = done
        self.prepare(position)
        if self._task is None:
            self._give()

    def prepare(self, position: int) -> None:
        """Read a position before it is wanted."""
        if position == self._position:
            return
        wanted = self._done
        self.forget()
        self._done = wanted
        self._position = position
        self._task = Task(self._read(position), self._ended, self._ended)

    def forget(self) -> None:
        """Read no longer, and let go of what was read."""
        if self._task is not None:
            self._task.abandon()
        self._task = self._position = self._outcome = self._done = None

    def _ended(self, outcome: Any) -> None:
        self._task = None
        self._outcome = outcome
        if self._done is not None:
            self._give()

    def _give(self) -> None:
        done, outcome = self._done, self._outcome
        self._position = self._outcome = self._done = None
        if done is not None:
            done(outcome)
