"""Where windows go, and how their answers are blended."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Start = tuple[int, int, int]

SIGMA = 0.125
"""Standard deviation of the weights, as a share of the window's edge; MONAI and nnU-Net have the same."""


def plan_windows(wanted: np.ndarray, window: Start, halo: int, multiple: int) -> list[Start]:
    """Where windows start so that every wanted voxel is `halo` deep inside one, or at the volume's own border.

    The largest part of the mask is tiled first; what an earlier window covers needs no other. Starts are multiples of
    `multiple`, so that a network with strides sees the same grid in a window as in the volume. No window comes twice.

    Where the volume's size is no multiple, the last window of an axis sticks out of it.

    Args:
        wanted: Mask (Z, Y, X).
        window: Edges in voxels, no longer than the volume's.
    """
    missing = wanted.copy()
    labels, count = ndimage.label(wanted, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels)
    starts: list[Start] = []
    for part in np.argsort(-sizes, kind="stable"):
        if not missing[boxes[part]][labels[boxes[part]] == part + 1].any():
            continue
        axes = [_starts(*axis, halo, multiple) for axis in zip(boxes[part], window, wanted.shape, strict=True)]
        for z, y, x in itertools.product(*axes):
            start = (z, y, x)
            core = tuple(_core(*axis, halo) for axis in zip(start, window, wanted.shape, strict=True))
            if missing[core].any():
                missing[core] = False
                starts.append(start)
    return starts


def _starts(extent: slice, edge: int, size: int, halo: int, multiple: int) -> list[int]:
    """Starts along one axis: as few windows as cover an extent with its halo, and what they cover beyond it shared."""
    low, high = max(extent.start - halo, 0), min(extent.stop + halo, size)
    low -= low % multiple
    step = max((edge - 2 * halo) // multiple, 1) * multiple
    count = 1 + max(-(-(high - low - edge) // step), 0)
    last = -(-(size - edge) // multiple) * multiple
    beyond = low + (count - 1) * step + edge - high
    low -= beyond // 2 // multiple * multiple
    return sorted({min(max(low + n * step, 0), last) for n in range(count)})


def _core(start: int, edge: int, size: int, halo: int) -> slice:
    """The part of a window that can be used: all but a halo, which is not needed at the volume's own border."""
    return slice(start + halo if start else 0, start + edge - halo if start + edge < size else size)


@lru_cache(maxsize=4)
def importance(window: Start) -> Tensor:
    """Weights of a window's voxels (Z, Y, X): a Gaussian around its middle, nowhere under a thousandth."""
    edges = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (SIGMA * n)) ** 2) for n in window]
    weights = edges[0][:, None, None] * edges[1][:, None] * edges[2]
    return torch.from_numpy(np.maximum(weights, 1e-3).astype(np.float32))


class Blend:
    """The weighted mean of what windows say of a volume.

    Args:
        shape: Of the volume, (Z, Y, X).
        device: Where the sums are kept.
        halo: Voxels at the edge of a window that don't count, but at the volume's own border.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, halo: int = 0) -> None:
        self._halo = halo
        self._sums: Tensor | None = None
        self._weights = torch.zeros(shape, device=device)

    def add(self, start: Start, logits: Tensor) -> None:
        """Add one window's logits (K, Z, Y, X)."""
        if self._sums is None:
            self._sums = torch.zeros((len(logits), *self._weights.shape), device=self._weights.device)
        axes = zip(start, logits.shape[1:], self._weights.shape, strict=True)
        place = tuple(_core(*axis, self._halo) for axis in axes)
        inner = tuple(slice(part.start - at, part.stop - at) for part, at in zip(place, start, strict=True))
        weights = importance(tuple(logits.shape[1:]))[inner].to(self._weights.device, non_blocking=True)
        self._sums[(slice(None), *place)] += weights * logits[(slice(None), *inner)].to(weights.device, torch.float32)
        self._weights[place] += weights

    def into(self, background: Tensor, wanted: Tensor) -> Tensor:
        """`background` (K, Z, Y, X) on the CPU, with the windows' answers where `wanted` (Z, Y, X)."""
        if self._sums is None:
            return background
        blended = (self._sums / self._weights.clamp_min(1e-6)).cpu()
        return torch.where(wanted, blended, background)


def batches(windows: list[tuple[Start, Tensor]], size: int) -> Iterator[list[tuple[Start, Tensor]]]:
    """Windows (start and image) in groups of at most `size`, those of a group all of one shape."""
    for _, alike in itertools.groupby(windows, lambda window: window[1].shape):
        group = list(alike)
        yield from (group[at : at + size] for at in range(0, len(group), size))
