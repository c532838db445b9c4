"""Percent enhancement, signal enhancement ratio and curve type of every voxel, on real seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from BreastTumorSegLib.core.exam import first_post_index, injection_time

ENHANCING_PE = 50.0
"""Peak percent enhancement from which a voxel enhances: BI-RADS's border between slow and medium enhancement."""

CURVE_CHANGE = 0.1
"""Change from the early to the late phase, as a share of the early signal, beyond which it is no plateau (BI-RADS)."""

EARLY_S, LATE_S = 150.0, 450.0
"""Seconds after injection of the early and the late phase, as the functional tumour volume has them."""

PE_RANGE = (-100.0, 1000.0)
"""Percent. Beyond it there are only flow artefacts."""

SER_MAX = 10.0
"""Beyond it a curve is back at its baseline, and the ratio means nothing."""

FLOOR_NOISES = 5.0
FLOOR_SHARE = 0.05
_SLAB = 4


class KineticMaps(NamedTuple):
    """Maps of one exam, each (Z, Y, X).

    Attributes:
        pe: float32, percent enhancement of the first post-contrast phase, in percent; 0 in background.
        ser: float32, signal enhancement ratio; 0 where nothing enhances or it is not defined.
        curve_type: uint8, index into `CURVE_TYPES`.
    """

    pe: np.ndarray
    ser: np.ndarray
    curve_type: np.ndarray


def kinetic_maps(data: np.ndarray, times: tuple[float, ...]) -> KineticMaps:
    """Percent enhancement, signal enhancement ratio and curve type together, slab by slab to spare memory.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them.
    """
    floor, first_post, phases = noise_floor(data[0]), first_post_index(times), early_late(times)
    maps = KineticMaps(*(np.zeros(data.shape[1:], kind) for kind in (np.float32, np.float32, np.uint8)))
    for z in range(0, data.shape[1], _SLAB):
        here = slice(z, z + _SLAB)
        slab = data[:, here]
        maps.pe[here] = percent_enhancement(slab[0], slab[first_post], floor)
        if phases:
            early, late = phases
            maps.curve_type[here] = curve_types(slab, times, floor)
            ratio = signal_enhancement_ratio(slab[0], slab[early], slab[late])
            maps.ser[here] = np.where(maps.curve_type[here], ratio, 0)
    return maps


def noise_floor(pre: np.ndarray) -> float:
    """Signal up to which a pre-contrast voxel is background, in the image's unit.

    Five noise deviations, where noise makes an error of at most 28 % in percent enhancement; at least 5 % of the 95th
    percentile, for images without noise. The functional tumour volume's 60 % of the 95th percentile is made for a box
    around a tumour: over a whole field of view it would drop dark lesions and most glandular tissue. The noise
    deviation is the median absolute diagonal Haar coefficient over 0.6745 (Donoho and Johnstone 1994).

    Args:
        pre: Pre-contrast phase, (Z, Y, X).
    """
    rows, columns = (size // 2 * 2 for size in pre.shape[1:])
    even = pre[::2, :rows, :columns]  # every second slice is sample enough
    a, b, c, d = (even[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    haar = np.abs(a - b - c + d)[a > 0] / 2  # voxels that a mask has set to zero hold no noise
    noise = np.median(haar) / 0.6745 if haar.size else 0.0
    return float(max(FLOOR_NOISES * noise, FLOOR_SHARE * np.percentile(pre[::2, ::2, ::2], 95)))


def early_late(times: tuple[float, ...]) -> tuple[int, int] | None:
    """Indices of the early and the late phase: nearest to 150 s after injection, then nearest to 450 s but later.

    None with one post-contrast phase: nothing can be told about what follows the first enhancement.
    """
    first_post, injection = first_post_index(times), injection_time(times)
    if first_post == len(times) - 1:
        return None
    early = min(range(first_post, len(times) - 1), key=lambda i: abs(times[i] - injection - EARLY_S))
    late = min(range(early + 1, len(times)), key=lambda i: abs(times[i] - injection - LATE_S))
    return early, late


def percent_enhancement(pre: np.ndarray, post: np.ndarray, floor: float | None = None) -> np.ndarray:
    """Percent enhancement 100 (post - pre) / pre, float32, in percent, clipped to -100 to 1000.

    Args:
        pre: Pre-contrast phase, (Z, Y, X).
        post: One post-contrast phase of the same shape, or several, (T, Z, Y, X).
        floor: Where `pre` is not above it the result is 0; `noise_floor(pre)` if not given.
    """
    tissue = pre > (noise_floor(pre) if floor is None else floor)
    ratio = np.divide(post, pre, out=np.ones(post.shape, np.float32), where=tissue, casting="same_kind")
    return np.clip(100 * (ratio - 1), *PE_RANGE)


def signal_enhancement_ratio(pre: np.ndarray, early: np.ndarray, late: np.ndarray) -> np.ndarray:
    """Signal enhancement ratio (early - pre) / (late - pre), float32, at most 10 (Hylton et al. 2012).

    0 where it is not defined: early or late signal not above the pre-contrast signal. So it is never negative.

    Args:
        pre: Pre-contrast phase, (Z, Y, X).
        early: Early post-contrast phase of the same shape.
        late: Late post-contrast phase of the same shape.
    """
    up, end = np.subtract(early, pre, dtype=np.float32), np.subtract(late, pre, dtype=np.float32)
    ratio = np.divide(up, end, out=np.zeros(pre.shape, np.float32), where=(up > 0) & (end > 0))
    return np.minimum(ratio, np.float32(SER_MAX))


def enhancing_voxels(data: np.ndarray, times: tuple[float, ...], floor: float | None = None) -> np.ndarray:
    """Voxels above the noise floor whose peak percent enhancement is at least 50, (Z, Y, X) bool.

    The peak over all post-contrast phases, so that slow, persistent enhancement counts. Arguments as `curve_types`.
    """
    pre = data[0]
    peak = data[first_post_index(times) :].max(axis=0)
    return (pre > (noise_floor(pre) if floor is None else floor)) & (peak >= (1 + ENHANCING_PE / 100) * pre)


def curve_types(data: np.ndarray, times: tuple[float, ...], floor: float | None = None) -> np.ndarray:
    """Curve type of every voxel, (Z, Y, X) uint8 index into `CURVE_TYPES`.

    By the change of the signal from the early to the late phase: over +10 % persistent, under -10 % washout, between
    them plateau. With one post-contrast phase no type can be told, and all is 0.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them.
        floor: Pre-contrast signal up to which a voxel is background; `noise_floor` of the first phase if not given.
    """
    phases = early_late(times)
    if phases is None:
        return np.zeros(data.shape[1:], np.uint8)
    early, late = data[phases[0]], data[phases[1]]
    suspicion = 1 + (late <= (1 + CURVE_CHANGE) * early).astype(np.uint8) + (late < (1 - CURVE_CHANGE) * early)
    return suspicion * enhancing_voxels(data, times, floor)
