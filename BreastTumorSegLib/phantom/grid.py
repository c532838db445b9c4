"""Sampling grids in patient space, and random fields that are the same at any resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SLAB_VOXELS = 4_000_000

# Standard deviation of white noise after three cubic B-splines: the mean of the squared weights is 151/315 an axis.
_SPLINE_STD = (151 / 315) ** 1.5


@dataclass(frozen=True)
class Grid:
    """An axis-aligned grid in LPS millimetres; x to the patient's left, y to the back, z to the head.

    Attributes:
        z, y, x: Coordinates along each axis, 1D, rising.
    """

    z: Tensor
    y: Tensor
    x: Tensor

    @classmethod
    def box(cls, low: tuple[float, ...], high: tuple[float, ...], spacing: tuple[float, ...], device: str) -> Grid:
        """Grid over a box; `low`, `high` and `spacing` in (z, y, x) order."""
        axes = []
        for start, end, step in zip(low, high, spacing, strict=True):
            axes.append(start + step * torch.arange(max(round((end - start) / step), 2), device=device))
        return cls(*axes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return (len(self.z), len(self.y), len(self.x))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along (z, y, x)."""
        return tuple(float(axis[1] - axis[0]) for axis in (self.z, self.y, self.x))  # type: ignore[return-value]

    @property
    def coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """z, y, x as views that broadcast to the grid's shape."""
        return self.z[:, None, None], self.y[None, :, None], self.x[None, None, :]

    def slabs(self) -> list[slice]:
        """Runs of slices whose temporary arrays the allocator reuses; larger ones cost a page fault each time.

        Each has two slices at least: one alone has no spacing.
        """
        thickness = max(SLAB_VOXELS // (len(self.y) * len(self.x)), 2)
        starts = [z for z in range(0, len(self.z), thickness) if z == 0 or len(self.z) - z > 1]
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(self.z)], strict=True)]

    def slab(self, z: slice) -> Grid:
        """The grid's slices `z`."""
        return Grid(self.z[z], self.y, self.x)

    def around(self, centre: tuple[float, ...], reach: float) -> tuple[tuple[slice, slice, slice], Grid] | None:
        """The part of the grid within `reach` mm of `centre` (z, y, x), as slices and a grid; None if there is none."""
        slices = []
        for axis, middle in zip((self.z, self.y, self.x), centre, strict=True):
            inside = torch.nonzero((axis - middle).abs() <= reach).flatten()
            if len(inside) < 2:
                return None
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        z, y, x = slices
        return (z, y, x), Grid(self.z[z], self.y[y], self.x[x])


class Field:
    """A smooth random field: cubic B-splines over a lattice of normal numbers; mean 0, standard deviation 1.

    Args:
        random: Source of the numbers; always on the CPU, so that a seed gives the same field on every device.
        grid: Where the field will be needed.
        wavelength: Distance of the lattice's knots in millimetres; one number, or one each for (z, y, x).
    """

    def __init__(self, random: np.random.Generator, grid: Grid, wavelength: float | tuple[float, float, float]) -> None:
        steps = wavelength if isinstance(wavelength, tuple) else (wavelength,) * 3
        # Knots stand at fixed places in patient space and far beyond the grid, so that cropping changes nothing.
        self._steps = steps
        self._starts = [-_REACH_MM / 2 - 2 * step for step in steps]
        counts = [int(_REACH_MM / step) + 5 for step in steps]
        self._knots = _lattice(random, counts, grid, self._starts, steps)

    def on(self, grid: Grid) -> Tensor:
        """Values on a grid, (Z, Y, X)."""
        values, offsets = self._knots
        weights = [
            _spline_weights((axis - start) / step - offset, size)
            for axis, start, step, offset, size in zip(
                (grid.z, grid.y, grid.x), self._starts, self._steps, offsets, values.shape, strict=True
            )
        ]
        values = torch.einsum("zk,kji->zji", weights[0], values.to(grid.x.device))
        values = torch.einsum("yj,zji->zyi", weights[1], values)
        return (values @ weights[2].T) / _SPLINE_STD


_REACH_MM = 640.0


def _lattice(
    random: np.random.Generator, counts: list[int], grid: Grid, starts: list[float], steps: tuple[float, ...]
) -> tuple[Tensor, list[int]]:
    """Normal numbers for the knots that a grid needs, and the index of the first of them along each axis.

    The numbers of a knot depend on the seed and on its place alone: whole z-planes are drawn, each from its own seed.
    """
    ranges = []
    for axis, start, step, count in zip((grid.z, grid.y, grid.x), starts, steps, counts, strict=True):
        first = int((float(axis[0]) - start) / step) - 2
        last = int((float(axis[-1]) - start) / step) + 4
        ranges.append((max(first, 0), min(last, count)))
    seed = int(random.integers(2**62))
    (z0, z1), (y0, y1), (x0, x1) = ranges
    planes = [
        np.random.default_rng([seed, k]).standard_normal((counts[1], counts[2]), dtype=np.float32)[y0:y1, x0:x1]
        for k in range(z0, z1)
    ]
    return torch.from_numpy(np.stack(planes)), [z0, y0, x0]


def _spline_weights(position: Tensor, size: int) -> Tensor:
    """Weights of `size` knots at each position (in knots), (N, size), by the cubic B-spline."""
    distance = (position[:, None] - torch.arange(size, device=position.device)).abs()
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, inner, outer).float()


def shifted(volume: Tensor, by: int, dim: int) -> Tensor:
    """Each voxel's neighbour `by` = 1 or -1 along an axis; at the edge the voxel itself."""
    size = volume.shape[dim]
    edge = volume.narrow(dim, size - 1 if by > 0 else 0, 1)
    rest = volume.narrow(dim, 1 if by > 0 else 0, size - 1)
    return torch.cat([rest, edge] if by > 0 else [edge, rest], dim)
