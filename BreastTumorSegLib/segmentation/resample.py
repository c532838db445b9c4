"""Between an exam's own grid, of any orientation, and the isotropic grids along LPS that the networks see."""

from __future__ import annotations

import itertools

import numpy as np
import SimpleITK as sitk

from BreastTumorSegLib.core.geometry import Geometry


def isotropic_grid(geometry: Geometry, spacing: float) -> Geometry:
    """The smallest grid along the LPS axes that covers a volume, with `spacing` mm in all directions."""
    ends = [(-0.5, size - 0.5) for size in geometry.size]
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)]) @ geometry.matrix.T
    low, high = corners[:, :3].min(0), corners[:, :3].max(0)
    size = np.ceil((high - low) / spacing - 1e-6).astype(int)
    origin = (low + high) / 2 - (size - 1) / 2 * spacing
    return Geometry(tuple(size.tolist()), (spacing,) * 3, tuple(origin.tolist()))


def resample(array: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Values of a volume (Z, Y, X) on another grid, float32, linear between voxels, 0 outside.

    Where the target is coarser, neighbours are averaged first, so that noise falls and nothing is skipped.
    """
    factors = [max(int(t / s + 0.25), 1) for s, t in zip(source.spacing, _spacing_along(source, target), strict=True)]
    if max(factors) == 1:  # a window of an exam needs little of it
        around = _covering(source, target)
        array, source = array[around], crop(source, around)
    image = source.image(np.ascontiguousarray(array, dtype=np.float32))
    if max(factors) > 1:
        # Bins that stick out of the volume would be dropped, and its last planes with them.
        missing = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
        image = sitk.BinShrink(sitk.ZeroFluxNeumannPad(image, [0, 0, 0], missing), factors)
    return sitk.GetArrayFromImage(
        sitk.Resample(
            image, list(target.size), sitk.Transform(), sitk.sitkLinear, target.origin, target.spacing, target.direction
        )
    )


def _spacing_along(source: Geometry, target: Geometry) -> tuple[float, ...]:
    """The target's spacing along the source's axes, for grids that are turned against each other by right angles."""
    turn = np.abs(np.reshape(target.direction, (3, 3)).T @ np.reshape(source.direction, (3, 3)))
    return tuple(target.spacing[int(np.argmax(turn[:, axis]))] for axis in range(3))


def _covering(source: Geometry, target: Geometry) -> tuple[slice, slice, slice]:
    """The part of a source's array that a target's voxels lie in, and a voxel more on every side."""
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*((0, size - 1) for size in target.size))])
    indices = corners @ target.matrix.T @ np.linalg.inv(source.matrix).T
    low, high = np.floor(indices.min(0)).astype(int) - 1, np.ceil(indices.max(0)).astype(int) + 2
    x, y, z = (
        slice(min(max(first, 0), size - 1), max(min(end, size), 1))
        for first, end, size in zip(low[:3], high[:3], source.size, strict=True)
    )
    return z, y, x


def crop(geometry: Geometry, box: tuple[slice, slice, slice]) -> Geometry:
    """The grid of an array's part; `box` in array order (Z, Y, X)."""
    z, y, x = box
    start = geometry.matrix @ np.array([x.start, y.start, z.start, 1.0])
    size = (x.stop - x.start, y.stop - y.start, z.stop - z.start)
    return Geometry(size, geometry.spacing, tuple(start[:3].tolist()), geometry.direction)
