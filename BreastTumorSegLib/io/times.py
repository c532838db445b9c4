"""Decides the order and the times of the phases from what each source says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import LONGEST_PRE_TO_POST_S, Problem, TimeSource

DAY_S = 86400.0
# TT= stands first: only view-sharing exams (TWIST) have it, and there the other clocks show when a view was started or
# the image computed, which is not when the contrast was seen.
PRIORITY = (
    TimeSource.SERIES_DESCRIPTION,
    TimeSource.ACQUISITION_DATE_TIME,
    TimeSource.ACQUISITION_TIME,
    TimeSource.TRIGGER_TIME,
    TimeSource.TEMPORAL_OFFSET,
    TimeSource.TEMPORAL_POSITION,
    TimeSource.CONTENT_TIME,
    TimeSource.SERIES_TIME,
    TimeSource.MAMA_MIA,
    TimeSource.NRRD,
    TimeSource.SEQUENCE,
    TimeSource.MULTIVOLUME,
)
_GIVE_TIMES = "Give one time a phase, in seconds after the pre-contrast phase: first 0, then rising."
_OF_DAY = {
    TimeSource.ACQUISITION_DATE_TIME,
    TimeSource.ACQUISITION_TIME,
    TimeSource.CONTENT_TIME,
    TimeSource.SERIES_TIME,
}


@dataclass(frozen=True)
class Timing:
    """Order and times of the phases.

    Attributes:
        order: Indices into the volumes as found, in order of time.
        times: Seconds after the first of them, in that order.
        sources: Where each time comes from, in that order; the same one, unless a user confirmed others.
        problems: What a user should know of them.
    """

    order: tuple[int, ...]
    times: tuple[float, ...]
    sources: tuple[TimeSource, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def source(self) -> TimeSource:
        """The source of the first time."""
        return self.sources[0]


def choose(names: Sequence[str], clocks: Sequence[Mapping[TimeSource, float]], interval: float) -> Timing:
    """Times from the first source that has a different value for every phase; never two sources mixed.

    Args:
        names: Names of the phases, in the order of the input.
        clocks: What each source says of each phase, in seconds.
        interval: Seconds between phases to assume where no source is usable.

    Raises:
        InputError: `interval` is not above zero.
    """
    problems: list[Problem] = []
    for source in PRIORITY:
        values = _values(source, clocks)
        if values is not None and len(set(values)) == len(values):
            problems += _pre_contrast_at_start(names, clocks, source)
            return _by_time(names, values, source, problems)
        if values is not None and len(set(values)) > 1:
            problems.append(_equal(names, values, source))
    return _assumed(len(names), interval, problems)


def given(timing: Timing, times: Sequence[float]) -> Timing:
    """The user's times instead of those that were read; the order stays.

    Raises:
        InputError: Not as many as phases, the first is not 0, or they do not rise.
    """
    if len(times) != len(timing.order):
        raise InputError(f"{len(times)} times ({_listed(times)}) for {len(timing.order)} phases.", _GIVE_TIMES)
    return Timing(timing.order, rising(times), (TimeSource.USER,) * len(times))


def rising(times: Sequence[float], where: str = "") -> tuple[float, ...]:
    """Times that start at 0 and rise.

    Args:
        where: Begins the message, such as the name of a file and a colon.

    Raises:
        InputError: They do not.
    """
    if times[0] != 0 or not all(math.isfinite(b) and b > a for a, b in pairwise(times)):
        raise InputError(f"{where}The times {_listed(times)} do not start at 0 and rise.", _GIVE_TIMES)
    return tuple(map(float, times))


def late_first_post(names: Sequence[str], times: Sequence[float]) -> list[Problem]:
    """A warning where the pre-contrast phase is more than ten minutes before the first post-contrast one."""
    if len(times) < 2 or times[1] <= LONGEST_PRE_TO_POST_S:
        return []
    message = (
        f"The pre-contrast phase '{names[0]}' is {times[1]:.0f} s ({times[1] / 60:.1f} minutes) before the first "
        f"post-contrast phase '{names[1]}'."
    )
    remedy = "The injection is estimated from the later phases; check that the patient did not move between the two."
    return [Problem(message, remedy)]


def _listed(times: Sequence[float]) -> str:
    return ", ".join(f"{time:g}" for time in times)


def _values(source: TimeSource, clocks: Sequence[Mapping[TimeSource, float]]) -> list[float] | None:
    values = [clock.get(source) for clock in clocks]
    if source is TimeSource.SERIES_DESCRIPTION and len(values) > 2 and values[0] is None:
        # TT counts from the start of the dynamic series, which a pre-contrast phase of its own comes before.
        values[0] = 0.0
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not all(map(math.isfinite, known)):
        return None
    return _same_day(known) if source in _OF_DAY else known


def _pre_contrast_at_start(
    names: Sequence[str], clocks: Sequence[Mapping[TimeSource, float]], source: TimeSource
) -> list[Problem]:
    if source in clocks[0]:
        return []
    message = f"'{names[0]}' has no {source.value}; it is taken as the pre-contrast phase at the start of the others."
    return [Problem(message, "Give the times yourself if it was much earlier.")]


def _same_day(values: list[float]) -> list[float]:
    """An exam never lasts a day, but dates are stripped or shifted, and an exam can go past midnight."""
    if max(values) - min(values) >= DAY_S:
        values = [value % DAY_S for value in values]
    if max(values) - min(values) > DAY_S / 2:
        values = [value + DAY_S if value % DAY_S < DAY_S / 2 else value for value in values]
    return values


def _by_time(names: Sequence[str], values: list[float], source: TimeSource, problems: list[Problem]) -> Timing:
    order = sorted(range(len(values)), key=values.__getitem__)
    times = tuple(round(values[i] - values[order[0]], 3) for i in order)
    falling = [i for i in range(1, len(values)) if values[i] < values[i - 1]]
    if falling:
        i = falling[0]
        message = (
            f"The times fall in the order of the input: by {source.value} '{names[i]}' is "
            f"{values[i - 1] - values[i]:.1f} s before '{names[i - 1]}'. The phases were put in order of time."
        )
        problems = [*problems, Problem(message, "Check the order, or give the times yourself.")]
    return Timing(tuple(order), times, (source,) * len(times), tuple(problems))


def _equal(names: Sequence[str], values: list[float], source: TimeSource) -> Problem:
    first, second = next((i, values.index(v, i + 1)) for i, v in enumerate(values) if v in values[i + 1 :])
    message = f"{source.value} is equal for '{names[first]}' and '{names[second]}'; it is not used."
    return Problem(message, "Check that no phase is there twice, or give the times yourself.")


def _assumed(count: int, interval: float, problems: list[Problem]) -> Timing:
    if not (math.isfinite(interval) and interval > 0):
        raise InputError(f"An interval of {interval:g} s between phases.", "Give one above zero.")
    if count > 1:
        message = f"The times of the phases are unknown; the order of the input and {interval:g} s between are assumed."
        problems = [*problems, Problem(message, "Give the times or the interval; kinetics depend on them.")]
    times = tuple(i * float(interval) for i in range(count))
    return Timing(tuple(range(count)), times, (TimeSource.ASSUMED,) * count, tuple(problems))
