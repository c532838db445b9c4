"""Pictures of 2D planes, drawn at the size at which they are shown, in true aspect."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from scipy import ndimage

from BreastTumorSegLib.core.colors import rgb


class Picture:
    """A plane in grey, on which masks are drawn.

    Args:
        plane: (rows, columns), any unit.
        window: The values that are shown black and white.
        spacing: Millimetres between rows and between columns.
        px_per_mm: Pixels of the picture per millimetre of the patient.

    Attributes:
        extent: Millimetres down and across.
    """

    def __init__(
        self, plane: np.ndarray, window: tuple[float, float], spacing: tuple[float, ...], px_per_mm: float
    ) -> None:
        self.extent = (plane.shape[0] * spacing[0], plane.shape[1] * spacing[1])
        rows, columns = (max(1, round(length * px_per_mm)) for length in self.extent)
        self._size = (columns, rows)
        low, high = window
        gray = np.clip((plane - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        self.pixels = np.asarray(self._resized(gray, Image.Resampling.BICUBIC).convert("RGB")).copy()

    def outline(self, mask: np.ndarray, color: str) -> None:
        """Draw a thin smooth line around a mask (rows, columns), outside of it so that it hides nothing."""
        inside = self._resized(mask.astype(np.uint8) * 255, Image.Resampling.BILINEAR)
        smooth = np.asarray(inside) > 127
        self.pixels[ndimage.binary_dilation(smooth, iterations=2) & ~smooth] = rgb(color)

    def tint(self, mask: np.ndarray, color: str) -> None:
        """Colour a mask (rows, columns), voxel by voxel, so that a little of the grey shows through."""
        inside = np.asarray(self._resized(mask.astype(np.uint8), Image.Resampling.NEAREST)) > 0
        self.pixels[inside] = 0.25 * self.pixels[inside] + 0.75 * np.asarray(rgb(color))

    def source(self) -> str:
        """The picture as the source of an HTML image that needs no other file."""
        buffer = io.BytesIO()
        # No chroma subsampling: it would smear the thin coloured lines.
        Image.fromarray(self.pixels).save(buffer, "JPEG", quality=88, subsampling=0)
        return source("jpeg", buffer.getvalue())

    def _resized(self, plane: np.ndarray, how: Image.Resampling) -> Image.Image:
        return Image.fromarray(plane).resize(self._size, how)


def source(kind: str, data: bytes) -> str:
    """Image data of a kind ("png", "jpeg") as the source of an HTML image."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
