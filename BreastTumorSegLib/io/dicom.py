"""Finds the phases of an exam among all DICOM files of a folder."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import mode
from typing import TypeVar

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Problem, TimeSource
from BreastTumorSegLib.io import stack
from BreastTumorSegLib.io.frames import DicomObject, Frame, read_frames
from BreastTumorSegLib.io.pixels import PixelReader
from BreastTumorSegLib.io.volume import Found, Volume

T = TypeVar("T")
K = TypeVar("K")

_NO_PHASE_TYPES = {"SUB", "SUBTRACTION", "MIP", "PROJECTION IMAGE", "LOCALIZER", "ADC", "MPR", "DIFFUSION", "TRACEW"}
_NO_PHASE_WORDS = ("sub", "mip", "t2", "stir", "dwi", "diff", "adc", "loc", "scout", "survey", "calib", "screen")
# These clocks start anew with each series.
_WITHIN_SERIES = (TimeSource.TRIGGER_TIME, TimeSource.TEMPORAL_OFFSET, TimeSource.TEMPORAL_POSITION)
_PROGRESS_EVERY = 50
_SAME_PROTOCOL = 0.05
_SAME_PLANE = 0.02

Stack = list[Frame]


def find_volumes(paths: Sequence[Path], events: Events) -> Found:
    """The phases among the DICOM files of folders and files, in order of their series.

    Phases are the largest set of volumes that share plane and sequence (repetition time, echo time, flip angle, fat
    suppression, kind of image); original images come before derived ones, and water before the other Dixon images.

    Raises:
        InputError: There is no MR image, or a DICOM file is damaged.
        Cancelled: The user cancelled.
    """
    objects, frames = _scan(paths, events)
    refused = _mixed_exams(objects, paths)
    if refused:
        return Found((), tuple(refused))
    candidates, left_out = _candidates(objects, frames)
    stacks = _phases(candidates)
    if not stacks:
        raise InputError(
            f"{paths[0]} holds no phases of a DCE-MRI exam; left out: {_text(left_out)}.", "Give the dynamic series."
        )
    chosen = {id(frame) for slices in stacks for frame in slices}
    left_out["of another sequence, plane or kind than the phases"] = {
        _label(frame) for frame in candidates if id(frame) not in chosen
    }
    return _volumes(stacks, _left_out(left_out))


def file_clocks(volumes: Sequence[Sequence[Path]]) -> list[dict[TimeSource, float]]:
    """What each source says of the time of volumes that are loaded already; nothing where their files don't tell.

    Args:
        volumes: Files of each volume; its first and its last one will do.
    """
    stacks = [_frames_of(files) for files in volumes]
    one_series = len({frames[0].source.series for frames in stacks if frames}) == 1
    return [_clocks(frames, one_series) if frames else {} for frames in stacks]


def _frames_of(files: Sequence[Path]) -> Stack:
    """All slices of some files; none where a file has gone, is damaged or no image."""
    try:
        found = [read_frames(file) for file in files]
    except (OSError, InputError):
        return []
    slices = [pair[1] if pair else [] for pair in found]
    return [frame for frames in slices for frame in frames] if all(slices) else []


def _scan(paths: Sequence[Path], events: Events) -> tuple[list[DicomObject], list[Frame]]:
    files = [file for path in paths for file in (_below(path) if path.is_dir() else [path])]
    objects: list[DicomObject] = []
    frames: list[Frame] = []
    for done, file in enumerate(files):
        if done % _PROGRESS_EVERY == 0:
            events.progress("headers", done, len(files))
        found = read_frames(file)
        if found:
            objects.append(found[0])
            frames += found[1]
    events.progress("headers", len(files), len(files))
    if not objects:
        raise InputError(
            f"{paths[0]} holds no DICOM files and no volumes (NIfTI, NRRD, MHA).", "Give the folder of one exam."
        )
    return objects, frames


def _below(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if not file.name.startswith("."))
    return sorted(file for file in files if file.is_file())


def _mixed_exams(objects: Sequence[DicomObject], paths: Sequence[Path]) -> list[Problem]:
    """Two patients or two studies in one input are refused, without telling who or when."""
    images = [found for found in objects if found.is_mr]
    tests: list[tuple[str, Sequence[DicomObject], Callable[[DicomObject], str]]] = [
        *(("patients", objects, lambda found, i=i: _spelling(found.patient[i])) for i in range(3)),
        ("studies", images, lambda found: found.study[0]),
        ("study dates", images, lambda found: found.study[1]),
    ]
    for what, compared, value in tests:
        groups = _grouped((found for found in compared if value(found)), value)
        if len(groups) > 1:
            examples = " and ".join(_relative(group[0].file, paths) for group in groups.values())
            message = f"{len(groups)} {what} in one input, for example in {examples}."
            return [Problem(message, "Give the files of one exam of one patient.", fatal=True)]
    return []


def _spelling(value: str) -> str:
    """Stations write one name as DOE^JANE^^ and Doe^Jane."""
    return re.sub(r"[\s^]+", " ", value).strip().casefold()


def _relative(file: Path, paths: Sequence[Path]) -> str:
    return next(
        (str(file.relative_to(path)) for path in paths if file != path and file.is_relative_to(path)), file.name
    )


def _candidates(objects: Sequence[DicomObject], frames: Sequence[Frame]) -> tuple[list[Frame], dict[str, set[str]]]:
    """Slices that may be of a phase, and the series that can't be, by reason."""
    left_out: dict[str, set[str]] = defaultdict(set)
    in_space = {frame.source.uid for frame in frames}
    for found in objects:
        if found.uid not in in_space:
            left_out["not MR images with a place in space"].add(found.label)
    candidates = []
    for frame in frames:
        if _is_no_phase(frame):
            left_out["subtractions, projections, localisers, T2 or diffusion images"].add(frame.source.label)
        else:
            candidates.append(frame)
    return candidates, left_out


def _is_no_phase(frame: Frame) -> bool:
    words = re.findall(r"[a-z0-9]+", frame.source.description.lower())
    return (
        frame.diffusion
        or bool(_NO_PHASE_TYPES.intersection(frame.image_type))
        or any(word.startswith(_NO_PHASE_WORDS) for word in words)
    )


def _phases(candidates: Sequence[Frame]) -> list[Stack]:
    """The volumes of the largest set that share plane, sequence and kind, in order of series."""
    sets: list[list[Stack]] = [
        [volume for series in _grouped(frames, lambda frame: frame.source.series).values() for volume in _split(series)]
        for frames in _kinds(candidates)
    ]
    largest: list[Stack] = max(sets, key=_rank, default=[])
    return sorted(largest, key=_series_order)


def _kinds(candidates: Sequence[Frame]) -> list[list[Frame]]:
    """Slices of one plane, sequence and kind together."""
    kinds: list[list[Frame]] = []
    for frames in _grouped(candidates, lambda frame: (frame.image_type, frame.orientation, frame.protocol)).values():
        like = next((kind for kind in kinds if _alike(kind[0], frames[0])), None)
        if like is None:
            kinds.append(frames)
        else:
            like += frames
    return kinds


def _alike(one: Frame, other: Frame) -> bool:
    """Compares with a tolerance: scanners adjust the last digits of a protocol between phases."""
    return (
        (_derived(one), _part(one), _corrections(one)) == (_derived(other), _part(other), _corrections(other))
        and all(map(_close, one.protocol, other.protocol))
        and all(abs(a - b) < _SAME_PLANE for a, b in zip(one.orientation, other.orientation, strict=True))
    )


def _close(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isclose(one, other, rel_tol=_SAME_PROTOCOL))


def _derived(frame: Frame) -> bool:
    return "DERIVED" in frame.image_type[:1] or "SECONDARY" in frame.image_type[1:2]


def _corrections(frame: Frame) -> frozenset[str]:
    """Siemens can keep every phase twice: with and without distortion correction, with and without normalisation."""
    return frozenset({"ND", "NORM"}.intersection(frame.image_type[2:]))


def _part(frame: Frame) -> str:
    """Which of the images that a Dixon or phase-sensitive scan makes."""
    parts = {"W": "WATER", "F": "FAT", "IP": "IN_PHASE", "OP": "OUT_PHASE", "P": "PHASE", "I": "IMAGINARY", "R": "REAL"}
    values = {parts.get(value, value) for value in frame.image_type[2:]}
    return next((part for part in sorted(parts.values()) if part in values), "")


def _rank(volumes: list[Stack]) -> tuple[bool, bool, int, bool, int]:
    frame = volumes[0][0]
    several = len(volumes) > 1
    original = not _derived(frame)
    return several, several and original, len(volumes), _part(frame) in ("", "WATER"), len(volumes[0])


def _series_order(volume: Stack) -> tuple[int, str]:
    # Sorting is stable, so the volumes of one series keep the order in which they were split.
    return volume[0].source.number, volume[0].source.series


def _split(series: Sequence[Frame]) -> list[Stack]:
    """The volumes of one series: where positions repeat, by the first value that tells the repetitions apart."""
    series = sorted(series, key=lambda frame: (frame.instance, frame.source.file, frame.index or 0))
    places = _grouped(series, _place)
    repeats = mode(len(frames) for frames in places.values())
    if repeats == 1:
        return [list(series)]
    for values in zip(*(frame.moments for frame in series), strict=True):
        if None not in values and len(set(values)) == repeats:
            groups = _grouped(zip(values, series, strict=True), lambda pair: pair[0])
            ordered = groups if isinstance(values[0], str) else dict(sorted(groups.items()))
            return [[frame for _, frame in pairs] for pairs in ordered.values()]
    if {len(frames) for frames in places.values()} == {repeats} and len({f.source.uid for f in series}) == len(series):
        return [list(volume) for volume in zip(*places.values(), strict=True)]
    return [list(series)]


def _place(frame: Frame) -> tuple[float, ...]:
    return tuple(round(value, 2) + 0.0 for value in frame.position)


def _volumes(stacks: Sequence[Stack], problems: list[Problem]) -> Found:
    ordered = [stack.in_order(frames) for frames in stacks]
    names = _names(ordered)
    one_series = len({frames[0].source.series for frames in ordered}) == 1
    reader = PixelReader()
    indices: Counter[tuple[Path, ...]] = Counter()
    volumes = []
    for name, frames in zip(names, ordered, strict=True):
        problems += stack.faults(name, frames)
        files = tuple(dict.fromkeys(frame.source.file for frame in frames))
        index = indices[files] if len(files) == 1 else None
        clocks = _clocks(frames, one_series)
        volumes.append(Volume(name, files, stack.geometry(frames), partial(reader.read, frames), clocks, index))
        indices[files] += 1
    return Found(tuple(volumes), tuple(problems))


def _names(stacks: Sequence[Stack]) -> list[str]:
    """The label of the series, with a count where a series holds several phases."""
    labels = [frames[0].source.label for frames in stacks]
    seen: Counter[str] = Counter()
    names = []
    for label in labels:
        seen[label] += 1
        names.append(f"{label} [{seen[label]}]" if labels.count(label) > 1 else label)
    return names


def _clocks(frames: Stack, one_series: bool) -> dict[TimeSource, float]:
    """The earliest value of each source that all slices have."""
    return {
        source: min(frame.clocks[source] for frame in frames)
        for source in frames[0].clocks
        if all(source in frame.clocks for frame in frames) and (one_series or source not in _WITHIN_SERIES)
    }


def _left_out(left_out: dict[str, set[str]]) -> list[Problem]:
    return [
        Problem(f"Series left out, {reason}: {'; '.join(sorted(labels))}.", "Check that none of them is a phase.")
        for reason, labels in left_out.items()
        if labels
    ]


def _label(frame: Frame) -> str:
    part = _part(frame)
    return f"{frame.source.label} ({part.lower()})" if part else frame.source.label


def _text(left_out: dict[str, set[str]]) -> str:
    return "; ".join(sorted(label for labels in left_out.values() for label in labels)) or "nothing"


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
