"""A reader at work: the store and the worklist together, place by place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.review.records import CorrectionRecord, Place, ScoreRecord
from BreastTumorSegLib.review.store import SUFFIX, Store
from BreastTumorSegLib.review.worklist import Entry, read_worklist

STUDY = "study"
POSITION = "position"
RESULTS = "results"
"""Name of the study that masks belong to which no worklist lists: each is reviewed as it is made."""


def store_path(folder: Path, study: str, reader: str) -> Path:
    """Where a reader's store of a study is in a folder.

    Raises:
        InputError: A name can't be a file's.
    """
    for what, name in (("study", study), ("reader", reader)):
        if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
            raise InputError(f"The name {name!r} of the {what} can't be used.", "Use letters, digits, - and _.")
    return folder / f"{study}-{reader}{SUFFIX}"


def check_study(name: str) -> None:
    """Refuse a name of a study that is taken.

    Raises:
        InputError: It is.
    """
    if name == RESULTS:
        raise InputError(f"A study can't be named {name!r}.", "Choose another name.")


def on_worklist(path: Path, store: Store) -> Session:
    """A reader's session on a worklist. The order is fixed at the first opening, and kept in the store.

    Raises:
        InputError: The store was begun with another worklist.
    """
    worklist = read_worklist(path)
    check_study(worklist.name)
    if not store.places() and store.reason_against_writing:
        raise InputError(f"{store.path} is being begun elsewhere.", "Try again in a moment.")
    if not store.places():
        store.add((entry.item for entry in worklist.entries), worklist.order(store.reader), **{STUDY: worklist.name})
    entries = {entry.item.id: entry for entry in worklist.entries}
    lacking = sum(place.item not in entries for place in store.places())
    name = store.meta(STUDY)
    if name != worklist.name or lacking:
        what = f"it lacks {lacking} of the masks" if lacking else f"its name is {worklist.name!r}, not {name!r}"
        raise InputError(
            f"{store.path} was begun with another worklist than {path}: {what}.",
            "Open the worklist it was begun with, or choose another folder for the store.",
        )
    return Session(store, store.places(), entries, int(store.meta(POSITION, "0")))


def on_result(entry: Entry, store: Store) -> Session:
    """A session on one mask that no worklist lists; what was kept of it before goes on."""
    known = {place.item: place for place in store.places()}
    if entry.item.id not in known:
        place = Place(max((place.position for place in known.values()), default=-1) + 1, entry.item.id)
        store.add([entry.item], [place], **{STUDY: RESULTS})
        known[place.item] = place
    return Session(store, (known[entry.item.id],), {entry.item.id: entry}, 0)


class Session:
    """One reader's work.

    Args:
        store: The reader's store, open; the session closes it.
        places: What is shown, in order.
        entries: What is reviewed there, by item.
        index: Where the reader is.

    Attributes:
        store: The reader's store.
        index: Where the reader is among the places, from 0.

    Raises:
        InputError: There is nothing to review.
    """

    def __init__(self, store: Store, places: tuple[Place, ...], entries: dict[str, Entry], index: int) -> None:
        if not places:
            raise InputError(f"{store.path} lists nothing to review.", "Make the worklist again.")
        self.store = store
        self._places = places
        self._entries = entries
        self.index = min(index, len(places) - 1)
        study = store.study()
        self._scores = {record.position: record for record in study.scores}
        self._corrections = {record.position: record for record in study.corrections}
        self._versions = Counter(record.position for record in study.corrections)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def place(self) -> Place:
        """Where the reader is."""
        return self._places[self.index]

    def entry(self, index: int) -> Entry:
        """What is shown at a place."""
        return self._entries[self._places[index].item]

    def go(self, index: int) -> None:
        """Go to a place; it is where the reader is again after a break or a crash.

        Raises:
            OutputError: The reader is there, but that is not kept.
        """
        self.index = min(max(index, 0), len(self) - 1)
        if not self.store.reason_against_writing and len(self) > 1:
            self.store.note(**{POSITION: str(self.index)})

    def score_at(self, index: int) -> ScoreRecord | None:
        """The score that counts at a place; for the comment, never for the reader's eyes."""
        return self._scores.get(self._places[index].position)

    def correction_at(self, index: int) -> CorrectionRecord | None:
        """The newest correction at a place."""
        return self._corrections.get(self._places[index].position)

    def heard(self, record: ScoreRecord | CorrectionRecord) -> None:
        """Take note of what was saved."""
        if isinstance(record, ScoreRecord):
            self._scores[record.position] = record
        else:
            self._corrections[record.position] = record
            self._versions[record.position] += 1

    def versions(self, index: int) -> int:
        """How many corrections of a place are kept."""
        return self._versions[self._places[index].position]

    @property
    def scored(self) -> int:
        """Places with a score, or the reason for none."""
        return sum(place.position in self._scores for place in self._places)

    @property
    def corrected(self) -> int:
        """Places with a correction."""
        return sum(place.position in self._corrections for place in self._places)

    @property
    def unsaved(self) -> tuple[int, ...]:
        """Places with edits that were autosaved and not saved."""
        kept = self.store.unsaved.positions()
        return tuple(index for index, place in enumerate(self._places) if place.position in kept)

    def next_open(self) -> int | None:
        """The next place without a score, after this one or from the start; None when all have one."""
        after = [*range(self.index + 1, len(self)), *range(self.index + 1)]
        return next((index for index in after if self.score_at(index) is None), None)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()
