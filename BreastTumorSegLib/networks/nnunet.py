"""What goes into an nnU-Net of ours or of others: channels made of an exam's phases. Export and inference share it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from BreastTumorSegLib.core.errors import InputError

Channel = Literal["pre", "first_post", "subtraction"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
"""The pre-contrast phase, the first post-contrast phase, and the second minus the first."""

NOTE = "breast_tumor_seg"
"""Key of dataset.json, which nnU-Net hands on to the trained model, for what it has no word for."""


def parse_channels(names: Sequence[str]) -> tuple[Channel, ...]:
    """Channels by name.

    Raises:
        InputError: There is none, or one has another name.
    """
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise InputError(f"There is no channel {', '.join(unknown) or 'named'}.", f"Choose of {', '.join(CHANNELS)}.")
    return tuple(channel for name in names for channel in CHANNELS if channel == name)


def joint_statistics(phases: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation over all phases (Z, Y, X) together, which are looked at one after the other.

    With them MAMA-MIA's baseline was normalised (Garrucho et al., Sci Data 2025, "Baseline Segmentation Model").
    """
    moments = [(float(phase.mean(dtype=np.float64)), float(phase.var(dtype=np.float64))) for phase in phases]
    mean = float(np.mean([mean for mean, _ in moments]))
    variance = float(np.mean([var + (own - mean) ** 2 for own, var in moments]))
    return mean, max(variance**0.5, 1e-6)


def channel_images(
    pre: np.ndarray, first_post: np.ndarray, channels: Sequence[Channel], scale: tuple[float, float] | None = None
) -> list[np.ndarray]:
    """The channels, each (Z, Y, X), of two phases (Z, Y, X).

    Args:
        scale: Mean and standard deviation by `joint_statistics` to normalise the phases with; without it a phase stays
            as it is.
    """
    if scale is not None:
        pre, first_post = ((phase.astype(np.float32) - scale[0]) / scale[1] for phase in (pre, first_post))
    made = {"pre": lambda: pre, "first_post": lambda: first_post}
    made["subtraction"] = lambda: first_post.astype(np.float32) - pre.astype(np.float32)
    return [made[channel]() for channel in channels]
