"""The exam folder: phases as uncompressed NRRD files, and `phases.json` with the names and times that a user confirmed.

`phases.json` is `{"phases": [{"file", "name", "time_s", "source"}], "problems": [{"message", "remedy", "fatal"}]}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, Problem, TimeSource
from BreastTumorSegLib.io import files
from BreastTumorSegLib.io.pieces import write_in_pieces
from BreastTumorSegLib.io.raw import run_through
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.io.times import Timing, rising
from BreastTumorSegLib.io.volume import Found, Volume

PHASES_JSON = "phases.json"
_REMEDY = "Make the exam folder again."


@dataclass(frozen=True)
class _Entry:
    """What phases.json says of a phase.

    Attributes:
        file: Plain name of a volume file in the folder.
        name: Short name that holds nothing of the patient.
        time: Seconds after the pre-contrast phase.
        source: Where `time` comes from.
    """

    file: str
    name: str
    time: float
    source: TimeSource


def phase_file(index: int) -> str:
    """Name of the file of a phase, counted from 0."""
    return f"phase_{index}.nrrd"


def is_exam_folder(path: Path) -> bool:
    """True for a folder with phases.json."""
    return (path / PHASES_JSON).is_file()


def write_exam(exam: Exam, folder: Path, events: Events | None = None) -> None:
    """Write an exam into an existing folder; phases.json comes last.

    Voxels are stored as int16 or uint16 where all of them are whole numbers of that range, else as they are.

    Raises:
        OutputError: The folder is not writable or the disk is full.
        Cancelled: The user cancelled.
    """
    events = events or Events()
    phases = exam.table.phases
    stored = _smallest_type(exam.data)
    for index, voxels in enumerate(exam.data):
        events.progress("write", index, len(phases))
        run_through(write_in_pieces(voxels.astype(stored, copy=False), exam.geometry, folder / phase_file(index)))
    entries = [
        {"file": phase_file(index), "name": phase.name, "time_s": phase.time, "source": phase.source.value}
        for index, phase in enumerate(phases)
    ]
    write_phases_json(folder, entries, [vars(problem) for problem in exam.table.problems])
    events.progress("write", len(phases), len(phases))


def write_phases_json(
    folder: Path, entries: Sequence[Mapping[str, Any]], problems: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write phases.json alone, whole or not at all.

    Args:
        entries: Phases in order of time, with the fields that phases.json has for them.
        problems: Likewise.

    Raises:
        InputError: An entry is not one that could be read again.
        OutputError: The folder is not writable or the disk is full.
    """
    path = folder / PHASES_JSON
    content = {"phases": list(map(dict, entries)), "problems": list(map(dict, problems))}
    _parsed(content, path)
    partial = path.with_name(path.name + ".partial")
    with output_errors(path):
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def find_volumes(paths: Sequence[Path]) -> Found:
    """The phases of an exam folder, with the times, names and problems of its phases.json.

    Raises:
        InputError: More than the one folder is given; phases.json is damaged; a file is missing or no 3D volume.
    """
    if len(paths) > 1:
        raise InputError(f"{len(paths)} inputs, and one is an exam folder.", "Give the exam folder alone.")
    path = paths[0] / PHASES_JSON
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "no readable JSON") from error
    entries, problems = _parsed(content, path)
    places = [paths[0] / entry.file for entry in entries]
    volumes = [_volume(place, entry) for place, entry in zip(places, entries, strict=True)]
    files.refuse_repeated(places)
    times, sources = (tuple(entry.time for entry in entries), tuple(entry.source for entry in entries))
    return Found(tuple(volumes), problems, Timing(tuple(range(len(entries))), times, sources))


def _volume(place: Path, entry: _Entry) -> Volume:
    volumes = files.volumes_of(place)
    if len(volumes) != 1:
        raise InputError(f"{place} holds {len(volumes)} volumes; one is wanted.", _REMEDY)
    return replace(volumes[0], name=entry.name)


def _smallest_type(data: np.ndarray) -> np.dtype:
    """int16 or uint16 where it holds all values of an array (T, ...), else the array's own type."""
    if data.dtype.kind != "f":
        return data.dtype
    low, high = data.min(), data.max()
    for small in map(np.dtype, (np.int16, np.uint16)):
        fits = np.iinfo(small).min <= low and high <= np.iinfo(small).max
        if fits and all(np.array_equal(volume, np.rint(volume)) for volume in data):
            return small
    return data.dtype


def _parsed(content: Any, path: Path) -> tuple[list[_Entry], tuple[Problem, ...]]:
    """The entries and problems of phases.json.

    Raises:
        InputError: A field is missing or not what it should be.
    """
    try:
        entries = [_entry(fields, path) for fields in content["phases"]]
        problems = tuple(_problem(fields) for fields in content.get("problems", []))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise _damaged(path, f"a field is missing or of the wrong kind ({error})") from error
    if not entries:
        raise _damaged(path, "it lists no phases")
    rising([entry.time for entry in entries], f"{path}: ")
    return entries, problems


def _entry(fields: dict[str, Any], path: Path) -> _Entry:
    """One entry; what is wrong with it is raised as it comes, or as InputError where that would not tell."""
    file, name, time = fields["file"], _text(fields["name"]), fields["time_s"]
    # Windows' rules are the stricter ones: they know both kinds of slash, and drives.
    if PureWindowsPath(_text(file)).name != file or not files.is_volume_file(Path(file)):
        raise _damaged(path, f"{file!r} is no plain name of a NIfTI, NRRD or MHA file")
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise _damaged(path, f"the time {time!r} is no number")
    return _Entry(file, name, float(time), TimeSource(fields["source"]))


def _problem(fields: dict[str, Any]) -> Problem:
    return Problem(_text(fields["message"]), _text(fields.get("remedy", "")), bool(fields.get("fatal", False)))


def _text(value: Any) -> str:
    """The value, where it is text that can be written to a file."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()
    return value


def _damaged(path: Path, how: str) -> InputError:
    return InputError(f"{path} is damaged: {how}.", _REMEDY)
