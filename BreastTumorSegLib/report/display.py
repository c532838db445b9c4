"""Turns arrays of any acquisition plane the way radiologists look at them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TypeVar

import numpy as np

from BreastTumorSegLib.core.geometry import Geometry

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """A direction to look along.

    Attributes:
        name: "axial", "coronal" or "sagittal".
        axis: The axis of a turned array that is looked along; the other two are the image's rows and columns.
        letters: What is at the image's left, right, top and bottom: R, L, A, P, S or I.
    """

    name: str
    axis: int
    letters: tuple[str, str, str, str]

    def in_plane(self, values: tuple[T, ...]) -> tuple[T, ...]:
        """Of three values, one a turned axis, those of the image's rows and columns."""
        return values[: self.axis] + values[self.axis + 1 :]

    def plane(self, turned: np.ndarray, index: int) -> np.ndarray:
        """One slice (rows, columns) of a turned array, without a copy."""
        return np.moveaxis(turned, self.axis, 0)[index]


AXIAL = View("axial", 0, ("R", "L", "A", "P"))
CORONAL = View("coronal", 1, ("R", "L", "S", "I"))
SAGITTAL = View("sagittal", 2, ("A", "P", "S", "I"))
VIEWS = {view.name: view for view in (AXIAL, CORONAL, SAGITTAL)}


class Display:
    """Turns arrays of one grid to run superior to inferior, anterior to posterior, patient's right to left.

    Each slice of a turned array is then an image in the radiological convention, without another flip. Oblique grids
    are turned to the nearest axes.

    Attributes:
        spacing: Millimetres along the turned axes.
    """

    def __init__(self, geometry: Geometry) -> None:
        cosines = np.reshape(geometry.direction, (3, 3))
        nearest = max(permutations(range(3)), key=lambda axes: np.abs(cosines[range(3), axes]).sum())
        self._geometry = geometry
        self._axes = nearest[::-1]  # the grid's axis (x, y, z) that runs along S, P and L
        toward = cosines[(2, 1, 0), self._axes] * (-1, 1, 1)  # LPS runs to the superior, a turned array to the inferior
        self._backwards = tuple(bool(cosine < 0) for cosine in toward)
        self.spacing = tuple(geometry.spacing[axis] for axis in self._axes)

    def turn(self, array: np.ndarray) -> np.ndarray:
        """A view of an array (Z, Y, X) that runs superior-inferior, anterior-posterior, right-left."""
        flips = tuple(slice(None, None, -1 if backwards else 1) for backwards in self._backwards)
        return array.transpose([2 - axis for axis in self._axes])[flips]

    def position(self, view: View, index: int) -> str:
        """Where the slice `index` of a turned array cuts the middle of the volume, such as "S 34 mm"."""
        voxel = (np.asarray(self._geometry.size) - 1) / 2
        axis = self._axes[view.axis]
        voxel[axis] = self._geometry.size[axis] - 1 - index if self._backwards[view.axis] else index
        millimetres = (self._geometry.matrix @ (*voxel, 1))[2 - view.axis]
        letter = ("IS", "AP", "RL")[view.axis][int(millimetres > 0)]
        return f"{letter} {abs(millimetres):.0f} mm"
