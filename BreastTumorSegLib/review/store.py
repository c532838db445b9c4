"""One reader's store: a SQLite file, with a folder of masks and one of unsaved edits beside it.

`NAME.sqlite` holds order, scores and corrections, `NAME-masks/` every saved mask, `NAME-unsaved/` what was autosaved.
A save is one transaction, on the disk when the call returns. Who opens a store for writing keeps `NAME.lock` locked for
as long; the operating system frees it with the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.review.database import StoreError, insert, masks_of, open_for_writing, read_only, typed
from BreastTumorSegLib.review.lock import Lock
from BreastTumorSegLib.review.masks import Unsaved, write_mask
from BreastTumorSegLib.review.records import Change, CorrectionRecord, Exclusion, Item, Place, Score, ScoreRecord, Study
from BreastTumorSegLib.review.rows import correction_row, score_row, study_of

MERGED = ""
"""In the place of a reader's name: the store holds what several wrote, and nobody scores in it."""
SUFFIX = ".sqlite"


class Store:
    """One reader's store, open.

    Args:
        path: Its file, `NAME.sqlite`; made where there is none.
        reader: Who reads; `MERGED` for a merged store.

    Attributes:
        path: Its file.
        reader: Who reads.
        reason_against_writing: Why it can only be read, in words; "" where it can be written.

    Raises:
        StoreError: It is damaged, of a newer version, or another reader's.
        OutputError: It can't be made.
    """

    def __init__(self, path: Path, reader: str) -> None:
        self.path = Path(path)
        self.reader = reader
        self._lock = Lock(self.path)
        self.reason_against_writing = self._lock.reason
        try:
            self._database = self._open()
        except BaseException:
            self._lock.release()
            raise

    @property
    def masks(self) -> Path:
        """Folder of saved masks."""
        return masks_of(self.path)

    @property
    def unsaved(self) -> Unsaved:
        """What was autosaved and not saved."""
        return Unsaved(self.path.with_name(f"{self.path.stem}-unsaved"))

    def close(self) -> None:
        """Let go of the store."""
        self._database.close()
        self._lock.release()

    def places(self) -> tuple[Place, ...]:
        """The reader's order."""
        rows = self._read("SELECT position, item, repeat FROM places ORDER BY position")
        return tuple(Place(position, item, bool(repeat)) for position, item, repeat in rows)

    def study(self) -> Study:
        """All that it holds."""
        with typed(self.path):
            return study_of(self._database, self.path)

    def meta(self, key: str, default: str = "") -> str:
        """A note of the store."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else default

    def add(self, items: Iterable[Item], places: Iterable[Place], **meta: str) -> None:
        """Add items and places to the order, with notes; what is there stays."""
        with self._transaction() as database:
            insert(database, "items", map(asdict, items))
            insert(database, "places", map(asdict, places))
            database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())

    def note(self, **meta: str) -> None:
        """Keep notes, such as where the reader is."""
        self.add((), (), **meta)

    def save_score(
        self, place: Place, verdict: Score | Exclusion, comment: str = "", seconds: float = 0.0
    ) -> ScoreRecord:
        """Save a score, or why there is none.

        Raises:
            OutputError: It is not saved: the disk is full, or the store can only be read.
        """
        score, exclusion = (verdict, None) if isinstance(verdict, Score) else (None, verdict)
        where = (uuid4().hex, self.reader, place.item, place.position, place.repeat)
        record = ScoreRecord(*where, score, exclusion, comment, seconds, _now())
        with self._transaction() as database:
            insert(database, "scores", [score_row(record)])
        return record

    def save_correction(
        self,
        place: Place,
        labels: np.ndarray,
        geometry: Geometry,
        automatic_sha256: str,
        change: Change,
        seconds: float = 0.0,
    ) -> CorrectionRecord:
        """Save a corrected mask as a new version; autosaved edits of the place are then no longer needed.

        Args:
            labels: uint8 (Z, Y, X), 0 background, 1 to N lesions.
            automatic_sha256: Of the automatic mask's file.

        Raises:
            OutputError: It is not saved: the disk is full, or the store can only be read. Autosaved edits stay.
        """
        self._refuse_reading()
        name = uuid4().hex
        file = f"{name}.nii.gz"
        with output_errors(self.masks):
            self.masks.mkdir(exist_ok=True)
        digest = write_mask(labels, geometry, self.masks / file)
        who = (name, self.reader, place.item, place.position, place.repeat)
        record = CorrectionRecord(*who, file, digest, automatic_sha256, change, seconds, _now())
        with self._transaction() as database:
            insert(database, "corrections", [correction_row(record)])
        with suppress(OSError):  # the correction is saved, whatever becomes of the edits
            self.unsaved.discard(place.position)
        return record

    def take_in(self, study: Study) -> None:
        """Add another store's records; what is here already is not added again."""
        with self._transaction() as database:
            insert(database, "items", map(asdict, study.items.values()))
            insert(database, "scores", map(score_row, study.scores))
            insert(database, "corrections", map(correction_row, study.corrections))

    def _open(self) -> sqlite3.Connection:
        if self.reason_against_writing and not self.path.is_file():
            raise OutputError(self.reason_against_writing, "Choose another folder.")
        database = read_only(self.path) if self.reason_against_writing else open_for_writing(self.path, self.reader)
        try:
            self._check_reader(database)
        except BaseException:
            database.close()
            raise
        return database

    def _check_reader(self, database: sqlite3.Connection) -> None:
        with typed(self.path):
            kept = database.execute("SELECT value FROM meta WHERE key = 'reader'").fetchone()[0]
        if kept != self.reader:
            whose = f"of the reader {kept!r}" if kept else "merged from several readers"
            raise StoreError(f"{self.path} is {whose}, not of {self.reader!r}.", "Choose another file or reader.")

    def _read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with typed(self.path):
            return self._database.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block is saved, or nothing."""
        self._refuse_reading()
        with typed(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._database.execute("ROLLBACK")
                raise

    def _refuse_reading(self) -> None:
        if self.reason_against_writing:
            raise OutputError(self.reason_against_writing, "Nothing was saved.")


def read_study(path: Path) -> Study:
    """All that a store holds; it may be open elsewhere, or on a disk that can't be written.

    Raises:
        StoreError: It is missing, damaged or of a newer version.
    """
    with closing(read_only(path)) as database, typed(path):
        return study_of(database, path)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
