"""Writes compressed NIfTI-1 files, in pieces that threads compress side by side.

ITK takes three times as long for a map of measurements, and says nothing when the disk is full.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.nifti import HEADER_BYTES, TYPES
from BreastTumorSegLib.io.raw import PIECE_BYTES

_CODES = {np.dtype(name).newbyteorder("<"): code for code, name in TYPES.items()}
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GZIP_START = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
_LAST_BLOCK = b"\x03\x00"
_FIRST_VOXEL = HEADER_BYTES + 4
_MILLIMETRES_AND_SECONDS = 10


def write_nifti(array: np.ndarray, geometry: Geometry, path: Path, step: float | None = None) -> None:
    """Write one volume as `.nii.gz`: a single gzip stream, header as ITK writes it.

    Level 1 and run lengths: MR voxels have noise in their last bits, in which a longer search finds nothing; see
    docs/performance.md.

    Args:
        array: Voxels (Z, Y, X) of an integer or float type that NIfTI has.
        geometry: Its grid.
        path: File to write.
        step: Store the nearest multiples of this as integers, and this as the header's slope; readers get float32.

    Raises:
        OSError: As the operating system says it.
        ValueError: The array's shape is not the grid's, or NIfTI lacks its number type.
    """
    if array.shape != geometry.shape:
        raise ValueError(f"Array of shape {array.shape} does not fit a grid of shape {geometry.shape}.")
    stored = array.dtype.newbyteorder("<") if step is None else _integers(array, step)
    if stored not in _CODES:
        raise ValueError(f"NIfTI has no voxels of type {array.dtype}.")
    slices = max(1, PIECE_BYTES // (array[0].size * stored.itemsize))

    def deflated(z: int) -> tuple[bytes, bytes]:
        piece = array[z : z + slices]
        raw = (piece if step is None else np.rint(piece / np.float32(step))).astype(stored).tobytes()
        return raw, _deflate(raw)

    header = _header(stored, geometry, 1.0 if step is None else step)
    checksum, size = zlib.crc32(header), len(header)
    with path.open("wb") as file, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        file.write(_GZIP_START + _deflate(header))
        for raw, data in pool.map(deflated, range(0, len(array), slices)):
            file.write(data)
            checksum, size = zlib.crc32(raw, checksum), size + len(raw)
        file.write(_LAST_BLOCK + struct.pack("<2I", checksum, size % (1 << 32)))


def _integers(array: np.ndarray, step: float) -> np.dtype:
    """The smaller type that holds all multiples of a step that are in an array."""
    largest = max(-float(array.min()), float(array.max())) / step
    return np.dtype("<i2" if largest < np.iinfo(np.int16).max else "<i4")


def _deflate(raw: bytes) -> bytes:
    """Compressed on its own, to the end of a byte, so that the next piece can follow."""
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return deflater.compress(raw) + deflater.flush(zlib.Z_SYNC_FLUSH)


def _header(stored: np.dtype, geometry: Geometry, slope: float) -> bytes:
    """The header, and the four bytes that say that no extension follows. Positions are RAS."""
    matrix = _TO_RAS @ geometry.matrix
    axes = matrix[:3, :3] / geometry.spacing
    handed = -1.0 if np.linalg.det(axes) < 0 else 1.0
    turn = Rotation.from_matrix(axes * (1.0, 1.0, handed)).as_quat()
    b, c, d, _ = turn * (-1.0 if turn[3] < 0 else 1.0)
    header = bytearray(_FIRST_VOXEL)
    struct.pack_into("<i34xc", header, 0, HEADER_BYTES, b"r")
    struct.pack_into("<8h", header, 40, 3, *geometry.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _CODES[stored], 8 * stored.itemsize)
    struct.pack_into("<4f", header, 76, handed, *geometry.spacing)
    struct.pack_into("<3f", header, 108, _FIRST_VOXEL, slope, 0.0)
    struct.pack_into("<B", header, 123, _MILLIMETRES_AND_SECONDS)
    struct.pack_into("<2h6f", header, 252, 1, 1, b, c, d, *matrix[:3, 3])
    struct.pack_into("<12f", header, 280, *matrix[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header)
