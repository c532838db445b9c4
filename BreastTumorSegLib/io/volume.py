"""One volume as the input has it, before the phases get their order and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.exam import Problem, TimeSource
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.io.times import Timing


@dataclass(frozen=True)
class Volume:
    """A candidate phase.

    Attributes:
        name: Short name that holds nothing of the patient.
        files: Files in slice order, or the one volume file.
        geometry: Voxel grid.
        read: Reads the voxels, (Z, Y, X), of any number type. Raises InputError where they are damaged.
        clocks: What each source says of its time, in seconds from a zero that all volumes of one exam share.
        index: Which volume of its file this is, for 4D files and multi-frame objects; otherwise None.
    """

    name: str
    files: tuple[Path, ...]
    geometry: Geometry
    read: Callable[[], np.ndarray] = field(repr=False)
    clocks: Mapping[TimeSource, float] = field(default_factory=dict)
    index: int | None = None


@dataclass(frozen=True)
class Found:
    """All candidate phases of an input, in the order of the input, and what was wrong or left out.

    Attributes:
        timing: Order and times, where a user has confirmed them; the volumes' clocks are not asked then.
    """

    volumes: tuple[Volume, ...]
    problems: tuple[Problem, ...] = ()
    timing: Timing | None = None
