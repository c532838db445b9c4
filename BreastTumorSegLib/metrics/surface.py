"""Distances between the surfaces of two masks.

A surface is the voxels with a neighbour outside the mask across a face; distances are between voxel centres, in the
unit of the spacing. Both masks empty: NaN, there is nothing to measure. One empty: infinite, no distance is large
enough for a miss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from BreastTumorSegLib.core.boxes import Box, bounding_box, united, widened
from BreastTumorSegLib.metrics.hausdorff import hausdorff_percentile
from BreastTumorSegLib.metrics.nearest import Spacing, Surface, lengths, side_by_side


class SurfaceDistances(NamedTuple):
    """Distances between two surfaces.

    Attributes:
        hd95: Hausdorff distance at the 95th percentile: the larger of the two directed ones.
        assd: Average symmetric surface distance: mean over the voxels of both surfaces.
    """

    hd95: float
    assd: float


def surface_distances(a: np.ndarray, b: np.ndarray, spacing_zyx: Spacing) -> SurfaceDistances:
    """Both distances between the surfaces of two masks.

    Args:
        a: Mask, (Z, Y, X) bool.
        b: Mask of the same shape.
        spacing_zyx: Voxel size in array order.
    """
    surfaces = _surfaces(a, b, spacing_zyx, border=True)
    if not all(map(len, surfaces)):
        return SurfaceDistances(_without(surfaces), _without(surfaces))
    to_b, to_a = side_by_side(lambda pair: _distances(*pair), (surfaces, surfaces[::-1]))
    return SurfaceDistances(
        float(max(np.percentile(to_b, 95), np.percentile(to_a, 95))), float(np.concatenate([to_b, to_a]).mean())
    )


def hausdorff95(a: np.ndarray, b: np.ndarray, spacing_zyx: Spacing, border: bool = True) -> float:
    """The `hd95` of `surface_distances` alone, in much less time where the surfaces are far from each other.

    Args:
        a: Mask, (Z, Y, X) bool.
        b: Mask of the same shape.
        spacing_zyx: Voxel size in array order.
        border: Whether beyond the image's border is outside of a mask.
    """
    surfaces = _surfaces(a, b, spacing_zyx, border)
    return hausdorff_percentile(*surfaces, 95) if all(map(len, surfaces)) else _without(surfaces)


def _surfaces(a: np.ndarray, b: np.ndarray, spacing: Spacing, border: bool) -> tuple[Surface, Surface]:
    first, second = side_by_side(bounding_box, (a, b))
    around = united(first, second)
    return side_by_side(
        lambda part: Surface(_surface(*part, border), part[1], around, spacing), ((a, first), (b, second))
    )


def _without(surfaces: tuple[Surface, Surface]) -> float:
    """The distance where a surface is empty."""
    return np.inf if any(map(len, surfaces)) else np.nan


def _surface(mask: np.ndarray, box: Box, border: bool) -> np.ndarray:
    """A mask's surface voxels within a box that holds the mask, bool."""
    wide = widened(box, (1, 1, 1), mask.shape)
    # One voxel around the box, be it the mask's or the border's; scipy's erosion takes ten times as long.
    lacking = [(1 - (p.start - w.start), 1 - (w.stop - p.stop)) for p, w in zip(box, wide, strict=True)]
    inside = np.pad(mask[wide], lacking, constant_values=not border)
    middle = inside[1:-1, 1:-1, 1:-1]
    deep = inside[2:, 1:-1, 1:-1] & inside[:-2, 1:-1, 1:-1]
    deep &= inside[1:-1, 2:, 1:-1] & inside[1:-1, :-2, 1:-1]
    deep &= inside[1:-1, 1:-1, 2:] & inside[1:-1, 1:-1, :-2]
    return middle & ~deep


def _distances(a: Surface, b: Surface) -> np.ndarray:
    """Distance from each voxel of one surface to the nearest of the other."""
    distances, _ = b.look_up(a.where)
    left = np.isinf(distances)
    distances[left] = lengths(a.points[left] - b.nearest(a.points[left]))
    return distances
