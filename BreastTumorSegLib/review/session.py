"""A reader at work: the store and the worklist together, place by place."""

from __future__ import annotations

from pathlib import Path

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.review.records import CorrectionRecord, Place, ScoreRecord
from BreastTumorSegLib.review.store import SUFFIX, Store
from BreastTumorSegLib.review.worklist import Entry, Worklist, read_worklist

_STUDY = "worklist"
_POSITION = "position"


def store_path(folder: Path, reader: str) -> Path:
    """Where a reader's store is in a folder.

    Raises:
        InputError: The reader's name can't be a file's.
    """
    if not reader or not all(letter.isalnum() or letter in "-_" for letter in reader):
        raise InputError(f"The reader's name {reader!r} can't be used.", "Use letters, digits, - and _.")
    return folder / f"{reader}{SUFFIX}"


class Session:
    """One reader's work on one worklist. The order is fixed at the first opening, and kept in the store.

    Args:
        worklist: File of the worklist.
        store: The reader's store, open; the session closes it.

    Attributes:
        store: The reader's store.
        position: Where the reader is, from 0.

    Raises:
        InputError: The store belongs to another worklist, or the worklist lacks what was listed.
    """

    def __init__(self, worklist: Path, store: Store) -> None:
        listed = read_worklist(worklist)
        self.store = store
        self._entries = {entry.item.id: entry for entry in listed.entries}
        self._places = store.places() or self._begin(listed)
        self._refuse_another(listed, worklist)
        self.position = min(int(store.meta(_POSITION, "0")), len(self._places) - 1)
        study = store.study()
        self._scores = {record.position: record for record in study.scores}
        self._corrections = {record.position: record for record in study.corrections}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def place(self) -> Place:
        """Where the reader is."""
        return self._places[self.position]

    def entry(self, position: int) -> Entry:
        """What is shown at a position."""
        return self._entries[self._places[position].item]

    def go(self, position: int) -> None:
        """Go to a position; it is where the reader is again after a break or a crash."""
        self.position = min(max(position, 0), len(self) - 1)
        if not self.store.reason_against_writing:
            self.store.note(**{_POSITION: str(self.position)})

    def score_at(self, position: int) -> ScoreRecord | None:
        """The score that counts at a position; for time and comment, never for the reader's eyes."""
        return self._scores.get(position)

    def correction_at(self, position: int) -> CorrectionRecord | None:
        """The newest correction at a position."""
        return self._corrections.get(position)

    def heard(self, record: ScoreRecord | CorrectionRecord) -> None:
        """Take note of what was saved."""
        kept: dict[int, ScoreRecord] | dict[int, CorrectionRecord]
        kept = self._scores if isinstance(record, ScoreRecord) else self._corrections
        kept[record.position] = record  # type: ignore[assignment]

    @property
    def scored(self) -> int:
        """Places with a score, or the reason for none."""
        return len(self._scores)

    @property
    def corrected(self) -> int:
        """Places with a correction."""
        return len(self._corrections)

    def next_open(self) -> int | None:
        """The next place without a score, after this one or from the start; None when all have one."""
        after = [*range(self.position + 1, len(self)), *range(self.position + 1)]
        return next((position for position in after if position not in self._scores), None)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _begin(self, listed: Worklist) -> tuple[Place, ...]:
        places = listed.order(self.store.reader)
        if not places:
            raise InputError("The worklist is empty.", "Make it again.")
        note = {_STUDY: listed.name, _POSITION: "0"}
        self.store.add((entry.item for entry in listed.entries), places, **note)
        return places

    def _refuse_another(self, listed: Worklist, path: Path) -> None:
        name = self.store.meta(_STUDY)
        lacking = sum(place.item not in self._entries for place in self._places)
        if name != listed.name or lacking:
            what = f"it lacks {lacking} of the masks" if lacking else f"its name is {listed.name!r}, not {name!r}"
            raise InputError(
                f"{self.store.path} was begun with another worklist than {path}: {what}.",
                "Open the worklist it was begun with, or choose another folder for the store.",
            )
