"""The voxel grid of a volume in patient space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

# Headers keep fewer digits than scanners compute with; half a hundredth of a millimetre is no difference.
TOLERANCE_MM = 5e-3
TOLERANCE_COSINE = 1e-3


@dataclass(frozen=True)
class Geometry:
    """Size, spacing, origin and direction of a 3D grid, in LPS and millimetres, in SimpleITK's (x, y, z) order.

    Attributes:
        size: Voxels along x, y, z.
        spacing: Millimetres along x, y, z.
        origin: LPS position of the centre of voxel (0, 0, 0).
        direction: Nine direction cosines, row by row, as SimpleITK has them.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (Z, Y, X)."""
        return (self.size[2], self.size[1], self.size[0])

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """Spacing in array order, millimetres."""
        return (self.spacing[2], self.spacing[1], self.spacing[0])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def matrix(self) -> np.ndarray:
        """4 x 4 matrix from voxel index (x, y, z, 1) to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def plane(self) -> str:
        """Acquisition plane by the slice axis: "axial", "sagittal" or "coronal"."""
        slice_axis = np.abs(np.reshape(self.direction, (3, 3))[:, 2])
        return ("sagittal", "coronal", "axial")[int(np.argmax(slice_axis))]

    @classmethod
    def of(cls, image: sitk.Image) -> Geometry:
        """The geometry of a 3D SimpleITK image."""
        return cls(
            tuple(image.GetSize()),
            tuple(image.GetSpacing()),
            tuple(image.GetOrigin()),
            tuple(image.GetDirection()),
        )

    def image(self, array: np.ndarray) -> sitk.Image:
        """A SimpleITK image of an array (Z, Y, X) on this grid.

        Raises:
            ValueError: The array's shape is not this grid's.
        """
        if array.shape != self.shape:
            raise ValueError(f"Array of shape {array.shape} does not fit a grid of shape {self.shape}.")
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def difference(self, other: Geometry) -> str | None:
        """In words, the first thing in which two grids differ; None when they are the same."""
        if self.size != other.size:
            return f"size {_text(self.size)} against {_text(other.size)}"
        if not np.allclose(self.spacing, other.spacing, atol=TOLERANCE_MM):
            return f"spacing {_text(self.spacing)} mm against {_text(other.spacing)} mm"
        if not np.allclose(self.direction, other.direction, atol=TOLERANCE_COSINE):
            return f"direction {_text(self.direction)} against {_text(other.direction)}"
        if not np.allclose(self.origin, other.origin, atol=max(TOLERANCE_MM, 0.01 * min(self.spacing))):
            return f"origin {_text(self.origin)} mm against {_text(other.origin)} mm"
        return None


def _text(values: tuple[float, ...] | tuple[int, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
