"""Reads an exam: what the input is, its phase table, its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.errors import InputError, typed_errors
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import ONE_PHASE, Exam, Phase, PhaseTable, Problem
from BreastTumorSegLib.io import dicom, exam_folder, files
from BreastTumorSegLib.io.times import choose, given, late_first_post
from BreastTumorSegLib.io.volume import Found, Volume


def read_phase_table(
    inputs: Sequence[Path],
    times: Sequence[float] | None = None,
    interval: float = 120.0,
    events: Events | None = None,
) -> PhaseTable:
    """Read the phases of an exam, their times and every problem, from headers alone.

    Args:
        inputs: A DICOM folder, a folder or list of 3D volumes, a 4D volume, a MAMA-MIA case folder, or an exam folder.
        times: Seconds after the pre-contrast phase, one a phase in order of time, instead of those in the input.
        interval: Seconds between phases to assume where no time is known.
        events: Told every problem that is not fatal, and asked whether to go on.

    Raises:
        InputError: There is no exam to make a table of, or `times` or `interval` do not fit.
        Cancelled: The user cancelled.
    """
    return _survey(inputs, times, interval, events or Events())[0]


def load_exam(
    inputs: Sequence[Path],
    times: Sequence[float] | None = None,
    interval: float = 120.0,
    events: Events | None = None,
) -> Exam:
    """Read an exam with its voxels. Arguments are those of `read_phase_table`.

    `events` gets the table, whatever its problems, before any voxel is read.

    Returns:
        The exam with data (T, Z, Y, X), float32.

    Raises:
        InputError: A problem is fatal, or voxels are missing, damaged, not finite, or all the same.
        Cancelled: The user cancelled.
    """
    events = events or Events()
    table, volumes = _survey(inputs, times, interval, events)
    events.table(table.as_dict())
    _refuse_fatal(table)
    with typed_errors():
        return Exam(table, _voxels(volumes, events))


def _voxels(volumes: Sequence[Volume], events: Events) -> np.ndarray:
    data = np.empty((len(volumes), *volumes[0].geometry.shape), np.float32)
    for done, volume in enumerate(volumes):
        events.progress("load", done, len(volumes))
        # Values too large for float32 become infinite, which the check tells.
        with np.errstate(over="ignore"):
            data[done] = volume.read()
        _check_voxels(data[done], volume)
    events.progress("load", len(volumes), len(volumes))
    return data


def _survey(
    inputs: Sequence[Path], user_times: Sequence[float] | None, interval: float, events: Events
) -> tuple[PhaseTable, list[Volume]]:
    """The phase table, and its volumes in the same order."""
    with typed_errors():
        found = _find(inputs, events)
    if not found.volumes:
        return PhaseTable((), found.problems), []
    names = [volume.name for volume in found.volumes]
    timing = found.timing or choose(names, [volume.clocks for volume in found.volumes], interval)
    if user_times is not None:
        timing = given(timing, user_times)
    volumes = [found.volumes[i] for i in timing.order]
    phases = tuple(
        Phase(v.name, v.files, time, source, v.geometry, v.index)
        for v, time, source in zip(volumes, timing.times, timing.sources, strict=True)
    )
    late = late_first_post([volume.name for volume in volumes], timing.times)
    problems = (*found.problems, *_inconsistent(volumes), *timing.problems, *late)
    # An exam folder lists what was found before, and it may be found again.
    table = PhaseTable(phases, tuple(dict.fromkeys(problems)))
    for problem in table.problems:
        if not problem.fatal:
            events.warning(str(problem))
    return table, volumes


def _find(inputs: Sequence[Path], events: Events) -> Found:
    """An exam folder; else volume files where there are any; else everything below the folders as DICOM."""
    paths = [Path(path) for path in inputs]
    for path in paths:
        files.check_name(path)
        if not path.exists():
            raise InputError(f"{path} does not exist.", "Check the path.")
    if any(map(exam_folder.is_exam_folder, paths)):
        return exam_folder.find_volumes(paths)
    listed = [file for path in paths for file in (_volume_files(path) if path.is_dir() else [path])]
    chosen = [file for file in listed if files.is_volume_file(file)]
    if not chosen:
        return dicom.find_volumes(paths, events)
    if len(chosen) < len(listed):
        other = next(file for file in listed if file not in chosen)
        raise InputError(f"{other} is no NIfTI, NRRD or MHA file.", "Give volumes alone, or a DICOM folder alone.")
    files.refuse_repeated(chosen)
    return files.find_volumes(chosen)


def _volume_files(folder: Path) -> list[Path]:
    visible = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(filter(files.is_volume_file, visible), key=files.natural_key)


def _inconsistent(volumes: Sequence[Volume]) -> list[Problem]:
    """One phase alone, which few models can use; fatal where a phase is not on the first one's grid."""
    if len(volumes) == 1:
        return [Problem("There is one phase only.", ONE_PHASE)]
    return [
        Problem(
            f"'{volume.name}' ({volume.files[0].name}) has another geometry than '{volumes[0].name}': {difference}.",
            "Give phases of one acquisition, or resample them to one grid.",
            fatal=True,
        )
        for volume in volumes[1:]
        if (difference := volumes[0].geometry.difference(volume.geometry))
    ]


def _refuse_fatal(table: PhaseTable) -> None:
    fatal = [problem for problem in table.problems if problem.fatal]
    if fatal:
        more = f" ({len(fatal) - 1} more fatal problems; see them all with inspect.)" if len(fatal) > 1 else ""
        raise InputError(fatal[0].message + more, fatal[0].remedy)


def _check_voxels(voxels: np.ndarray, volume: Volume) -> None:
    low, high = float(voxels.min()), float(voxels.max())
    where = f"'{volume.name}' ({volume.files[0]})"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{where} has voxels that are not finite (NaN or infinite).", "Export the volume again.")
    if low == high:
        raise InputError(f"{where} is constant: every voxel is {low:g}.", "Export the volume again.")
