"""Kinetic maps of a whole exam, slice by slice, so that they need little memory beside their own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from BreastTumorSegLib.core.exam import injection_time
from BreastTumorSegLib.core.result import KineticMaps, Reading
from BreastTumorSegLib.kinetics.enhancement import (
    early_late,
    enhancing_voxels,
    noise_floor,
    percent_enhancement,
    signal_enhancement_ratio,
)
from BreastTumorSegLib.kinetics.options import USUAL, KineticOptions
from BreastTumorSegLib.kinetics.readings import early_and_late, finite_curves, signal_at

SLOPE_MAX = 100.0
"""Percent of the peak enhancement per minute; beyond it there is only noise."""


def kinetic_maps(data: np.ndarray, times: tuple[float, ...], options: KineticOptions = USUAL) -> KineticMaps:
    """All kinetic maps of an exam; what is not a finite number counts as background.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them, ascending.
        options: Times and thresholds.
    """
    early, late = early_and_late(times, options)
    kinds = {"curve_type": np.uint8}
    names = ("pe", "pe_late", "ser", "curve_type", "time_to_peak", "washout_slope")
    arrays = {name: np.zeros(data.shape[1:], kinds.get(name, np.float32)) for name in names}
    maps = KineticMaps(**arrays, early=early, late=late)
    floor = noise_floor(data[0])
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # NumPy lets threads run side by side
        list(pool.map(lambda z: _fill(maps, z, data[:, z], times, floor, options), range(data.shape[1])))
    return maps


def _fill(
    maps: KineticMaps, z: int, data: np.ndarray, times: tuple[float, ...], floor: float, options: KineticOptions
) -> None:
    """Write one slice of every map; `data` is that slice, (T, Y, X)."""
    pre = data[0]
    maps.pe[z] = percent_enhancement(pre, signal_at(data, maps.early), floor)
    if maps.late is None:
        return
    maps.pe_late[z] = percent_enhancement(pre, signal_at(data, maps.late), floor)
    where, curves = finite_curves(data, enhancing_voxels(data, times, floor, options.least_pe))
    early, late = signal_at(curves, maps.early), signal_at(curves, maps.late)
    maps.ser[z][where] = signal_enhancement_ratio(curves[0], early, late)
    maps.curve_type[z][where] = curve_type(early, late, options.curve_change)
    maps.time_to_peak[z][where] = time_to_peak(curves, times)
    maps.washout_slope[z][where] = washout_slope(curves, times, options)


def curve_types(
    data: np.ndarray, times: tuple[float, ...], floor: float | None = None, options: KineticOptions = USUAL
) -> np.ndarray:
    """Curve type of every voxel, (Z, Y, X) uint8 index into `CURVE_TYPES`, and 0 where nothing enhances.

    With one post-contrast phase no type can be told, and all is 0.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them.
        floor: Pre-contrast signal up to which a voxel is background; `noise_floor` of the first phase if not given.
        options: Times and thresholds.
    """
    early, late = early_and_late(times, options)
    if late is None:
        return np.zeros(data.shape[1:], np.uint8)
    types = curve_type(signal_at(data, early), signal_at(data, late), options.curve_change)
    return types * enhancing_voxels(data, times, floor, options.least_pe)


def curve_type(early: np.ndarray, late: np.ndarray, change: float = USUAL.curve_change) -> np.ndarray:
    """Curve type of enhancing voxels by early and late signal, (...) uint8 index into `CURVE_TYPES`.

    Over +10 % of the early signal persistent, under -10 % washout, between them plateau (BI-RADS, 5th edition 2013).

    Args:
        change: The 10 %, in percent.
    """
    share = change / 100
    return 1 + (late <= (1 + share) * early).astype(np.uint8) + (late < (1 - share) * early)


def time_to_peak(curves: np.ndarray, times: tuple[float, ...]) -> np.ndarray:
    """Seconds after injection of the post-contrast phase with the highest signal, float32 (N,), of curves (T, N).

    The first of several that are as high. It is a phase's own time, no fit; so it is as coarse as the phases are.
    """
    seconds = np.asarray(times[1:], np.float32) - np.float32(injection_time(times))
    return seconds[curves[1:].argmax(axis=0)]


def washout_slope(curves: np.ndarray, times: tuple[float, ...], options: KineticOptions = USUAL) -> np.ndarray:
    """Slope after the early phase, in percent of the peak enhancement per minute, float32 (N,), of curves (T, N).

    The least-squares line through the phase nearest to the early time and all later ones, over the highest
    enhancement after contrast: -10 means that a tenth of it is lost every minute, above 0 it still rises. Clipped to
    -100 to 100; 0 where no line can be told: nothing enhances, or all of those phases are at the same time.
    """
    start, peak = slope_from(times, options), curves[1:].max(axis=0) - curves[0]
    if start is None:
        return np.zeros(curves.shape[1:], np.float32)
    minutes = np.asarray(times[start:], np.float64) / 60
    minutes -= minutes.mean()
    weights = (100 * minutes / (minutes @ minutes)).astype(np.float32)
    rise = np.tensordot(weights, curves[start:] - curves[0], 1)
    slope = np.divide(rise, peak, out=np.zeros(peak.shape, np.float32), where=peak > 0)
    return np.clip(slope, -SLOPE_MAX, SLOPE_MAX)


def slope_from(times: tuple[float, ...], options: KineticOptions = USUAL) -> int | None:
    """Index of the first phase of the washout slope; None where there is no slope."""
    phases = early_late(times, options.early_s, options.late_s)
    return None if phases is None or times[phases[0]] == times[-1] else phases[0]


def told(maps: KineticMaps, times: tuple[float, ...], options: KineticOptions = USUAL) -> dict[str, object]:
    """What maps were read of, for `result.json`: seconds after injection, thresholds; null where there is nothing."""
    injection, start = injection_time(times), slope_from(times, options)
    ends = None if start is None else (round(times[start] - injection, 1), round(times[-1] - injection, 1))
    return {
        "injection_s": round(injection, 1),
        "early": _told(maps.early),
        "late": _told(maps.late) if maps.late else None,
        "washout_slope": dict(zip(("from_s", "to_s"), ends, strict=True)) if ends else None,
        "options": vars(options),
    }


def _told(reading: Reading) -> dict[str, object]:
    return {
        "wanted_s": reading.wanted_s,
        "used_s": round(reading.used_s, 1),
        "phases_s": [round(second, 1) for second in reading.phases_s],
    }
