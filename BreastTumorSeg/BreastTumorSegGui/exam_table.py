"""The phases of an exam as the user sees and edits them, and what is wrong with each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from BreastTumorSegLib.core.exam import ONE_PHASE, Problem, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.times import late_first_post

ASSUMED_INTERVAL_S = 120.0
"""Seconds between phases where no time is known; the command line assumes the same."""
SHORTEST_INTERVAL_S = 5.0
"""No whole-breast phase is acquired faster; a repetition time mistaken for it gives milliseconds."""
TIMES = "×\u200b"
"""A narrow column may break the line after it."""


@dataclass(frozen=True)
class Row:
    """One phase.

    Attributes:
        node: Its volume.
        name: As shown.
        geometry: Its grid.
        time: Seconds after the pre-contrast phase.
        source: Where the time was read.
        moved: Whether a transform moves the volume.
    """

    node: Any
    name: str
    geometry: Geometry
    time: float
    source: TimeSource
    moved: bool = False


def problems_of(rows: Sequence[Row]) -> list[list[Problem]]:
    """What is wrong with each row, fatal problems first."""
    found = [[*_of_grid(rows[0], row), *_of_time(rows, index)] for index, row in enumerate(rows)]
    return [sorted(problems, key=lambda problem: not problem.fatal) for problems in found]


def reason_against(rows: Sequence[Row]) -> str:
    """Why the table can't be confirmed, in words; "" when it can."""
    if not rows:
        return "Load the phases of an exam: the one before contrast and those after it."
    for row, problems in zip(rows, problems_of(rows), strict=True):
        if problems and problems[0].fatal:
            return f"{row.name}: {problems[0]}"
    return ""


def reason_against_curves(rows: Sequence[Row]) -> str:
    """Why nothing can be told of the enhancement, in words; "" when it can."""
    return "" if len(rows) > 1 else "This needs contrast: load at least one phase after it."


def notes_of(rows: Sequence[Row]) -> list[str]:
    """What a user should know of the table as a whole."""
    return [f"There is one phase only. {ONE_PHASE}"] if len(rows) == 1 else []


def moved(rows: Sequence[Row], index: int, step: int) -> list[Row]:
    """The rows with one of them `step` places further down. Times that are assumed stay with their place."""
    target = min(max(index + step, 0), len(rows) - 1)
    changed = list(rows)
    changed.insert(target, changed.pop(index))
    if all(row.source is TimeSource.ASSUMED for row in rows):
        return [replace(row, time=place.time) for row, place in zip(changed, rows, strict=True)]
    return changed


def with_time(rows: Sequence[Row], index: int, text: str) -> list[Row]:
    """The rows with a time that the user typed.

    Raises:
        ValueError: It is no finite number of seconds.
    """
    time = float(text.strip().removesuffix("s").replace(",", "."))
    if not math.isfinite(time):
        raise ValueError(f"{text!r} is no time.")
    changed = list(rows)
    changed[index] = replace(rows[index], time=time, source=TimeSource.USER)
    return changed


def grid_text(geometry: Geometry) -> str:
    """Voxels and millimetres in two lines, such as "320×320×160" and "0.8×0.8×1.6"."""
    size = TIMES.join(map(str, geometry.size))
    spacing = TIMES.join(f"{step:.2f}".rstrip("0").rstrip(".") for step in geometry.spacing)
    return f"{size}\n{spacing}"


def _of_grid(first: Row, row: Row) -> list[Problem]:
    if row.moved:
        return [Problem("A transform moves this volume.", "Harden the transform or take it off.", fatal=True)]
    difference = first.geometry.difference(row.geometry)
    if difference:
        return [Problem(f"Not on the first phase's grid: {difference}.", "Resample or remove it.", fatal=True)]
    return []


def _of_time(rows: Sequence[Row], index: int) -> list[Problem]:
    if index == 0:
        wrong = rows[0].time != 0
        return [Problem("The first phase is not at 0 s.", "Times count from it: type 0.", fatal=True)] if wrong else []
    step = rows[index].time - rows[index - 1].time
    if not step > 0:
        return [Problem("Not later than the phase before.", "Correct the order or the time.", fatal=True)]
    found = []
    if rows[index].source is TimeSource.ASSUMED:
        found.append(Problem("The time is assumed.", "Type the right one if you know it."))
    if step < SHORTEST_INTERVAL_S:
        found.append(Problem(f"Only {step:.3g} s after the phase before.", "Is this an acquisition time?"))
    if index == 1:
        found += late_first_post([row.name for row in rows], [row.time for row in rows])
    return found
