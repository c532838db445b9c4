"""A damaged store: set aside untouched, and a new one made of what can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.review.database import backup_of
from BreastTumorSegLib.review.store import Store

TABLES = ("meta", "items", "places", "scores", "corrections")
_PARTS = ("", "-wal", "-shm")


def recover(path: Path, reader: str) -> Path:
    """Put a new store in the place of a damaged one, with all rows of its last backup and all that can still be read.

    Masks are files of their own and stay.

    Returns:
        Where the damaged store is kept.

    Raises:
        OutputError: The folder can't be written, or the store is open elsewhere.
    """
    aside = _set_aside(path)
    rows = [(table, list(_readable(source, table))) for source in (backup_of(path), aside) for table in TABLES]
    store = Store(path, reader)
    try:
        for table, readable in rows:
            store.insert(table, readable)
    finally:
        store.close()
    return aside


def _set_aside(path: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
    try:
        for end in _PARTS:
            part = path.with_name(path.name + end)
            if part.exists():
                part.rename(aside.with_name(aside.name + end))
    except OSError as error:
        raise OutputError(f"{path} can't be set aside: {error.strerror}.", "Close what uses it.") from error
    return aside


def _readable(path: Path, table: str) -> Iterator[dict[str, Any]]:
    """Rows of a table as far as they can be read, from its start and then from its end."""
    if not path.is_file():
        return
    with closing(sqlite3.connect(path)) as database:
        for order in ("ASC", "DESC"):
            try:
                cursor = database.execute(f"SELECT * FROM {table} ORDER BY rowid {order}")
                names = [column[0] for column in cursor.description]
                for row in cursor:
                    yield dict(zip(names, row, strict=True))
            except sqlite3.DatabaseError:
                continue
            return
