"""Time-intensity curves as points: seconds after injection, shape beside amplitude, and how much a curve washes out.

Every exam has phases of its own. A codebook's curves are functions of seconds, so they are read at the exam's times
and compared there: no voxel's noisy curve is resampled, nothing is invented before the first or after the last phase,
and a phase that is missing is missing on both sides of the comparison.
"""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.core.exam import injection_time
from BreastTumorSegLib.kinetics.enhancement import ENHANCING_PE, early_late

AMPLITUDE_WEIGHT = 0.35
"""Weight of the logarithm of the mean enhancement beside the shape: much less leaves malignant and benign curves in one
cluster of simulated exams, much more puts brightness before washout."""

LEAST_MEAN = 15.0
"""Percent; a curve that rises to 50 % and has a lower mean is mostly noise, and its logarithm would be all it has."""

LEAST_SHAPE = -1.0
"""A curve that falls further below its baseline than it rose above it is an artefact; so it can't make a cluster."""

_LEAST_PEAK = 1e-3


def after_injection(times: tuple[float, ...]) -> np.ndarray:
    """Seconds after injection of every phase, (T,), at least 0."""
    return np.maximum(np.asarray(times, np.float64) - injection_time(times), 0.0)


def curve_features(curves: np.ndarray) -> np.ndarray:
    """Shape and amplitude of curves (T, N) in percent enhancement, as float32 (T, N); distances in it are Euclidean.

    The first phase is the pre-contrast one and tells nothing, so T - 1 rows are shape: the curve over its own peak,
    which is the paper's min-max curve for any voxel that enhances, without its 0 / 0 for those that don't. They are
    divided by the root of T - 1, so that shape weighs the same in an exam of three phases as of eight. The last row is
    `AMPLITUDE_WEIGHT` times `amplitude`, because min-max alone can't tell faint from bright.
    """
    peak = np.maximum(curves[1:].max(axis=0), _LEAST_PEAK)
    shape = np.maximum(curves[1:] / peak, LEAST_SHAPE) / np.sqrt(len(curves) - 1)
    return np.vstack([shape, AMPLITUDE_WEIGHT * amplitude(curves)]).astype(np.float32)


def amplitude(curves: np.ndarray) -> np.ndarray:
    """Logarithm of the mean percent enhancement after contrast over 50 %, of curves (T, N); (N,).

    The mean, not the peak: noise moves it less, and so does a phase that is missing.
    """
    return np.log(np.maximum(curves[1:].mean(axis=0), LEAST_MEAN) / ENHANCING_PE)


def read_at(seconds: np.ndarray, knots: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Curves (K, len(knots)) at other seconds, linear between knots, constant beyond the last; (K, len(seconds))."""
    return np.array([np.interp(seconds, knots, curve) for curve in curves]).reshape(-1, len(seconds))


def washout(curve: np.ndarray, times: tuple[float, ...]) -> float:
    """Fall of a mean curve after the early phase, as a share of its peak per second; without a late phase its peak."""
    phases = early_late(times)
    if phases is None:
        return float(curve.max())
    after = slice(phases[0], None)
    return -float(np.polyfit(times[after], curve[after] / max(float(curve.max()), _LEAST_PEAK), 1)[0])


def by_washout(curves: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
    """Order of curves (K, T) from persistent to washout, indices (K,)."""
    return np.argsort([washout(curve, times) for curve in curves], kind="stable")


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre (F, K) to every point (F, N), intp (N,); the lower index where two are as near.

    float32, and each sum in the order of the features, so that it depends neither on threads nor on the device.
    """
    best = np.full(points.shape[1], np.inf, np.float32)
    index = np.zeros(points.shape[1], np.intp)
    for number, centre in enumerate(centres.T.astype(np.float32)):
        distance = np.zeros_like(best)
        for feature, value in zip(points, centre, strict=True):
            distance += (feature - value) ** 2
        closer = distance < best
        best[closer], index[closer] = distance[closer], number
    return index
