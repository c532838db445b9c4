"""One run on the exam: its phases to a folder, the library in a process of its own, its results into the scene."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from BreastTumorSegGui import results, scene, scratch
from BreastTumorSegGui.exam_table import Row
from BreastTumorSegGui.tasks import Work, follow, stage
from BreastTumorSegGui.worker import Launcher
from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.io.exam_folder import write_phases_json
from BreastTumorSegLib.io.pieces import write_in_pieces
from BreastTumorSegLib.io.results import unfinished_folders


@dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        rows: The confirmed phases.
        notes: What is known about the exam; it goes into the report.
        folder: Folder for results; the run makes a dated one inside.
        model: Tumour model.
        device: "auto", "cpu" or "cuda".
    """

    rows: Sequence[Row]
    notes: Sequence[str]
    folder: Path
    model: str
    device: str


class Segmentation:
    """Runs orders.

    Args:
        launcher: Starts the library.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def run(self, order: Order, say: Callable[[str], None]) -> Work:
        """The work of a task that ends with the result's segmentation node.

        Args:
            say: Told warnings.

        Raises:
            BreastTumorSegError: It failed; scene and older results are as they were.
        """
        out = new_place(order.folder)
        given = scratch.new()
        try:
            yield from write_exam(order.rows, order.notes, given / "exam")
            arguments = ["segment", str(given / "exam"), str(out), "--device", order.device, "--progress", "json"]
            arguments += ["--model", order.model] if order.model else []
            events = self._launcher.run("BreastTumorSegLib", arguments, out.with_suffix(".log"))
            yield from follow(events, lambda event: say(event["message"]) if event["event"] == "warning" else None)
            return (yield from results.load(out, order.rows[0].node))
        finally:
            scratch.discard(given)
            remove_unfinished(out)


def new_place(folder: Path) -> Path:
    """A dated folder that is not there yet; its parent is made.

    Raises:
        OutputError: It can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"The results folder {folder} can't be made: {error.strerror}."
        raise OutputError(message, "Choose another one.") from error
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = [stamp, *(f"{stamp}-{count}" for count in range(2, 100))]
    return next(
        folder / name for name in names if not (folder / name).exists() and not (folder / f"{name}.log").exists()
    )


def write_exam(rows: Sequence[Row], notes: Sequence[str], folder: Path) -> Work:
    """Write phases with their times as an exam folder, which the library reads.

    Raises:
        OutputError: The disk is full.
    """
    folder.mkdir(parents=True)
    entries = []
    for index, row in enumerate(rows):
        file = f"phase_{index}.nrrd"
        pieces = write_in_pieces(scene.voxels(row.node), row.geometry, folder / file)
        yield from stage("export", pieces, index, len(rows))
        entries.append({"file": file, "name": row.name, "time_s": row.time, "source": row.source.value})
    problems = [{"message": note, "remedy": "", "fatal": False} for note in notes]
    write_phases_json(folder, entries, problems)


def remove_unfinished(out: Path) -> None:
    """What a worker that was ended left: it writes beside the place and renames last, see `io.results`."""
    for partial in unfinished_folders(out):
        scratch.discard(partial)
