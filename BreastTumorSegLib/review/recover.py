"""A damaged store: kept as it is, and a new one made of what can be read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.review.database import backup_of, insert, open_for_writing, typed
from BreastTumorSegLib.review.lock import Lock
from BreastTumorSegLib.review.rows import correction_record, score_record

TABLES = ("meta", "items", "places", "scores", "corrections")
_PARTS = ("", "-wal", "-shm")
_CHECKS = {"scores": score_record, "corrections": correction_record}


def recover(path: Path, reader: str) -> Path:
    """Put a new store in the place of a damaged one, with all that can be read of it, and of its last backup.

    The damaged store is copied before anything is changed, and the new one takes its place in one step: whenever this
    is interrupted, doing it again finds as much. Masks are files of their own and stay.

    Returns:
        Where the damaged store is kept.

    Raises:
        OutputError: The store is open elsewhere, or the folder can't be written.
    """
    lock = Lock(path)
    try:
        if lock.reason:
            raise OutputError(lock.reason, "Close it there first. Nothing was changed.")
        with output_errors(path), typed(path):  # a full disk is told, whoever meets it
            aside = _copy_aside(path)
            earlier = sorted(path.parent.glob(f"{path.stem}-damaged-*{path.suffix}"), reverse=True)
            _build(path, reader, [*earlier, backup_of(path)])
    finally:
        lock.release()
    return aside


def _copy_aside(path: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    aside = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
    for end in _PARTS:
        part = path.with_name(path.name + end)
        if part.is_file():
            shutil.copyfile(part, aside.with_name(aside.name + end))
    return aside


def _build(path: Path, reader: str, sources: list[Path]) -> None:
    """Make the new store under another name, and rename it into place; of rows with one key the first source's stay."""
    fresh = path.with_name(f"{path.stem}-recovering{path.suffix}")
    for end in _PARTS:
        fresh.with_name(fresh.name + end).unlink(missing_ok=True)
    with closing(open_for_writing(fresh, reader)) as database:
        for source in sources:
            for table in TABLES:
                for row in _readable(source, table):
                    with suppress(sqlite3.IntegrityError):  # half a row
                        insert(database, table, [row])
        database.execute("PRAGMA journal_mode = DELETE")  # all of it in one file
    for end in _PARTS[1:]:
        path.with_name(path.name + end).unlink(missing_ok=True)
    fresh.replace(path)


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
                    found = dict(zip(names, row, strict=True))
                    if _is_sound(table, found):
                        yield found
            except sqlite3.DatabaseError:
                continue
            return


def _is_sound(table: str, row: dict[str, Any]) -> bool:
    """Whether a row is one that a store can hold."""
    try:
        _CHECKS.get(table, dict)(row)
    except (ValueError, TypeError, KeyError):
        return False
    return True
