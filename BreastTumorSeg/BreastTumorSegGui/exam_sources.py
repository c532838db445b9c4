"""Where the phases of an exam come from: files, volumes in the scene, a sequence, a multivolume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer

from BreastTumorSegGui import scene, scratch
from BreastTumorSegGui.exam import row_of
from BreastTumorSegGui.exam_table import ASSUMED_INTERVAL_S, Row
from BreastTumorSegGui.tasks import Progress, Work, follow, stage
from BreastTumorSegGui.worker import Launcher
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import TimeSource
from BreastTumorSegLib.io.dicom import file_clocks
from BreastTumorSegLib.io.pieces import read_in_pieces
from BreastTumorSegLib.io.times import choose

Clocks = Mapping[TimeSource, float]

MULTIVOLUME_TAGS = ("AcquisitionTime", "ContentTime", "SeriesTime", "TriggerTime", "Time")
"""Tags that order a multivolume's frames by time; others, such as a flip angle, say nothing of it."""
CLOCK = "BreastTumorSeg.Clock"
"""Attribute of a volume that was loaded here: its time in seconds, and where it was read."""
SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3}


@dataclass
class Loaded:
    """What a source gave.

    Attributes:
        rows: The phases in order.
        notes: What there is to know of them, in words.
        made: Volumes that were added to the scene for them.
    """

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    made: list[slicer.vtkMRMLScalarVolumeNode] = field(default_factory=list)


class ExamSources:
    """Loads exams. Each method gives the work of a task that ends with `Loaded`, or leaves the scene as it was.

    Args:
        launcher: Starts the library, which reads files.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def from_files(self, paths: Sequence[Path]) -> Work:
        """A DICOM folder, a case folder, or volume files; they are read by a process of its own."""
        folder = scratch.new()
        try:
            out = folder / "exam"
            arguments = [*map(str, paths), str(out)]
            events = self._launcher.run("BreastTumorSegLib.io.convert", arguments, folder / "log.txt")
            yield from follow(events, lambda _event: None)  # warnings are among the exam's problems, too
            return (yield from _read_exam_folder(out))
        finally:
            scratch.discard(folder)

    def from_volumes(self, volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> Work:
        """Volumes in the scene, with the times that they were loaded with here, or those of their DICOM files."""
        empty = [volume.GetName() for volume in volumes if volume.GetImageData() is None]
        if empty:
            raise InputError(f"{empty[0]} has no voxels.", "Load its file, or uncheck it.")
        clocks = [_kept_clock(volume) for volume in volumes]
        if not all(clocks):
            found = [_dicom_files(volume) for volume in volumes]
            yield None
            clocks = file_clocks(found) if all(found) else [{} for _ in volumes]
        return _in_order(volumes, clocks)

    def from_sequence(self, browser: slicer.vtkMRMLSequenceBrowserNode) -> Work:
        """The volumes of a sequence browser's master sequence; its index gives the times where it is one of time."""
        sequence = browser.GetMasterSequenceNode()
        if sequence is None or sequence.GetNumberOfDataNodes() == 0:
            raise InputError(f"{browser.GetName()} holds no volumes.", "Choose a sequence of volumes.")
        items = [sequence.GetNthDataNode(index) for index in range(sequence.GetNumberOfDataNodes())]
        if not all(item.IsA("vtkMRMLScalarVolumeNode") for item in items):
            raise InputError(f"{browser.GetName()} holds something else than volumes.", "Choose a sequence of volumes.")
        values = [sequence.GetNthIndexValue(index) for index in range(len(items))]
        factor = SECONDS.get(sequence.GetIndexUnit()) if sequence.GetIndexName() == "time" else None
        return (yield from _added(items, sequence.GetName(), _index_clocks(values, factor, TimeSource.SEQUENCE)))

    def from_multivolume(self, multivolume: slicer.vtkMRMLScalarVolumeNode) -> Work:
        """The frames of a multivolume, each as a volume of its own; its labels give the times where they are times."""
        labels = (multivolume.GetAttribute("MultiVolume.FrameLabels") or "").split(",")
        frames = scene.voxels(multivolume)
        if frames.ndim != 4:
            raise InputError(f"{multivolume.GetName()} has one frame only.", "Choose a volume with several frames.")
        by_time = multivolume.GetAttribute("MultiVolume.FrameIdentifyingDICOMTagName") in MULTIVOLUME_TAGS
        unit = multivolume.GetAttribute("MultiVolume.FrameIdentifyingDICOMTagUnits")
        factor = SECONDS.get(unit) if by_time and len(labels) == frames.shape[-1] else None
        clocks = _index_clocks(labels if factor else [""] * frames.shape[-1], factor, TimeSource.MULTIVOLUME)
        made: list[slicer.vtkMRMLScalarVolumeNode] = []
        with scene.taken_back(made):
            for index in range(frames.shape[-1]):
                frame = yield from stage("frames", _copied(frames[..., index]))
                name = f"{multivolume.GetName()} phase {index}"
                made.append(scene.add_volume(frame, scene.geometry_of(multivolume), name))
            return _in_order(made, clocks, made)


def _read_exam_folder(folder: Path) -> Work:
    """The volumes of an exam folder, see the library's `io.exam_folder`."""
    table = json.loads((folder / "phases.json").read_text(encoding="utf-8"))
    rows: list[Row] = []
    made: list[slicer.vtkMRMLScalarVolumeNode] = []
    with scene.taken_back(made):
        for phase in table["phases"]:
            array, geometry = yield from stage("show", read_in_pieces(folder / phase["file"]))
            volume = scene.add_volume(array, geometry, phase["name"])
            made.append(volume)
            rows.append(row_of(volume, phase["time_s"], TimeSource(phase["source"])))
            volume.SetAttribute(CLOCK, f"{phase['time_s']} {phase['source']}")
        scene.put_in_folder("Exam", made)
        notes = [f"{problem['message']} {problem['remedy']}".strip() for problem in table["problems"]]
        return Loaded(rows, notes, made)


def _kept_clock(volume: slicer.vtkMRMLScalarVolumeNode) -> Clocks:
    """The time that a volume was loaded with, unless it was assumed."""
    time, _space, source = (volume.GetAttribute(CLOCK) or "").partition(" ")
    return {TimeSource(source): float(time)} if time and source != TimeSource.ASSUMED.value else {}


def _dicom_files(volume: slicer.vtkMRMLScalarVolumeNode) -> list[Path]:
    """First and last file of a volume that Slicer loaded from its DICOM database; none where it did not."""
    if not hasattr(slicer, "dicomDatabase"):  # as in a Slicer without its DICOM module
        return []
    instances = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    files = [slicer.dicomDatabase.fileForInstance(uid) for uid in {*instances[:1], *instances[-1:]}]
    return [Path(file) for file in files if file]


def _added(items: Sequence[slicer.vtkMRMLScalarVolumeNode], name: str, clocks: Sequence[Clocks]) -> Work:
    made: list[slicer.vtkMRMLScalarVolumeNode] = []
    with scene.taken_back(made):
        for index, item in enumerate(items):
            made.append(scene.share_volume(item, f"{name} phase {index}"))
            yield Progress("frames", (index + 1) / len(items))
        return _in_order(made, clocks, made)


def _index_clocks(values: Sequence[str], factor: float | None, source: TimeSource) -> list[Clocks]:
    """Seconds by a sequence's own index; nothing where it is no time or no number."""
    try:
        return [{source: float(value) * factor} for value in values] if factor else [{} for _ in values]
    except ValueError:
        return [{} for _ in values]


def _in_order(
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode],
    clocks: Sequence[Clocks],
    made: Sequence[slicer.vtkMRMLScalarVolumeNode] = (),
) -> Loaded:
    timing = choose([volume.GetName() for volume in volumes], clocks, ASSUMED_INTERVAL_S)
    rows = [
        row_of(volumes[index], time, source)
        for index, time, source in zip(timing.order, timing.times, timing.sources, strict=True)
    ]
    return Loaded(rows, [str(problem) for problem in timing.problems], list(made))


def _copied(frame: np.ndarray) -> Work:
    """A contiguous copy of one component, slab by slab."""
    copy = np.empty(frame.shape, frame.dtype)
    for index in range(len(frame)):
        copy[index] = frame[index]
        yield (index + 1) / len(frame)
    return copy
