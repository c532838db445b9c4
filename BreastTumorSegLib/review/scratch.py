"""Masks that readers draw from scratch: a worklist's exams with empty masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from BreastTumorSegLib.io import read_volume, results_folder, write_volume
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.records import FROM_SCRATCH
from BreastTumorSegLib.review.worklist import ENDING, Entry, item_id


def from_scratch(entries: Iterable[Entry], folder: Path) -> list[Entry]:
    """The same exams, each once, with an empty mask in the place of the automatic one, and without a probability.

    Args:
        entries: Of automatic masks; of an exam's several, the first gives the grid.
        folder: For the empty masks; made here, whole or not at all.

    Raises:
        InputError: An automatic mask can't be read.
        OutputError: The folder is there already, or can't be written.
    """
    exams = {entry.item.case: entry for entry in reversed(list(entries))}
    with results_folder(folder, overwrite=False) as partial:
        made = [_emptied(exam, partial, folder) for exam in exams.values()]
    return sorted(made, key=lambda entry: entry.item.id)


def _emptied(entry: Entry, partial: Path, folder: Path) -> Entry:
    name = f"{entry.item.id}{ENDING}"  # not the case's name, which may be no file's
    voxels, grid = read_volume(entry.mask)
    write_volume(np.zeros(voxels.shape, np.uint8), grid, partial / name)
    identity = item_id(entry.item.case, FROM_SCRATCH, sha256_of(partial / name))
    item = replace(entry.item, id=identity, model=FROM_SCRATCH, dice=None)
    return replace(entry, item=item, mask=folder / name, probability=None)
