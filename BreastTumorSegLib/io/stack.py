"""Slices in space: their order, the grid that they make, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from BreastTumorSegLib.core.exam import Problem
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.frames import Frame

# Two slices nearer than this share of a step are the same slice; headers round positions to 0.01 mm or so.
SAME_SLICE = 0.05
UNEVEN = 0.1


def normal(frame: Frame) -> np.ndarray:
    """Unit vector across the slices, LPS."""
    vector = np.cross(frame.orientation[:3], frame.orientation[3:])
    return vector / np.linalg.norm(vector)


def heights(frames: Sequence[Frame]) -> np.ndarray:
    """Positions of slices along their normal, millimetres."""
    return np.array([frame.position for frame in frames]) @ normal(frames[0])


def in_order(frames: Sequence[Frame]) -> list[Frame]:
    """Slices by rising position along their normal, as ITK's series reader has them."""
    return [frames[i] for i in np.argsort(heights(frames), kind="stable")]


def geometry(frames: Sequence[Frame]) -> Geometry:
    """The grid of slices that are in order. The step is the mean one; `faults` tells where that is not good enough."""
    first = frames[0]
    rows, columns = first.shape
    along = heights(frames)
    step = float(along[-1] - along[0]) / (len(frames) - 1) if len(frames) > 1 else 0.0
    direction = np.column_stack([first.orientation[:3], first.orientation[3:], normal(first)])
    return Geometry(
        (columns, rows, len(frames)),
        (first.spacing[1], first.spacing[0], step),
        first.position,
        tuple(direction.ravel().tolist()),
    )


def faults(name: str, frames: Sequence[Frame]) -> list[Problem]:
    """What makes slices in order no regular grid; each is fatal."""
    if len(frames) < 2:
        return [_fatal(f"'{name}' is a 2D image ({_file(frames[0])}).", "Give phases of many slices.")]
    if min(frames[0].spacing) <= 0:
        shown = " x ".join(f"{value:g}" for value in frames[0].spacing)
        return [_fatal(f"'{name}': the pixel spacing is {shown} mm ({_file(frames[0])}).", "Export the series again.")]
    steps = np.diff(heights(frames))
    step = float(np.median(steps[steps > SAME_SLICE * steps.max()])) if steps.max() > 0 else 0.0
    return [*_doubled(name, frames, steps, step), *_missing(name, frames, steps, step), *_uneven(name, frames, step)]


def _doubled(name: str, frames: Sequence[Frame], steps: np.ndarray, step: float) -> list[Problem]:
    pairs = np.flatnonzero(steps <= SAME_SLICE * step)
    if not len(pairs):
        return []
    first, second = frames[pairs[0]], frames[pairs[0] + 1]
    message = f"'{name}': {_slices(len(pairs))} doubled: {_file(first)} and {_file(second)} are at the same position."
    return [_fatal(message, "Take the copies away, or export the series again.")]


def _missing(name: str, frames: Sequence[Frame], steps: np.ndarray, step: float) -> list[Problem]:
    gaps = np.flatnonzero(steps > 1.5 * step)
    if not (step and len(gaps)):
        return []
    count = int(sum(round(steps[gap] / step) - 1 for gap in gaps))
    before, after = frames[gaps[0]], frames[gaps[0] + 1]
    message = f"'{name}': {_slices(count)} missing, the first between {_file(before)} and {_file(after)}."
    return [_fatal(message, "Export the series again, with all of its slices.")]


def _uneven(name: str, frames: Sequence[Frame], step: float) -> list[Problem]:
    """Slices that are neither missing nor doubled, and not on a straight regular line."""
    between = np.diff([frame.position for frame in frames], axis=0)
    rising = between @ normal(frames[0])
    regular = (rising > SAME_SLICE * step) & (rising <= 1.5 * step)
    off = np.linalg.norm(between - step * normal(frames[0]), axis=1) > UNEVEN * step
    if not (bad := np.flatnonzero(regular & off)).size:
        return []
    message = f"'{name}': the slices are not evenly spaced, first at {_file(frames[bad[0] + 1])}."
    return [_fatal(message, "Resample the series to an even grid.")]


def _slices(count: int) -> str:
    return "1 slice is" if count == 1 else f"{count} slices are"


def _file(frame: Frame) -> str:
    name = frame.source.file.name
    return name if frame.index is None else f"{name} frame {frame.index + 1}"


def _fatal(message: str, remedy: str) -> Problem:
    return Problem(message, remedy, fatal=True)
