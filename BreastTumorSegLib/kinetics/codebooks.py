"""Codebooks of time-intensity curves: how a voxel gets its cluster, and the ones that are shipped. NumPy alone.

Slicer's own Python has neither PyTorch nor scikit-learn, and labels must not depend on a device; so whatever fitted a
codebook, assigning happens here, in float32 on the CPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from BreastTumorSegLib.core.errors import InputError, ModelError
from BreastTumorSegLib.core.models import models_folder
from BreastTumorSegLib.kinetics.curves import LEAST_SHAPE, amplitude, by_washout, curve_features, nearest, read_at

METHODS = ("kmeans", "vqvae")
CODEBOOKS = "tic-codebooks"

GRID = np.arange(75.0, 901.0, 75.0)
"""Seconds after injection of the population's curves and of the VQ-VAE's common axis; twelve, without the 0 at 0 s."""

_CHUNK = 20_000


class Codebook(Protocol):
    """K kinds of curves, numbered from persistent to washout."""

    def centres(self, seconds: np.ndarray) -> np.ndarray:
        """Percent enhancement of each kind at seconds after injection (T,), float64 (K, T)."""

    def assign(self, curves: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Number of the kind of every curve, from 1, uint8 (N,).

        Args:
            curves: Percent enhancement, (T, N); the first phase is the pre-contrast one.
            seconds: After injection, (T,).
        """


class Clusterer(Protocol):
    """A method that learns a codebook."""

    def fit(self, curves: np.ndarray, seconds: np.ndarray, k: int, seed: int = 0) -> Codebook:
        """Learn at most k kinds, numbered from persistent to washout; arguments as `Codebook.assign` has them."""


@dataclass(frozen=True)
class CurveCodebook:
    """Curves as functions of time; a voxel gets the nearest in shape and amplitude at the exam's own times.

    Attributes:
        knots: Seconds after injection, (T,), from 0.
        curves: Percent enhancement at the knots, (K, T).
    """

    knots: np.ndarray
    curves: np.ndarray

    def centres(self, seconds: np.ndarray) -> np.ndarray:
        """See `Codebook`."""
        return read_at(seconds, self.knots, self.curves)

    def assign(self, curves: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `Codebook`."""
        centres = curve_features(self.centres(seconds).T)
        return (1 + nearest(curve_features(curves), centres)).astype(np.uint8)


@dataclass(frozen=True)
class VqVaeCodebook:
    """The VQ-VAE without PyTorch: its encoder and codebook, and the curves that its decoder makes of the codes.

    Its convolutions need a common axis, so here a voxel's curve is resampled to `GRID` with a mask of the seconds that
    the exam covers; in training phases were left out at random, so that the code of a curve doesn't depend on them.

    Attributes:
        weights: Of the encoder ("conv1", "conv2" and "linear", each ".weight" and ".bias") and "codes" (K, D), in the
            order of `curves`.
        curves: Decoded codes in percent enhancement at 0 s and at `GRID`, (K, 13).
    """

    weights: Mapping[str, np.ndarray]
    curves: np.ndarray

    def centres(self, seconds: np.ndarray) -> np.ndarray:
        """See `Codebook`."""
        return read_at(seconds, np.r_[0.0, GRID], self.curves)

    def assign(self, curves: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """See `Codebook`."""
        labels = np.zeros(curves.shape[1], np.uint8)
        for start in range(0, len(labels), _CHUNK):
            here = slice(start, start + _CHUNK)
            points = self._encode(*on_grid(curves[:, here], seconds))
            labels[here] = 1 + nearest(points, self.weights["codes"].T)
        return labels

    def _encode(self, inputs: np.ndarray, brightness: np.ndarray) -> np.ndarray:
        """Codes before quantization, (D, N), of what `on_grid` gives."""
        hidden = inputs.reshape(len(inputs), -1)
        for layer, stride in (("conv1", 1), ("conv2", 2)):
            matrix, bias = _as_matrix(self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"], stride, len(GRID))
            hidden = np.maximum(hidden @ matrix + bias, 0)
        weight, bias = self.weights["linear.weight"], self.weights["linear.bias"]
        return (hidden @ weight[:, :-1].T + brightness[:, None] * weight[:, -1] + bias).T


def _as_matrix(weight: np.ndarray, bias: np.ndarray, stride: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A 1D convolution, weight (D, C, 3), padding 1, as a matrix (C * length, D * length / stride) and its bias.

    On so short an axis one large product takes a fraction of the time of many small ones.
    """
    kinds, channels, width = weight.shape
    matrix = np.zeros((channels, length, kinds, length // stride), np.float32)
    for out in range(length // stride):
        for tap in range(width):
            place = out * stride + tap - 1
            if 0 <= place < length:
                matrix[:, place, :, out] = weight[:, :, tap].T
    return matrix.reshape(channels * length, -1), np.repeat(bias, length // stride)


def on_grid(curves: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the VQ-VAE's encoder gets of curves (T, N): float32 (N, 2, G) and `amplitude`, float32 (N,).

    The two channels are the curve over its own peak, linear between phases and 0 outside of them, and the mask of
    `GRID`'s seconds from the first to the last post-contrast phase; the nearest second where none is between them.
    """
    post = np.asarray(seconds, np.float64)[1:]
    peak = np.maximum(curves[1:].max(axis=0), 1e-3)
    mask = (post[0] <= GRID) & (post[-1] >= GRID)
    mask[np.abs(GRID - post[:, None]).argmin(axis=1)] = True
    right = np.clip(np.searchsorted(post, GRID), 1, max(len(post) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(post) - 1)
    gap = np.maximum(post[right] - post[left], 1e-9)
    share = np.clip((GRID - post[left]) / gap, 0, 1).astype(np.float32)[:, None]
    values = (1 - share) * curves[1:][left] + share * curves[1:][right]
    channels = np.stack(
        [np.maximum(values / peak, LEAST_SHAPE) * mask[:, None], np.broadcast_to(mask[:, None], values.shape)]
    )
    return channels.transpose(2, 0, 1).astype(np.float32), amplitude(curves).astype(np.float32)


def numbered(knots: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Order of a codebook's curves from persistent to washout, by their values at the knots."""
    return by_washout(curves, tuple(knots.tolist()))


def shipped_sizes(method: str) -> tuple[int, ...]:
    """How many kinds the shipped codebooks of a method have, ascending.

    Raises:
        ModelError: The codebooks are missing or damaged.
    """
    return tuple(sorted(_description()["sizes"].get(method, ())))


def shipped_codebook(method: str, k: int) -> Codebook:
    """The codebook that simulated exams of all sites taught, so that a number means the same in every patient.

    Raises:
        InputError: None is shipped for this method and number.
        ModelError: The codebooks are missing, or not what their checksum says.
    """
    sizes = shipped_sizes(method)
    if k not in sizes:
        raise InputError(
            f"No population codebook of {k} clusters is shipped for {method!r}.",
            f"Choose one of {', '.join(map(str, sizes)) or 'another method'}, or fit on the exam itself.",
        )
    prefix = f"{method}.{k}."
    arrays = {name.removeprefix(prefix): a for name, a in _tensors().items() if name.startswith(prefix)}
    curves = arrays.pop("curves").astype(np.float64)
    return VqVaeCodebook(arrays, curves) if method == "vqvae" else CurveCodebook(np.r_[0.0, GRID], curves)


def codebooks_sha256() -> str:
    """Checksum of the shipped codebooks, as their description has it."""
    return str(_description()["sha256"])


def _folder() -> Path:
    return models_folder() / CODEBOOKS


def _description() -> dict:
    path = _folder() / "model.json"
    try:
        description = json.loads(path.read_bytes())
        if not isinstance(description["sizes"], dict) or not isinstance(description["sha256"], str):
            raise ValueError("sizes or sha256 is of another kind")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: no readable codebooks ({error}).", "Install the models again.") from error
    return description


def _tensors() -> dict[str, np.ndarray]:
    """The shipped file after checking its checksum: safetensors, which is a header and float32 numbers."""
    path, expected = _folder() / "weights.safetensors", codebooks_sha256()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: no readable codebooks ({error}).", "Install the models again.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelError(
            f"{path}: checksum {found[:12]}, but its description says {expected[:12]}.",
            "The file was changed or damaged: install the models again.",
        )
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(content[start:][slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
    }
