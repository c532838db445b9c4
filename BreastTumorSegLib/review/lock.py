"""One writer at a time."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class Lock:
    """`NAME.lock` beside a store. SQLite knows how to lock on every system, which frees the lock with the process.

    Args:
        path: The store.

    Attributes:
        reason: Why the store can't be written, in words; "" where the lock is taken.
    """

    def __init__(self, path: Path) -> None:
        self._database: sqlite3.Connection | None = None
        self.reason = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path.with_suffix(".lock"), timeout=0, isolation_level=None)
            self._database.execute("BEGIN EXCLUSIVE")
        except (OSError, sqlite3.Error) as error:
            self.release()
            if "locked" in str(error):
                self.reason = f"{path} is open in another Slicer or process; here it can only be read."
            else:
                self.reason = f"{path.parent} can't be written; {path.name} can only be read."

    def release(self) -> None:
        """Let others write."""
        if self._database is not None:
            self._database.close()
            self._database = None
