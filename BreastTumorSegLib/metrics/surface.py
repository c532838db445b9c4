"""Distances between the surfaces of two masks."""

from __future__ import annotations

from itertools import product
from math import hypot
from operator import mul
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from BreastTumorSegLib.core.boxes import NOWHERE, Box, bounding_box, united, widened

NEAR_VOXELS = 4
"""So many of a voxel's shortest edges away, the other surface is looked up voxel by voxel."""


class SurfaceDistances(NamedTuple):
    """Distances between two surfaces.

    Attributes:
        hd95: Hausdorff distance at the 95th percentile: the larger of the two directed ones.
        assd: Average symmetric surface distance: mean over the voxels of both surfaces.
    """

    hd95: float
    assd: float


def surface_distances(
    a: np.ndarray, b: np.ndarray, spacing_zyx: tuple[float, float, float], border: bool = True
) -> SurfaceDistances:
    """Distances between the surfaces of two masks, in the unit of the spacing.

    A surface is the voxels with a neighbour outside the mask across a face; distances are between voxel centres. Both
    masks empty: NaN, there is nothing to measure. One empty: infinite, no distance is large enough for a miss.

    Args:
        a: Mask, (Z, Y, X) bool.
        b: Mask of the same shape.
        spacing_zyx: Voxel size in array order.
        border: Whether beyond the image's border is outside of a mask.
    """
    box_a, box_b = bounding_box(a), bounding_box(b)
    if NOWHERE in (box_a, box_b):
        distance = np.nan if box_a == box_b else np.inf
        return SurfaceDistances(distance, distance)
    box = united(box_a, box_b)
    reach = NEAR_VOXELS * min(spacing_zyx)
    margin = [int(reach / step) for step in spacing_zyx]
    surface_a, surface_b = (np.pad(_surface(mask, box, border), [(m, m) for m in margin]) for mask in (a, b))
    steps = _steps(surface_a.shape, margin, reach, spacing_zyx)
    to_b, to_a = (_distances(*pair, steps, spacing_zyx) for pair in ((surface_a, surface_b), (surface_b, surface_a)))
    return SurfaceDistances(
        float(max(np.percentile(to_b, 95), np.percentile(to_a, 95))), float(np.concatenate([to_b, to_a]).mean())
    )


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


def _steps(
    shape: tuple[int, ...], margin: list[int], reach: float, spacing: tuple[float, float, float]
) -> list[tuple[float, int]]:
    """Every step to a voxel within reach, nearest first: its length, and how far it leads in the flat array."""
    steps = product(*(range(-m, m + 1) for m in margin))
    strides = (shape[1] * shape[2], shape[2], 1)
    lengths = [(hypot(*map(mul, step, spacing)), sum(map(mul, step, strides))) for step in steps]
    return sorted(step for step in lengths if step[0] <= reach)


def _distances(
    a: np.ndarray, b: np.ndarray, steps: list[tuple[float, int]], spacing: tuple[float, float, float]
) -> np.ndarray:
    """Distance from each voxel of surface `a` to the nearest of `b`; both have an empty margin as wide as any step.

    Most surfaces run close to each other: near voxels are looked up, and a search tree is for the others.
    """
    there = b.ravel()
    here = np.flatnonzero(a)
    distances, left = np.zeros(len(here)), np.arange(len(here))
    for length, step in steps:
        found = there[here[left] + step]
        distances[left[found]] = length
        left = left[~found]
    if len(left):
        # On a whole breast, a tree of the surfaces' points is six times as fast as distance transforms.
        points, others = (_points(indices, a.shape, spacing) for indices in (here[left], np.flatnonzero(there)))
        distances[left] = KDTree(others, compact_nodes=False, balanced_tree=False).query(points)[0]
    return distances


def _points(indices: np.ndarray, shape: tuple[int, ...], spacing: tuple[float, float, float]) -> np.ndarray:
    """Positions (N, 3) in mm of indices into a flat array."""
    return np.stack(np.unravel_index(indices, shape), axis=1) * np.asarray(spacing)
