"""Percent enhancement and signal enhancement ratio, where a voxel enhances, and which phases are early and late."""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.core.exam import first_post_index, injection_time

ENHANCING_PE = 50.0
"""Peak percent enhancement from which a voxel enhances: BI-RADS's border between slow and medium enhancement."""

EARLY_S, LATE_S = 150.0, 450.0
"""Seconds after injection of the early and the late phase, as the functional tumour volume has them."""

PE_RANGE = (-100.0, 1000.0)
"""Percent. Beyond it there are only flow artefacts."""

SER_MAX = 10.0
"""Beyond it a curve is back at its baseline, and the ratio means nothing."""

FLOOR_NOISES = 5.0
FLOOR_SHARE = 0.05


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
    sample = pre[::2, ::2, ::2]
    sample = sample[np.isfinite(sample)]
    even = pre[::2, :rows, :columns]  # every second slice is sample enough
    a, b, c, d = (even[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    with np.errstate(invalid="ignore"):  # infinite less infinite
        haar = np.abs(a - b - c + d)[a > 0] / 2  # voxels that a mask has set to zero hold no noise
    haar = haar[np.isfinite(haar)]
    noise = np.median(haar) / 0.6745 if haar.size else 0.0
    return float(max(FLOOR_NOISES * noise, FLOOR_SHARE * (np.percentile(sample, 95) if sample.size else 0.0)))


def early_late(times: tuple[float, ...], early_s: float = EARLY_S, late_s: float = LATE_S) -> tuple[int, int] | None:
    """Indices of the early and the late phase: nearest to 150 s after injection, then nearest to 450 s but later.

    None with one post-contrast phase: nothing can be told about what follows the first enhancement.
    """
    first_post, injection = first_post_index(times), injection_time(times)
    if first_post == len(times) - 1:
        return None
    early = min(range(first_post, len(times) - 1), key=lambda i: abs(times[i] - injection - early_s))
    late = min(range(early + 1, len(times)), key=lambda i: abs(times[i] - injection - late_s))
    return early, late


def percent_enhancement(pre: np.ndarray, post: np.ndarray, floor: float | None = None) -> np.ndarray:
    """Percent enhancement 100 (post - pre) / pre, float32, in percent, clipped to -100 to 1000.

    Args:
        pre: Pre-contrast phase, (Z, Y, X).
        post: One post-contrast phase of the same shape, or several, (T, Z, Y, X).
        floor: Where `pre` is not above it the result is 0, and where one of the two is not a finite number;
            `noise_floor(pre)` if not given.
    """
    tissue = pre > (noise_floor(pre) if floor is None else floor)
    ratio = np.divide(post, pre, out=np.ones(post.shape, np.float32), where=tissue, casting="same_kind")
    enhancement = np.clip(100 * (ratio - 1), *PE_RANGE)
    enhancement[~np.isfinite(ratio)] = 0
    return enhancement


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


def enhancing_voxels(
    data: np.ndarray, times: tuple[float, ...], floor: float | None = None, least_pe: float = ENHANCING_PE
) -> np.ndarray:
    """Voxels above the noise floor whose peak percent enhancement is at least 50, (Z, Y, X) bool.

    The peak over all post-contrast phases, so that slow, persistent enhancement counts. No peak is infinite.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first; or one slice of it, (T, Y, X), with a floor.
        times: Seconds after the pre-contrast phase, T of them.
        floor: Pre-contrast signal up to which a voxel is background; `noise_floor` of the first phase if not given.
        least_pe: The 50.
    """
    pre = data[0]
    peak = data[first_post_index(times) :].max(axis=0)
    tissue = pre > (noise_floor(pre) if floor is None else floor)
    return tissue & (peak >= (1 + least_pe / 100) * pre) & np.isfinite(peak)
