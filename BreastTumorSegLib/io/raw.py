"""Voxels as a file stores them, read in pieces that take milliseconds each."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from BreastTumorSegLib.core.errors import InputError

T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""A slow machine reads, inflates or writes as much in about ten milliseconds."""


@dataclass(frozen=True)
class Layout:
    """How a file stores its voxels.

    Attributes:
        sizes: Voxels along each axis, the fastest first.
        type: Of a stored value, with its byte order.
        offset: Bytes before the first voxel.
        slope: What stored values are multiplied with.
        intercept: What is added then.
    """

    sizes: tuple[int, ...]
    type: np.dtype
    offset: int
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of the file as far as the last voxel."""
        return self.offset + math.prod(self.sizes) * self.type.itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether stored values are not the voxels' values. In NIfTI a slope of 0 means that nothing is scaled."""
        scales = self.slope != 0 and math.isfinite(self.slope)
        return scales and (self.slope, self.intercept) != (1.0, 0.0)

    def values(self, stored: np.ndarray) -> np.ndarray:
        """Voxels' values: float32 where they are scaled, else the stored number type in the machine's byte order."""
        if self.is_scaled:
            return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)
        return stored.astype(self.type.newbyteorder("="), copy=False)


def voxels_in_pieces(stream: BinaryIO, layout: Layout, path: Path) -> Generator[float, None, np.ndarray]:
    """Read voxels and then to the end of the stream, where compressed data have their checksum.

    Yields:
        The fraction done.

    Returns:
        Voxels (..., Z, Y, X).

    Raises:
        InputError: The stream ends before the last voxel.
    """
    count, item = math.prod(layout.sizes), layout.type.itemsize
    voxels = np.empty(count, np.float32 if layout.is_scaled else layout.type.newbyteorder("="))
    step = PIECE_BYTES // item
    stream.seek(layout.offset)
    for start in range(0, count, step):
        end = min(start + step, count)
        stored = stream.read((end - start) * item)
        if len(stored) < (end - start) * item:
            raise truncated(path, layout.offset + start * item + len(stored), layout)
        voxels[start:end] = layout.values(np.frombuffer(stored, layout.type))
        yield end / count
    while stream.read(PIECE_BYTES):
        yield 1.0
    return voxels.reshape(layout.sizes[::-1])


def run_through(pieces: Generator[float, None, T]) -> T:
    """Do a piecewise job in one go, and return what it returns."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def truncated(path: Path, there: int, layout: Layout) -> InputError:
    """The error for a file with `there` bytes of what its layout needs."""
    return damaged(path, f"it holds {there} of {layout.bytes} bytes")


def damaged(path: Path, how: str) -> InputError:
    """The error for a file that is not what its header says."""
    return InputError(f"{path} is damaged: {how}.", "Copy or export the file again.")
