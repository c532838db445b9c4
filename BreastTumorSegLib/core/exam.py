"""One DCE-MRI exam: its phases, their times, and where each time was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry

# A bolus takes most of a minute to reach the breast: earlier phases don't show it (design: first post 60 to 450 s).
FIRST_POST_AT_LEAST_S = 60.0
# A longer gap can't be the injection's: the table was left, or the patient was moved, between the two phases.
LONGEST_PRE_TO_POST_S = 600.0

ONE_PHASE = "Only models that work without contrast can be used; for all others give the post-contrast phases, too."
"""What can be done with an exam of one phase."""


class TimeSource(str, Enum):
    """Where a phase's time was read. A time computed from TR and an index is never used."""

    ACQUISITION_DATE_TIME = "AcquisitionDateTime"
    ACQUISITION_TIME = "AcquisitionTime"
    TRIGGER_TIME = "TriggerTime"
    TEMPORAL_OFFSET = "TemporalPositionTimeOffset"
    TEMPORAL_POSITION = "TemporalPositionIdentifier x TemporalResolution"
    CONTENT_TIME = "ContentTime"
    SERIES_TIME = "SeriesTime"
    SERIES_DESCRIPTION = "TT= in SeriesDescription"
    MAMA_MIA = "MAMA-MIA json"
    NRRD = "NRRD header"
    SEQUENCE = "index of the sequence"
    MULTIVOLUME = "labels of the multivolume"
    USER = "given by the user"
    ASSUMED = "unknown, assumed"


@dataclass(frozen=True)
class Problem:
    """Something about an exam that a user should know before it is used.

    Attributes:
        message: What is wrong, naming the phase, file and value.
        remedy: What to do about it.
        fatal: True when the exam can't be used as it is.
    """

    message: str
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


@dataclass(frozen=True)
class Phase:
    """One volume of an exam, without its voxels.

    Attributes:
        name: Short name that holds nothing of the patient, such as "7: ax dyn 2nd pass" or "phase 2".
        files: Files in slice order (inferior to superior along the slice axis), or the one volume file.
        time: Seconds after the pre-contrast phase.
        source: Where `time` was read.
        geometry: Voxel grid.
        index: For 4D files and multi-frame objects, which volume of the file this is; otherwise None.
    """

    name: str
    files: tuple[Path, ...]
    time: float
    source: TimeSource
    geometry: Geometry
    index: int | None = None


@dataclass(frozen=True)
class PhaseTable:
    """What `inspect` shows: the phases in order of time, and every problem. Read from headers alone."""

    phases: tuple[Phase, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds after the pre-contrast phase, one a phase."""
        return tuple(phase.time for phase in self.phases)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `inspect --json` and the event `table`."""
        phases = [
            {"name": p.name, "time_s": p.time, "source": p.source.value, "files": len(p.files), **vars(p.geometry)}
            for p in self.phases
        ]
        return {"phases": phases, "problems": [vars(problem) for problem in self.problems]}


@dataclass(frozen=True)
class Exam:
    """A loaded exam.

    Attributes:
        table: Phases and problems.
        data: Voxels, (T, Z, Y, X), float32, in the scanner's arbitrary units.
    """

    table: PhaseTable
    data: np.ndarray = field(repr=False)

    @property
    def geometry(self) -> Geometry:
        """The grid that all phases share."""
        return self.table.phases[0].geometry

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds after the pre-contrast phase, one a phase."""
        return self.table.times

    @property
    def pre(self) -> np.ndarray:
        """Pre-contrast phase, (Z, Y, X)."""
        return self.data[0]

    @property
    def first_post(self) -> np.ndarray:
        """First post-contrast phase, (Z, Y, X), chosen by time."""
        return self.data[first_post_index(self.times)]


def require_contrast(exam: Exam, otherwise: str = "") -> None:
    """Refuse an exam of one phase, for what needs contrast.

    Args:
        otherwise: Ends the remedy: what can be done without the other phases.

    Raises:
        InputError: It has one phase.
    """
    if len(exam.table.phases) < 2:
        message = f"There is one phase only, '{exam.table.phases[0].name}', and this needs contrast."
        raise InputError(message, f"Give the post-contrast phases, too{otherwise}.")


def first_post_index(times: tuple[float, ...]) -> int:
    """Index of the first phase that can show contrast: the earliest from 60 s on, else the last one."""
    late_enough = (i for i, time in enumerate(times) if i > 0 and time >= FIRST_POST_AT_LEAST_S)
    return next(late_enough, len(times) - 1)


def injection_time(times: tuple[float, ...]) -> float:
    """Estimated injection, in seconds after the pre-contrast phase.

    Taken as right after the pre-contrast phase, so 0 s, though it is often later; unless the first post-contrast phase
    comes over ten minutes later. Then one interval between post-contrast phases before the first of them (120 s if
    there is one only).
    """
    if times[1] <= LONGEST_PRE_TO_POST_S:
        return 0.0
    interval = times[2] - times[1] if len(times) > 2 else 120.0
    return times[1] - interval
