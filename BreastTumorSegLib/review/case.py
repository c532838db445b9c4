"""The images and the automatic mask of one entry, read in pieces for a thread that must not be held up."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import Phase, first_post_index
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import read_phase_table
from BreastTumorSegLib.io.pieces import read_in_pieces
from BreastTumorSegLib.review.masks import sha256_of
from BreastTumorSegLib.review.worklist import Entry, item_id

Pieces = Generator[float, None, tuple[np.ndarray, Geometry]]


@dataclass(frozen=True)
class Case:
    """What a reader sees of an entry. Arrays are (Z, Y, X) on one grid.

    Attributes:
        pre: Pre-contrast phase, as stored.
        first_post: First post-contrast phase, as stored.
        automatic: uint8, 0 background, 1 to N lesions; not to be changed.
        automatic_sha256: Of its file.
        breast: Whole-breast mask; None where there is none.
        probability: Tumour probability; None where there is none.
        geometry: The grid.
    """

    pre: np.ndarray
    first_post: np.ndarray
    automatic: np.ndarray
    automatic_sha256: str
    breast: np.ndarray | None
    probability: np.ndarray | None
    geometry: Geometry


def read_case(entry: Entry) -> Generator[float, None, Case]:
    """Read an entry.

    Yields:
        The fraction done.

    Raises:
        InputError: A file is missing, damaged, no volume of one phase, or on another grid.
    """
    pre, post = _two_phases(entry)
    files = [pre.files[0], post.files[0], entry.mask, entry.breast, entry.probability]
    arrays: list[np.ndarray | None] = []
    for index, file in enumerate(files):
        arrays.append((yield from _read(file, pre, index / len(files), 1 / len(files))) if file else None)
    first, second, mask, breast, probability = arrays
    if first is None or second is None or mask is None:
        raise AssertionError("These three always have a file.")
    labels, digest = labels_of(mask, entry.mask), sha256_of(entry.mask)
    if item_id(entry.item.case, entry.item.model, digest) != entry.item.id:
        raise InputError(f"{entry.mask} has changed since the worklist was made.", "Make a new worklist.")
    return Case(first, second, labels, digest, breast, probability, pre.geometry)


def _two_phases(entry: Entry) -> tuple[Phase, Phase]:
    table = read_phase_table([entry.images])
    fatal = next((problem for problem in table.problems if problem.fatal), None)
    if fatal is not None:
        raise InputError(fatal.message, fatal.remedy)
    pre, post = table.phases[0], table.phases[first_post_index(table.times)]
    if any(len(phase.files) > 1 or phase.index is not None for phase in (pre, post)):
        raise InputError(
            f"{entry.images} has no file for each phase.",
            "Convert it with python -m BreastTumorSegLib.io.convert, and list the exam folder that this makes.",
        )
    return pre, post


def _read(file: Path, phase: Phase, before: float, share: float) -> Generator[float, None, np.ndarray]:
    """Read a volume on a phase's grid."""
    pieces = read_in_pieces(file)
    while True:
        try:
            yield before + share * next(pieces)
        except StopIteration as end:
            voxels, grid = end.value
            break
    difference = phase.geometry.difference(grid)
    if difference:
        raise InputError(
            f"{file} is on another grid than {phase.files[0]}: {difference}.", "Masks must have the exam's geometry."
        )
    return voxels


def labels_of(mask: np.ndarray, file: Path) -> np.ndarray:
    """A mask as labels, uint8.

    Raises:
        InputError: Its values are none.
    """
    low, high = mask.min(), mask.max()
    if low < 0 or high > 255 or (mask.dtype.kind == "f" and not np.array_equal(mask, np.rint(mask))):
        raise InputError(f"{file} holds values from {low:g} to {high:g}.", "A mask holds labels from 0 to 255.")
    return mask.astype(np.uint8, copy=False)
