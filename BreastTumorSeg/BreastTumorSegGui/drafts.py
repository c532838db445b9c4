"""Edits that are not saved yet: on the disk, and in memory for as long as the disk does not take them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from BreastTumorSegGui.reading import Reading
from BreastTumorSegLib.core.errors import BreastTumorSegError, InputError
from BreastTumorSegLib.review.masks import Edits
from BreastTumorSegLib.review.records import Place


class Drafts:
    """The edits of the session's places.

    Args:
        reading: What is reviewed.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._not_kept: dict[tuple[Path, int], Edits] = {}

    def keep(self, place: Place, labels: np.ndarray) -> None:
        """Keep the edits of a place.

        Raises:
            OutputError: The disk does not take them; they are in memory, and `retry` tries again.
        """
        edits = Edits(place.item, labels)
        self._not_kept[self._key(place)] = edits
        store = self._reading.session.store
        if not store.reason_against_writing:
            store.unsaved.keep(place.position, edits)
            del self._not_kept[self._key(place)]

    def retry(self) -> None:
        """Try again to keep what the disk did not take."""
        unsaved = self._reading.session.store.unsaved
        for (path, position), edits in list(self._not_kept.items()):
            if path == self._reading.session.store.path and not self._reading.session.store.reason_against_writing:
                with suppress(BreastTumorSegError):
                    unsaved.keep(position, edits)
                    del self._not_kept[path, position]

    def restore(self, place: Place, shape: tuple[int, ...]) -> np.ndarray | None:
        """The edits of a place, (Z, Y, X); None where there are none.

        Raises:
            InputError: They can't be used; they are kept under another name.
        """
        unsaved = self._reading.session.store.unsaved
        edits = self._not_kept.get(self._key(place))
        if edits is None and place.position not in unsaved.positions():
            return None
        try:
            edits = edits or unsaved.restore(place.position)
            if edits.item != place.item or edits.labels.shape != shape:
                raise InputError("The edits that were not saved are of another mask.", "They stay in a file.")
        except InputError:
            unsaved.set_aside(place.position)
            raise
        return edits.labels

    def forget(self, place: Place) -> None:
        """The edits of a place are saved."""
        self._not_kept.pop(self._key(place), None)

    def _key(self, place: Place) -> tuple[Path, int]:
        return self._reading.session.store.path, place.position
