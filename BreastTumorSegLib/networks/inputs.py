"""How phases become a network's input; training and inference share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from BreastTumorSegLib.core.exam import injection_time

Normalisation = Literal["joint-z-score", "early-min-max"]
"""How intensities are normalised; see `intensity_scale`."""

PERCENTILE = 99.0
"""Of each phase, where "early-min-max" clips."""

_QUANTILE_VOXELS = 1 << 22
"""Percentiles come from at most so many voxels; more would change nothing and take seconds."""


@dataclass(frozen=True)
class IntensityScale:
    """What turns a scanner's intensities into a network's input.

    Attributes:
        offset: Subtracted.
        scale: Divided by.
        ceiling: Each phase is clipped at its own first, (C,); None where nothing is clipped. Then the result lies
            between 0 and 1.
    """

    offset: float
    scale: float
    ceiling: Tensor | None = None

    def __call__(self, phases: Tensor) -> Tensor:
        """Phases (C, Z, Y, X) as the network sees them."""
        if self.ceiling is None:
            return (phases - self.offset) / self.scale
        clipped = torch.minimum(phases, self.ceiling.to(phases).view(-1, 1, 1, 1))
        return ((clipped - self.offset) / self.scale).clamp(0, 1)

    @property
    def zero(self) -> float:
        """What a signal of 0 becomes, where it is not clipped."""
        return -self.offset / self.scale


def intensity_scale(phases: Tensor, how: Normalisation, early: int = -1) -> IntensityScale:
    """The scale of phases (C, Z, Y, X), the same for all of them, so that their ratio, the enhancement, is kept.

    "joint-z-score": mean and standard deviation over the pre-contrast and the early phase together (Abdikenov and
    Suvorov, "Preprocessing"); with further phases it would depend on how many there are.
    "early-min-max": each phase clipped at its 99th percentile, then minimum and maximum of the early phase (Zhang et
    al., Patterns 2023, data preprocessing).

    Args:
        early: Which of the phases is the early one.
    """
    if how == "joint-z-score":
        phases = phases if len(phases) <= 2 else phases[[0, early]]
        return IntensityScale(float(phases.mean()), float(phases.std().clamp_min(1e-6)))
    step = max(phases[0].numel() // _QUANTILE_VOXELS, 1)
    ceiling = torch.quantile(phases.flatten(1)[:, ::step].float(), PERCENTILE / 100, dim=1)
    low, high = float(phases[early].min()), float(ceiling[early])
    return IntensityScale(low, max(high - low, 1e-6), ceiling)


def normalised(phases: Tensor, how: Normalisation, early: int = -1) -> Tensor:
    """Phases (C, Z, Y, X) by their own scale; see `intensity_scale`."""
    return intensity_scale(phases, how, early)(phases)


def seconds_after_injection(times: Sequence[float]) -> Tensor:
    """Times of an exam's phases (T,) as networks take them: seconds after injection, 0 for the pre-contrast phase.

    Args:
        times: Seconds after the pre-contrast phase, ascending.
    """
    injection = max(injection_time(tuple(times)), 0.0) if len(times) > 1 else 0.0
    return torch.tensor([0.0, *(max(time - injection, 0.0) for time in times[1:])], dtype=torch.float32)


def breast_only(phases: Tensor, breast: Tensor, margin: int) -> Tensor:
    """Phases (C, Z, Y, X) with their minimum for all that is further from the breasts than `margin` voxels of an edge.

    Heart, liver and chest differ from exam to exam, and with the field of view; instance normalisation lets them change
    what is seen in the breasts.

    Args:
        breast: bool (Z, Y, X).
    """
    near = breast[None, None].float()
    for size in ((1, 1, 2 * margin + 1), (1, 2 * margin + 1, 1), (2 * margin + 1, 1, 1)):
        near = functional.max_pool3d(near, size, 1, tuple(n // 2 for n in size))
    return torch.where(near[0] > 0, phases, phases.amin())


def bounding_box(mask: Tensor, margin: int) -> tuple[slice, slice, slice]:
    """Smallest box around a mask (Z, Y, X), grown by `margin` voxels; the whole volume when the mask is empty."""
    slices = []
    for dim, size in enumerate(mask.shape):
        others = tuple(d for d in range(3) if d != dim)
        hits = torch.nonzero(mask.any(dim=others[1]).any(dim=others[0])).flatten()
        first, last = (int(hits[0]), int(hits[-1])) if len(hits) else (0, size - 1)
        slices.append(slice(max(first - margin, 0), min(last + margin + 1, size)))
    return slices[0], slices[1], slices[2]


def pad_to_multiple(volume: Tensor, multiple: int) -> Tensor:
    """Pad (C, Z, Y, X) at the far ends with its minimum, so that each axis is a multiple.

    At least two of them: on one voxel at the coarsest level instance normalisation has nothing to normalise by.
    """
    pads: list[int] = []
    for size in reversed(volume.shape[1:]):
        pads += [0, max(-size % multiple, 2 * multiple - size)]
    return functional.pad(volume, pads, value=float(volume.min()))
