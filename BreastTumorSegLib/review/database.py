"""A store's SQLite file: opened, checked, brought to this version, backed up; with what is wrong told in words."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.review import schema


class StoreError(InputError):
    """A store can't be used: damaged, of a newer version, or another reader's."""


class Damaged(StoreError):
    """A store is no readable database; see `recover.recover`.

    Args:
        path: The store.
        how: What is wrong with it.
    """

    def __init__(self, path: Path, how: str) -> None:
        super().__init__(f"{path} is damaged: {how}.", "Set it aside and go on with what can be read of it.")
        self.path = path


def masks_of(path: Path) -> Path:
    """Folder of a store's masks."""
    return path.with_name(f"{path.stem}-masks")


def backup_of(path: Path) -> Path:
    """Where a store's last backup is: the store as it was when it was last opened."""
    return path.with_name(f"{path.name}.backup")


def open_for_writing(path: Path, reader: str) -> sqlite3.Connection:
    """Open a store, or make it; what is saved in it is on the disk when a transaction ends.

    Raises:
        StoreError: It is damaged or of a newer version.
        OutputError: It can't be made.
    """
    if not _has_content(path) and backup_of(path).is_file():
        raise Damaged(path, "it is empty or gone, though it has a backup")
    with typed(path):
        database = sqlite3.connect(path, isolation_level=None)
        try:
            check(database, path)
            _refuse_foreign(database, path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if database.execute("PRAGMA user_version").fetchone()[0]:
                _back_up(database, path)
            _migrate(database, path, reader)
        except BaseException:
            database.close()
            raise
    return database


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _refuse_foreign(database: sqlite3.Connection, path: Path) -> None:
    is_ours = database.execute("PRAGMA user_version").fetchone()[0]
    if not is_ours and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreError(f"{path} is another program's database.", "Choose another file. Nothing was changed.")


def read_only(path: Path) -> sqlite3.Connection:
    """Open a store for reading.

    Raises:
        StoreError: It is missing, damaged or of a newer version.
    """
    if not path.is_file():
        raise StoreError(f"There is no store {path}.", "Check the path.")
    with typed(path):
        database = _connect_read_only(path)
        try:
            check(database, path)
        except BaseException:
            database.close()
            raise
        if not database.execute("PRAGMA user_version").fetchone()[0]:
            database.close()
            raise StoreError(f"{path} is no store of a reader.", "Choose another file.")
        return database


def check(database: sqlite3.Connection, path: Path) -> None:
    """Refuse what can't be used as it is.

    Raises:
        StoreError: The store is of a newer version.
        sqlite3.DatabaseError: It is damaged.
    """
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > schema.VERSION:
        raise StoreError(
            f"{path} is of a newer version of BreastTumorSeg (store {version}; known are up to {schema.VERSION}).",
            "Update BreastTumorSeg. Nothing was changed.",
        )
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def insert(database: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows by column; a row whose key is there already is left out."""
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        conflict = "ON CONFLICT DO NOTHING"  # a broken CHECK still raises, which OR IGNORE would hide
        database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {conflict}", tuple(row.values()))


def rows_of(database: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """Rows of a table by column, in the order in which they were saved."""
    cursor = database.execute(f"SELECT * FROM {table} ORDER BY rowid")
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)


@contextmanager
def typed(path: Path) -> Iterator[None]:
    """Give SQLite's errors their type."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} can't be used: {error.strerror}.", "Check that its folder is there.") from error
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # ours, not the file's
    except sqlite3.OperationalError as error:
        said = str(error)
        if "full" in said or "I/O" in said:
            raise OutputError(f"{path} can't be written: {said}.", "Free space on its disk, and save again.") from error
        raise OutputError(
            f"{path} can't be used: {said}.", "Check that its folder is there and can be written."
        ) from error
    except sqlite3.DatabaseError as error:
        raise Damaged(path, str(error)) from error


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """SQLite may have to write beside a file that it reads; where it can't, the file is read from memory."""
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("SELECT count(*) FROM sqlite_master")
        return database
    except sqlite3.OperationalError:
        database.close()
        return _in_memory(path)
    except sqlite3.Error:
        database.close()
        raise


def _in_memory(path: Path) -> sqlite3.Connection:
    """A copy of a store, with what its write-ahead log holds, in a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.sqlite"
        for end in ("", "-wal"):
            source = path.with_name(path.name + end)
            if source.is_file():
                shutil.copyfile(source, copy.with_name(copy.name + end))
        database = sqlite3.connect(":memory:", isolation_level=None)
        with closing(sqlite3.connect(copy)) as source_database:
            source_database.backup(database)
    return database


def _back_up(database: sqlite3.Connection, path: Path) -> None:
    partial = path.with_name(f"{path.name}.backup-partial")
    with suppress(OSError, sqlite3.Error):  # a disk that is too full for it is told where something is saved
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as kept:
            database.backup(kept)
        partial.replace(backup_of(path))


def _migrate(database: sqlite3.Connection, path: Path, reader: str) -> None:
    """Bring a store to this version; one that was there before is kept beside it as it was."""
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version == schema.VERSION:
        return
    if version:
        with closing(sqlite3.connect(path.with_name(f"{path.name}.version{version}"))) as kept:
            database.backup(kept)
    statements = "".join(schema.MIGRATIONS[version:])
    if not version:
        quoted = reader.replace("'", "''")
        statements += f"INSERT INTO meta VALUES ('reader', '{quoted}');"
    # One transaction: a store is of one version or of the other.
    database.executescript(f"BEGIN; {statements} PRAGMA user_version = {schema.VERSION}; COMMIT;")
