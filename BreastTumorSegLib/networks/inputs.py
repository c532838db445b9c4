"""How phases become a network's input; training and inference share it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def joint_z_score(phases: Tensor) -> Tensor:
    """Phases (C, Z, Y, X) minus their mean, over their standard deviation, both taken over all phases together.

    So the ratio between phases, which is the enhancement, is kept (Abdikenov and Suvorov, "Preprocessing").
    """
    return (phases - phases.mean()) / phases.std().clamp_min(1e-6)


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
