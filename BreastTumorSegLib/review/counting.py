"""Which of a study's records count.

Of several of one reader, position and item the last counts. Of these, hidden repeats serve the agreement of a reader
with themselves and nothing else; everything else looks at first presentations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from BreastTumorSegLib.review.records import CorrectionRecord, Score, ScoreRecord, Study

Record = TypeVar("Record", ScoreRecord, CorrectionRecord)

ALL = "all"
"""Stands for every model in tables."""


def counting(records: Sequence[Record]) -> list[Record]:
    """The last record of each reader, position and item: another worklist has another item at the position."""
    return list({(record.reader, record.position, record.item): record for record in records}.values())


def by_reader(records: Sequence[Record], repeat: bool = False) -> dict[str, dict[str, Record]]:
    """Records that count by reader and item, readers in order of their names; first presentations, or hidden repeats.

    Of several of one reader and item, the one at the lowest position is taken.
    """
    found: dict[str, dict[str, Record]] = {reader: {} for reader in sorted({record.reader for record in records})}
    for record in sorted(counting(records), key=lambda record: record.position):
        if record.repeat == repeat:
            found[record.reader].setdefault(record.item, record)
    return found


def scores_by_reader(study: Study, repeat: bool = False) -> dict[str, dict[str, Score]]:
    """The scores of `by_reader`, without excluded items and without readers who have none."""
    scores = {
        reader: {item: record.score for item, record in records.items() if record.score is not None}
        for reader, records in by_reader(study.scores, repeat).items()
    }
    return {reader: given for reader, given in scores.items() if given}


def models(study: Study) -> list[str]:
    """All models together, then each."""
    return [ALL, *sorted({item.model for item in study.items.values()})]


def of_model(study: Study, records: Mapping[str, Record], model: str) -> Iterator[Record]:
    """The records, by item, that are of a model's masks."""
    return (record for item, record in records.items() if model in (ALL, study.items[item].model))
