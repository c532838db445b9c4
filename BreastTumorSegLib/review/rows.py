"""Between records and the rows of a store's tables."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from BreastTumorSegLib.review.database import Damaged, masks_of, rows_of
from BreastTumorSegLib.review.records import (
    Change,
    CorrectionRecord,
    Exclusion,
    Item,
    Score,
    ScoreRecord,
    Study,
)

_CHANGE = tuple(field.name for field in fields(Change))


def score_row(record: ScoreRecord) -> dict[str, Any]:
    """A score as the table has it."""
    score, exclusion = (value.value if value else None for value in (record.score, record.exclusion))
    return asdict(record) | {"score": score, "exclusion": exclusion}


def correction_row(record: CorrectionRecord) -> dict[str, Any]:
    """A correction as the table has it; SQLite stores NaN as NULL."""
    row = asdict(record)
    return row | row.pop("change")


def score_record(row: dict[str, Any]) -> ScoreRecord:
    """The score of a row."""
    score, exclusion = row["score"], row["exclusion"]
    kinds = {"score": Score(score) if score else None, "exclusion": Exclusion(exclusion) if exclusion else None}
    return ScoreRecord(**(row | kinds | {"repeat": bool(row["repeat"])}))


def correction_record(row: dict[str, Any]) -> CorrectionRecord:
    """The correction of a row."""
    change: dict[str, Any] = {name: float("nan") if row[name] is None else row[name] for name in _CHANGE}
    rest: dict[str, Any] = {name: value for name, value in row.items() if name not in _CHANGE}
    return CorrectionRecord(**(rest | {"change": Change(**change), "repeat": bool(row["repeat"])}))


def study_of(database: sqlite3.Connection, path: Path) -> Study:
    """All that a store holds.

    Raises:
        Damaged: A value is none that a store can hold.
    """
    try:
        return Study(
            {row["id"]: Item(**row) for row in rows_of(database, "items")},
            tuple(map(score_record, rows_of(database, "scores"))),
            tuple(map(correction_record, rows_of(database, "corrections"))),
            masks_of(path),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(path, str(error)) from error
