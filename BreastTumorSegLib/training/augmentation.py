"""Random changes of a patch: what other centres' exams have, and mirrored anatomy.

The channels are phases: the pre-contrast phase first, then the first post-contrast phase, on which the label was drawn,
then later ones. The label moves with flips alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

GAIN = (-0.1, 0.46)
"""Mean change of the post-contrast phases' signal: what two real exams had against their pre-contrast phase."""
GAIN_SPREAD = 0.08
"""Standard deviation of that change within a patch."""
BIAS_SPREAD = 0.2
"""Standard deviation of the logarithm of the coil's sensitivity within a patch."""
KNOTS = 4
"""Random numbers along each axis of a patch, between which gain and bias run linearly."""
GAMMA = (0.75, 1.3)
NOISE = (0.0, 0.1)
"""Standard deviation in each of the scanner's two channels, as a share of the mean signal."""
THICKNESS = (1.0, 3.0)
"""Slice thickness in voxels."""
MOTION = 2.0
"""Largest displacement between phases along each axis, in voxels."""
SCALE = (0.8, 1.25)
SHIFT = 0.2
"""Largest shift of all intensities, up or down, in standard deviations of the patch."""

Probability = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(BaseModel):
    """How often each change is made, 0 to 1; without arguments, none is.

    Attributes:
        flip: Along each of `flip_axes`, independently.
        flip_axes: In LPS, so that a flip along x swaps left and right.
        motion: Phases moved against the first post-contrast one, by up to 2 voxels.
        gain: All post-contrast phases brighter or darker, by an amount that varies in space. Beside background
            enhancement this was what mattered most for networks trained on simulated exams when they met real ones.
        bias: All phases shaded alike, as by a surface coil.
        bias_spread: Standard deviation of the logarithm of that shading, within a patch.
        gamma: Contrast: signal ** gamma, the brightest voxel kept.
        thick_slices: 1 to 3 voxels averaged along one axis.
        noise: Rician.
        scale: All intensities times one factor.
        shift: All intensities plus one number, as another normalisation would have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: Probability = 0.0
    flip_axes: tuple[Literal["z", "y", "x"], ...] = ("z", "y", "x")
    motion: Probability = 0.0
    gain: Probability = 0.0
    bias: Probability = 0.0
    bias_spread: NonNegativeFloat = BIAS_SPREAD
    gamma: Probability = 0.0
    thick_slices: Probability = 0.0
    noise: Probability = 0.0
    scale: Probability = 0.0
    shift: Probability = 0.0


FLIPS = AugmentationConfig(flip=0.5)
"""Random flips only, as Abdikenov and Suvorov trained their ResUNet."""
WIDE = AugmentationConfig(
    flip=0.5,
    flip_axes=("z", "x"),
    motion=0.3,
    gain=0.5,
    bias=0.3,
    gamma=0.5,
    thick_slices=0.3,
    noise=0.3,
    scale=0.3,
    shift=0.2,
)
"""For a network that shall work at centres it has not seen. No flip along y: the chest wall stays behind the breast."""


def augment(
    image: Tensor, label: Tensor, config: AugmentationConfig, random: np.random.Generator, zero: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A changed copy of a patch; with nothing to change, the patch itself.

    Two phases of 64 x 64 x 64 take 8 ms on one CPU core with every change made.

    Args:
        image: (C, Z, Y, X) float32, normalised.
        label: (..., Z, Y, X); flips alone move it.
        config: How often each change is made.
        random: Decides everything: in the same state it gives the same patch, on the same kind of device.
        zero: The normalised value of signal 0, so that image - zero is the signal, which factors and noise need.
    """
    image, label = _flipped(image, label, config, random)
    changes = _EFFECTS | {"bias": partial(_bias, spread=config.bias_spread)}
    effects = [effect for name, effect in changes.items() if random.random() < getattr(config, name)]
    if not effects:
        return image, label
    signal = image - zero
    for effect in effects:
        signal = effect(signal, random)
    return signal.add_(zero), label


def _flipped(
    image: Tensor, label: Tensor, config: AugmentationConfig, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    dims = [
        dim
        for dim, axis in zip((-3, -2, -1), "zyx", strict=True)
        if axis in config.flip_axes and random.random() < config.flip
    ]
    return (image.flip(dims), label.flip(dims)) if dims else (image, label)


# -- effects: they take the signal (C, Z, Y, X), which they may overwrite, and return the new one ------------------


def _motion(signal: Tensor, random: np.random.Generator) -> Tensor:
    """The label belongs to the first post-contrast phase, which therefore stays; all others move, each its own way."""
    for channel in (0, *range(2, len(signal))) if len(signal) > 1 else ():
        reach = random.uniform(0, MOTION)
        signal[channel] = _moved(signal[channel], random.uniform(-reach, reach, 3))
    return signal


def _moved(volume: Tensor, by: np.ndarray) -> Tensor:
    """The volume (Z, Y, X) read `by` voxels further along each axis, linearly; beyond its ends, the end."""
    margin = math.ceil(MOTION) + 1
    shape = volume.shape
    volume = functional.pad(volume[None, None], (margin,) * 6, mode="replicate")[0, 0]
    for dim, (size, step) in enumerate(zip(shape, by, strict=True)):
        whole = math.floor(step)
        here, next_ = (volume.narrow(dim, margin + whole + one, size) for one in (0, 1))
        volume = torch.lerp(here, next_, step - whole)
    return volume


def _gain(signal: Tensor, random: np.random.Generator) -> Tensor:
    change = random.normal(random.uniform(*GAIN), GAIN_SPREAD, (1, KNOTS, KNOTS, KNOTS))
    signal[1:] *= _field(1 + change, signal)
    return signal


def _bias(signal: Tensor, random: np.random.Generator, spread: float = BIAS_SPREAD) -> Tensor:
    return signal.mul_(_field(np.exp(random.normal(0, spread, (1, KNOTS, KNOTS, KNOTS))), signal))


def _gamma(signal: Tensor, random: np.random.Generator) -> Tensor:
    top = signal.amax().clamp_min(1e-6)
    return signal.clamp_(min=0).div_(top).pow_(random.uniform(*GAMMA)).mul_(top)


def _thick_slices(signal: Tensor, random: np.random.Generator) -> Tensor:
    """Averaged over fewer, thicker slices along a random axis, and interpolated back to where the voxels were."""
    dim = int(random.integers(1, 4))
    size = signal.shape[dim]
    slices = max(round(size / random.uniform(*THICKNESS)), 1)
    thickness = size / slices
    start, voxel = torch.arange(slices)[:, None] * thickness, torch.arange(size)
    average = (torch.minimum(start + thickness, voxel + 1) - torch.maximum(start, voxel)).clamp_min(0) / thickness
    back = _between((voxel + 0.5) / thickness - 0.5, slices)
    return _along(signal, back @ average, dim)


def _noise(signal: Tensor, random: np.random.Generator) -> Tensor:
    """The magnitude of a complex signal with normal noise in both parts (Gudbjartsson and Patz 1995)."""
    deviation = random.uniform(*NOISE) * signal.mean().clamp_min(0)
    source = torch.Generator(signal.device).manual_seed(int(random.integers(2**62)))
    real = torch.randn(signal.shape, generator=source, device=signal.device).mul_(deviation)
    # Random numbers are what takes the time. Those of a voxel half the patch away are as good as new ones.
    imaginary = real.flatten().roll(real.numel() // 2).view_as(real)
    return real.add_(signal).hypot_(imaginary)


def _scale(signal: Tensor, random: np.random.Generator) -> Tensor:
    return signal.mul_(random.uniform(*SCALE))


def _shift(signal: Tensor, random: np.random.Generator) -> Tensor:
    return signal.add_(random.uniform(-SHIFT, SHIFT) * signal.std())


# In the order in which they come about: the body, the coil and the receiver, the image.
_EFFECTS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "motion": _motion,
    "gain": _gain,
    "bias": _bias,
    "gamma": _gamma,
    "thick_slices": _thick_slices,
    "noise": _noise,
    "scale": _scale,
    "shift": _shift,
}


# -- linear maps along an axis: far faster than torch's interpolation and pooling at a patch's size ----------------


def _field(knots: np.ndarray, like: Tensor) -> Tensor:
    """Knots (1, K, K, K), the outermost at the patch's corners, interpolated to (1, Z, Y, X)."""
    field = torch.from_numpy(knots).to(like)
    for dim in (1, 2, 3):
        field = _along(field, _between(torch.linspace(0, KNOTS - 1, like.shape[dim]), KNOTS), dim)
    return field


def _between(places: Tensor, size: int) -> Tensor:
    """Weights (N, size) of the two neighbours of each place; beyond the ends, the end."""
    distance = places.clamp(0, size - 1)[:, None] - torch.arange(size)
    return (1 - distance.abs()).clamp_min(0)


def _along(volume: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """The matrix (N, size) applied along dimension 1, 2 or 3 of (C, Z, Y, X)."""
    matrix = matrix.to(volume)
    if dim == 1:
        return (matrix @ volume.flatten(2)).unflatten(2, volume.shape[2:])
    return matrix @ volume if dim == 2 else volume @ matrix.T
