"""Reads and writes volumes in pieces of about ten milliseconds, for a thread that must not be held up.

Example:
    >>> for fraction in write_in_pieces(array, geometry, Path("phase_0.nrrd")):
    ...     bar.setValue(100 * fraction)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.errors import InputError, typed_errors
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io import nifti, nrrd
from BreastTumorSegLib.io.files import read_geometry
from BreastTumorSegLib.io.raw import PIECE_BYTES
from BreastTumorSegLib.io.results import output_errors


def write_in_pieces(
    array: np.ndarray, geometry: Geometry, path: Path, piece_bytes: int = PIECE_BYTES
) -> Generator[float, None, None]:
    """Write an uncompressed NRRD file beside its place and rename it last; closing early leaves nothing.

    Args:
        array: Voxels (Z, Y, X) of any integer or float type but float16, in any memory layout; bool is stored as uint8.
        geometry: Its grid.
        path: File to write; one that is there is replaced.
        piece_bytes: A piece is rows of one slice, and no more than this unless one row is.

    Yields:
        The fraction done; the file is in place when it is 1.

    Raises:
        OutputError: The folder is not writable or the disk is full.
        ValueError: The array's shape is not the grid's, or NRRD lacks its number type.
    """
    if array.shape != geometry.shape:
        raise ValueError(f"Array of shape {array.shape} does not fit a grid of shape {geometry.shape}.")
    path = Path(path)
    stored = np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("<")
    header = nrrd.header(stored, geometry)
    partial = path.with_name(path.name + ".partial")
    rows = max(1, piece_bytes // (array.shape[2] * stored.itemsize))
    try:
        with output_errors(path):
            with partial.open("wb") as stream:
                stream.write(header)
                for done, block in _blocks(array, rows):
                    if done:
                        yield done
                    stream.write(np.ascontiguousarray(block, stored).data)
            partial.replace(path)
        yield 1.0
    finally:
        with suppress(OSError):
            partial.unlink()


def _blocks(array: np.ndarray, rows: int) -> Iterator[tuple[float, np.ndarray]]:
    """Blocks of rows in the order of the file, each with the fraction that is before it."""
    depth, height, _ = array.shape
    for z in range(depth):
        for y in range(0, height, rows):
            yield (z + y / height) / depth, array[z, y : y + rows]


def read_in_pieces(path: Path) -> Generator[float, None, tuple[np.ndarray, Geometry]]:
    """Read one 3D volume: NIfTI-1, compressed or not, or uncompressed NRRD.

    Yields:
        The fraction done.

    Returns:
        Voxels (Z, Y, X) and their grid. The number type is the file's own, or float32 where its header scales values.

    Raises:
        InputError: Missing, truncated, damaged, no 3D volume, or of another format.
    """
    path = Path(path)
    with typed_errors():
        geometry = read_geometry(path)
        yield 0.0
        if nifti.is_nifti(path):
            voxels = yield from nifti.read_in_pieces(path)
        elif path.suffix.lower() == ".nrrd":
            voxels = yield from nrrd.read_in_pieces(path)
        else:
            raise InputError(f"{path} is no NIfTI or NRRD file.", "Save it as one of them.")
        return voxels.reshape(geometry.shape), geometry
