"""At which seconds an exam's early and late enhancement can be read, and of which phases."""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.core.exam import first_post_index, injection_time
from BreastTumorSegLib.core.result import Reading
from BreastTumorSegLib.kinetics.enhancement import early_late
from BreastTumorSegLib.kinetics.options import USUAL, KineticOptions

LEAST_APART_S = 120.0
"""Early and late nearer than this would show little of what happens between them, and every curve as a plateau."""


def early_and_late(times: tuple[float, ...], options: KineticOptions = USUAL) -> tuple[Reading, Reading | None]:
    """Where early and late enhancement are read; no late one with one post-contrast phase.

    At the wanted second where the exam's post-contrast phases span it, else of the nearest of them: before the first
    one nothing is invented, since enhancement does not rise in a line. Where that brings the two nearer together than
    `LEAST_APART_S`, both are read of phases as they are, by `early_late`.

    Args:
        times: Seconds after the pre-contrast phase, ascending.
    """
    seconds = [time - injection_time(times) for time in times]
    first = first_post_index(times)
    phases = early_late(times, options.early_s, options.late_s)
    early, late = (_reading(seconds, first, wanted) for wanted in (options.early_s, options.late_s))
    if phases is None:
        return early, None
    if late.used_s - early.used_s < LEAST_APART_S:
        wanted = (options.early_s, options.late_s)
        early, late = (_of_phase(seconds, i, second) for i, second in zip(phases, wanted, strict=True))
    return early, late


def signal_at(data: np.ndarray, reading: Reading) -> np.ndarray:
    """Signal at a reading, float32 (...), of phases (T, ...): linear between two of them, or one as it is."""
    before = data[reading.before].astype(np.float32, copy=False)
    if reading.weight == 0:
        return before
    with np.errstate(invalid="ignore"):  # infinite less infinite
        return before + np.float32(reading.weight) * (data[reading.after] - before)


def finite_curves(data: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those voxels of a mask (Y, X) all of whose signals are finite, and their curves, float32 (T, N).

    Args:
        data: One slice of an exam, (T, Y, X).
    """
    curves = data[:, where].astype(np.float32, copy=False)
    finite = np.isfinite(curves).all(axis=0)
    if finite.all():
        return where, curves
    kept = where.copy()
    kept[where] = finite
    return kept, curves[:, finite]


def _reading(seconds: list[float], first: int, wanted: float) -> Reading:
    """Reading between phases from `first` on; of the first or the last of them where they do not span `wanted`."""
    if wanted <= seconds[first]:
        return _of_phase(seconds, first, wanted)
    after = next((i for i in range(first, len(seconds)) if seconds[i] >= wanted), None)
    if after is None or seconds[after] == wanted:
        return _of_phase(seconds, len(seconds) - 1 if after is None else after, wanted)
    weight = (wanted - seconds[after - 1]) / (seconds[after] - seconds[after - 1])
    return Reading(wanted, wanted, after - 1, after, weight, (seconds[after - 1], seconds[after]))


def _of_phase(seconds: list[float], index: int, wanted: float) -> Reading:
    return Reading(wanted, seconds[index], index, index, 0.0, (seconds[index],))
