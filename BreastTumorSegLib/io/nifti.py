"""Reads voxels of NIfTI-1 files, and checks their headers.

ITK is not asked for this: it repairs bad spacing, fills in missing voxels and turns NaN into 0, without a word.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.io.raw import Layout, damaged, run_through, truncated, voxels_in_pieces

HEADER_BYTES = 348
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error)
# A byte of deflated data never holds more than this many.
_MOST_INFLATED = 1032


def is_nifti(path: Path) -> bool:
    """True by the file's name: .nii or .nii.gz."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_header(path: Path) -> None:
    """Check that a NIfTI file has a header, sizes, usable spacing and a place in space.

    Raises:
        InputError: It is no NIfTI-1 file, its voxels are no real numbers, a spacing is zero, negative or no number, or
            the header is damaged.
    """
    try:
        with _open(path) as stream:
            _header(stream.read(HEADER_BYTES), path)
    except _DAMAGE as error:
        raise _no_nifti(path) from error


def read_voxels(path: Path) -> np.ndarray:
    """Voxels of a NIfTI file, (..., Z, Y, X), scaled as its header says; the stored number type where it says nothing.

    Raises:
        InputError: It is no NIfTI-1 file, truncated, or its compressed data are damaged.
    """
    return run_through(read_in_pieces(path))


def read_in_pieces(path: Path) -> Generator[float, None, np.ndarray]:
    """As `read_voxels`, yielding the fraction done."""
    try:
        with _open(path) as stream:
            layout = _header(stream.read(HEADER_BYTES), path)
            # Nothing is allocated for a header that promises more than the file can hold.
            most = path.stat().st_size * (_MOST_INFLATED if isinstance(stream, gzip.GzipFile) else 1)
            if most < layout.bytes:
                raise truncated(path, most, layout)
            return (yield from voxels_in_pieces(stream, layout, path))
    except _DAMAGE as error:
        raise damaged(path, "its compressed data end early or are corrupt") from error


def _header(raw: bytes, path: Path) -> Layout:
    order = next((order for order in "<>" if raw[:4] == struct.pack(order + "i", HEADER_BYTES)), None)
    if order is None or len(raw) < HEADER_BYTES:
        raise _no_nifti(path)
    count, *sizes = struct.unpack_from(order + "8h", raw, 40)
    (code,) = struct.unpack_from(order + "h", raw, 70)
    spacing = struct.unpack_from(order + "3f", raw, 80)
    offset, slope, intercept = struct.unpack_from(order + "3f", raw, 108)
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        raise damaged(path, f"its header has the sizes {sizes} in {count} dimensions")
    if not (math.isfinite(offset) and offset >= 0) or not _has_place(raw, order):
        raise damaged(path, "its header has numbers that are none")
    if code not in TYPES:
        raise InputError(f"{path}: voxels of NIfTI type {code} can't be used.", "Export real numbers, such as int16.")
    for axis, value in list(zip("xyz", spacing, strict=True))[:count]:
        if not (math.isfinite(value) and value > 0):
            raise InputError(
                f"{path}: the spacing along {axis} is {value:g} mm.",
                "Export the volume again, or correct pixdim in its header.",
            )
    # As ITK does, voxels never start inside the header, whatever it says.
    start = max(int(offset), HEADER_BYTES)
    return Layout(tuple(sizes[:count]), np.dtype(order + TYPES[code]), start, slope, intercept)


def _has_place(raw: bytes, order: str) -> bool:
    """True where the position and orientation that the header says to use are finite."""
    quaternion, affine = struct.unpack_from(order + "2h", raw, 252)
    used = [*struct.unpack_from(order + "6f", raw, 256)] * (quaternion > 0)
    used += [*struct.unpack_from(order + "12f", raw, 280)] * (affine > 0)
    return all(map(math.isfinite, used))


def _open(path: Path) -> BinaryIO:
    """Open by content: an uncompressed file named .nii.gz is read as ITK reads it."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _no_nifti(path: Path) -> InputError:
    return InputError(f"{path} is no NIfTI-1 file.", "Check what the file is; export the volume as NIfTI-1 or NRRD.")
