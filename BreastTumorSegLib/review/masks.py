"""Masks on disk: versions that are never overwritten, and edits that nobody has saved yet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.boxes import bounding_box
from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.files import write_volume
from BreastTumorSegLib.io.results import output_errors


def write_mask(labels: np.ndarray, geometry: Geometry, path: Path) -> str:
    """Write a compressed mask beside its place and rename it; it is on the disk when this returns.

    Args:
        labels: uint8 (Z, Y, X).

    Returns:
        The file's sha256.

    Raises:
        OutputError: The disk is full or the folder can't be written, or the file is there already.
    """
    if path.exists():
        raise OutputError(f"{path} is already there.", "Save under another name.")
    _put(path, f".partial-{path.name}", lambda partial: write_volume(labels, geometry, partial))
    return sha256_of(path)


def sha256_of(path: Path) -> str:
    """sha256 of a file, as text.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(path)


def _digest(path: Path) -> str:
    """As `hashlib.file_digest`, which Python 3.10 lacks."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Edits:
    """Edits that were autosaved.

    Attributes:
        item: Whose mask was edited.
        labels: uint8 (Z, Y, X).
    """

    item: str
    labels: np.ndarray


@dataclass(frozen=True)
class Unsaved:
    """Edits that were autosaved, one file a place in the order; only the box that holds a lesion is stored.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    def positions(self) -> tuple[int, ...]:
        """Places with edits that were not saved."""
        names = (path.stem for path in self.folder.glob("*.npz")) if self.folder.is_dir() else ()
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def keep(self, position: int, edits: Edits) -> None:
        """Autosave; whole or not at all.

        Raises:
            OutputError: The disk is full or the folder can't be written; what was kept before stays.
        """
        box = bounding_box(edits.labels)
        starts = [part.start for part in box]

        def write(partial: Path) -> None:
            with partial.open("wb") as stream:
                np.savez_compressed(
                    stream, labels=edits.labels[box], start=starts, shape=edits.labels.shape, item=edits.item
                )

        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        _put(self._file(position), f"{position}.partial", write)

    def restore(self, position: int) -> Edits:
        """What was autosaved of a place.

        Raises:
            InputError: It is damaged.
        """
        path = self._file(position)
        try:
            with np.load(path, allow_pickle=False) as kept:
                labels = np.zeros(kept["shape"], np.uint8)
                part = kept["labels"]
                box = tuple(slice(low, low + size) for low, size in zip(kept["start"], part.shape, strict=True))
                labels[box] = part
                return Edits(str(kept["item"]), labels)
        except Exception as error:
            raise InputError(f"{path} is damaged.", "The edits in it can't be restored; saved versions can.") from error

    def set_aside(self, position: int) -> Path:
        """Keep the edits of a place under another name, out of the way of new ones."""
        path = self._file(position)
        names = (f"{position}-kept-{number}.npz" for number in range(1, 1000))
        aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
        with output_errors(path):
            path.rename(aside)
        return aside

    def discard(self, position: int) -> None:
        """Forget the edits of a place."""
        self._file(position).unlink(missing_ok=True)

    def _file(self, position: int) -> Path:
        return self.folder / f"{position}.npz"


def _put(path: Path, partial_name: str, write: Callable[[Path], None]) -> None:
    """Write beside a file's place, force it to the disk, and rename it into place."""
    partial = path.with_name(partial_name)
    try:
        with output_errors(path):
            write(partial)
            _sync(partial)
            partial.replace(path)
            if os.name == "posix":  # elsewhere folders can't be opened
                _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
