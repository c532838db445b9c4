"""The exam in the scene: its table, kept in the parameter node, and whether it is confirmed."""

from __future__ import annotations

from collections.abc import Sequence

import slicer

from BreastTumorSegGui import exam_table, scene
from BreastTumorSegGui.exam_table import Row
from BreastTumorSegGui.parameters import Parameters
from BreastTumorSegLib.core.exam import ONE_PHASE, TimeSource, first_post_index


def row_of(volume: slicer.vtkMRMLScalarVolumeNode, time: float, source: TimeSource) -> Row:
    """The row of a phase."""
    return Row(volume, volume.GetName(), scene.geometry_of(volume), time, source, scene.is_moved(volume))


class Exam:
    """The phases that the user works with.

    Attributes:
        parameters: Where they are kept; None while there is no scene to keep them in.
    """

    def __init__(self) -> None:
        self.parameters: Parameters | None = None

    @property
    def rows(self) -> list[Row]:
        """The phases in order; a volume that was taken out of the scene is no longer among them."""
        kept = self.parameters
        if kept is None:
            return []
        return [
            row_of(volume, time, TimeSource(source))
            for volume, time, source in zip(kept.phases, kept.times, kept.sources, strict=False)
            if volume is not None and volume.GetImageData() is not None
        ]

    @property
    def notes(self) -> list[str]:
        """What reading the exam told about it."""
        return list(self.parameters.notes) if self.parameters else []

    def set_rows(self, rows: Sequence[Row], notes: Sequence[str] | None = None) -> None:
        """Change the table; it must be confirmed again."""
        kept = self.parameters
        with slicer.util.NodeModify(kept):
            kept.phases = [row.node for row in rows]
            kept.times = [float(row.time) for row in rows]
            kept.sources = [row.source.value for row in rows]
            kept.confirmed = False
            if notes is not None:  # of one phase alone the table tells, as long as it is alone
                kept.notes = [note for note in notes if not note.endswith(ONE_PHASE)]

    def confirm(self) -> None:
        """Confirm the table as it is.

        Raises:
            ValueError: It can't be confirmed; with the reason.
        """
        reason = exam_table.reason_against(self.rows)
        if reason:
            raise ValueError(reason)
        self.parameters.confirmed = True

    @property
    def reason_against_running(self) -> str:
        """Why nothing can run on the exam, in words; "" when it can."""
        rows = self.rows
        reason = exam_table.reason_against(rows)
        if reason:
            return reason
        # A phase that was deleted or changed since then makes another exam of it.
        if not self.parameters.confirmed or len(rows) != len(self.parameters.times):
            return "Confirm the phases and their times in the Exam panel."
        return ""

    @property
    def is_one_phase(self) -> bool:
        """Whether no phase after contrast is there."""
        return len(self.rows) == 1

    @property
    def reason_against_curves(self) -> str:
        """Why nothing that needs contrast can run on the exam, in words; "" when it can."""
        return self.reason_against_running or exam_table.reason_against_curves(self.rows)

    @property
    def pre(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The pre-contrast phase."""
        rows = self.rows
        return rows[0].node if rows else None

    @property
    def first_post(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The first phase that can show contrast, by time."""
        rows = self.rows
        return rows[first_post_index(tuple(row.time for row in rows))].node if rows else None
