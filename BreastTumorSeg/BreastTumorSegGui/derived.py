"""Subtraction volumes and maximum-intensity projections, computed slab by slab."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from BreastTumorSegLib.core.geometry import Geometry

SLAB_VOXELS = 1_000_000
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Patient axis (left, posterior, superior) that each projection looks along."""


def subtract(post: np.ndarray, pre: np.ndarray) -> Generator[float, None, np.ndarray]:
    """The enhancement post - pre, float32 (Z, Y, X); yields the done fraction."""
    result = np.empty(pre.shape, np.float32)
    for start, stop in _slabs(pre.shape):
        np.subtract(post[start:stop], pre[start:stop], out=result[start:stop], dtype=np.float32)
        yield stop / len(pre)
    return result


def project(volume: np.ndarray, array_axis: int) -> Generator[float, None, np.ndarray]:
    """The maximum along an array axis, which stays with length one; yields the done fraction."""
    partial = []
    for start, stop in _slabs(volume.shape):
        partial.append(volume[start:stop].max(axis=array_axis, keepdims=True))
        yield stop / len(volume)
    return np.max(partial, axis=0) if array_axis == 0 else np.concatenate(partial)


def projection_axis(geometry: Geometry, plane: str) -> int:
    """Array axis (0 for Z) that comes nearest to what a view of that plane looks along."""
    direction = np.abs(np.reshape(geometry.direction, (3, 3)))
    return 2 - int(np.argmax(direction[AXES[plane]]))


def projected(geometry: Geometry, array_axis: int) -> Geometry:
    """The grid of a projection: one voxel as thick as the volume, so that every slice through it shows it."""
    axis = 2 - array_axis
    count = geometry.size[axis]
    middle = np.zeros(4)
    middle[axis], middle[3] = (count - 1) / 2, 1
    size, spacing = list(geometry.size), list(geometry.spacing)
    size[axis], spacing[axis] = 1, spacing[axis] * count
    origin = tuple((geometry.matrix @ middle)[:3].tolist())
    return replace(geometry, size=tuple(size), spacing=tuple(spacing), origin=origin)


def _slabs(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    thickness = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    return [(start, min(start + thickness, shape[0])) for start in range(0, shape[0], thickness)]
