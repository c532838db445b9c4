"""The surface of a mask as points, and the nearest of them to others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import groupby, product
from math import hypot
from operator import itemgetter, mul
from typing import TypeVar

import numpy as np
from scipy.spatial import KDTree

from BreastTumorSegLib.core.boxes import Box

Spacing = tuple[float, float, float]
_In = TypeVar("_In")
_Out = TypeVar("_Out")

NEAR_VOXELS = 4
"""So many of a voxel's shortest edges away, another surface is looked up voxel by voxel."""

# scipy's tree tells little of points that lie in a plane along an axis, such as a mask's at the border of the image:
# it takes up to ten times as long with them. In oblique axes nothing does; any rotation would do.
_OBLIQUE = np.linalg.qr([[3.0, 1.0, 2.0], [1.0, 4.0, 1.0], [2.0, 1.0, 5.0]])[0]


class Surface:
    """Surface voxels of a mask.

    Args:
        voxels: Surface voxels within `box`, bool.
        box: Where they are in the volume.
        around: The box that holds all surfaces that are compared.
        spacing_zyx: Voxel size in array order.

    Attributes:
        where: Indices of the N surface voxels in the flat array, with a margin around it that `look_up` needs.
        places: Their indices along each axis, (N, 3).
        points: Their positions, (N, 3) in the unit of the spacing.
        reach: How far `look_up` sees.
    """

    def __init__(self, voxels: np.ndarray, box: Box, around: Box, spacing_zyx: Spacing) -> None:
        self.reach = NEAR_VOXELS * min(spacing_zyx)
        self._spacing = spacing_zyx
        self._margin = [int(self.reach / step) for step in spacing_zyx]
        self.shape = tuple(whole.stop - whole.start + 2 * m for whole, m in zip(around, self._margin, strict=True))
        corner = [part.start - whole.start + m for part, whole, m in zip(box, around, self._margin, strict=True)]
        padded = np.zeros(self.shape, bool)
        if voxels.size:
            padded[tuple(slice(c, c + size) for c, size in zip(corner, voxels.shape, strict=True))] = voxels
        self._voxels = padded.ravel()
        self.where = np.flatnonzero(self._voxels)
        self.places = np.stack(np.unravel_index(self.where, self.shape), axis=1).astype(np.int32)
        self.points = self.places * np.asarray(spacing_zyx)

    def __len__(self) -> int:
        return len(self.where)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The surface's point nearest to each of others, (M, 3)."""
        return self.points[self._tree.query(points @ _OBLIQUE)[1]]

    def look_up(self, where: np.ndarray, enough: int = 0) -> tuple[np.ndarray, float]:
        """Distances to voxels that are near; most surfaces that are compared run close to each other.

        Args:
            where: Indices (M,) as those of another surface of the same shape.
            enough: Stop once no more voxels than that are left.

        Returns:
            Distances (M,), infinite for those that are left, and a distance that these exceed.
        """
        distances, left, length = np.full(len(where), np.inf), np.arange(len(where)), 0.0
        for length, steps in self._shells():
            found = self._voxels[where + steps[0]]
            for step in steps[1:]:
                found |= self._voxels[where + step]
            distances[left[found]] = length
            left, where = left[~found], where[~found]
            if len(left) <= enough:
                break
        return distances, length

    def _shells(self) -> list[tuple[float, list[int]]]:
        """Distances within reach, from the shortest, and the steps in the flat array that lead so far."""
        strides = (self.shape[1] * self.shape[2], self.shape[2], 1)
        steps = product(*(range(-m, m + 1) for m in self._margin))
        lengths = sorted((hypot(*map(mul, step, self._spacing)), sum(map(mul, step, strides))) for step in steps)
        shells = groupby(lengths, itemgetter(0))
        return [(length, [step for _, step in shell]) for length, shell in shells if length <= self.reach]

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.points @ _OBLIQUE, leafsize=64, compact_nodes=False, balanced_tree=False)


def side_by_side(work: Callable[[_In], _Out], both: tuple[_In, _In]) -> tuple[_Out, _Out]:
    """Do the same for both at once; numpy and scipy let Python go on meanwhile, so that two cores are used."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(work, both[0])
        second = work(both[1])
        return first.result(), second


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Euclidean lengths (N,) of vectors (N, 3)."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
