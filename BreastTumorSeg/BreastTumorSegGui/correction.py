"""The corrected mask of the case under review, in the scene."""

from __future__ import annotations

import numpy as np
import slicer

from BreastTumorSegGui import scene, terminology
from BreastTumorSegGui.scene import SegmentStyle
from BreastTumorSegGui.subject import Subject
from BreastTumorSegLib.core.boxes import bounding_box
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.review.changes import added_removed, compare
from BreastTumorSegLib.review.records import Change

YELLOW = (1.0, 0.85, 0.1)
GREEN, PINK = (0.2, 0.9, 0.2), (1.0, 0.4, 0.75)
"""Colours of added and removed voxels, as in the figures of the MAMA-MIA study."""
OUTLINE_PIXELS = 2
LABELS = 255
_PREFIX = "Lesion"


class Correction:
    """What the reader edits: one segment a lesion, and over it what is changed.

    Args:
        subject: The case.
        labels: uint8 (Z, Y, X), to begin with.

    Attributes:
        segmentation: The segments that the reader edits.
    """

    def __init__(self, subject: Subject, labels: np.ndarray) -> None:
        self._case = subject.case
        made: list[slicer.vtkMRMLNode] = []
        with scene.taken_back(made):
            self.segmentation = scene.add_segmentation("Corrected mask", subject.post)
            made.append(self.segmentation)
            self._changes = scene.add_segmentation("Changed voxels", subject.post)
            made.append(self._changes)
            self.write(labels)
            self._dress()
        self._nodes = made
        for node in made:
            node.SetSaveWithScene(False)

    @property
    def labels(self) -> np.ndarray:
        """The mask as it is now, uint8 (Z, Y, X): a label a segment. A copy.

        Raises:
            InputError: There are too many segments, or one is on another grid.
        """
        labels = np.zeros(self._case.geometry.shape, np.uint8)
        for segment_id, label in self._segments().items():
            scene.draw_segment(labels, label, self.segmentation, segment_id, self._case.geometry)
        return labels

    def label_of(self, segment_id: str) -> int:
        """A segment's label in `labels`; 0 where it has none."""
        return self._segments().get(segment_id, 0)

    def segment_of(self, label: int) -> str:
        """Id of the segment that `write` makes of a label."""
        return f"{_PREFIX}{label}"

    def write(self, labels: np.ndarray) -> None:
        """Let the mask be another one."""
        styles = [
            SegmentStyle(label, f"{_PREFIX}{label}", f"Lesion {label}", YELLOW, terminology.lesion(""), 0.0, 1.0)
            for label in np.unique(labels[labels > 0]).tolist()
        ]
        box = bounding_box(labels)
        scene.replace_segments(self.segmentation, labels[box], box, self._case.geometry, styles)
        if not styles:  # something to paint in
            self.segmentation.GetSegmentation().AddEmptySegment(f"{_PREFIX}1", "Lesion 1", YELLOW)

    def show_changes(self) -> Change:
        """Show added voxels in green and removed ones in pink, and measure them."""
        labels = self.labels
        changed, box = added_removed(self._case.automatic, labels)
        styles = [
            SegmentStyle(1, "Added", "Added", GREEN, "", 0.5, 0.0),
            SegmentStyle(2, "Removed", "Removed", PINK, "", 0.5, 0.0),
        ]
        scene.replace_segments(self._changes, changed, box, self._case.geometry, styles)
        return compare(self._case.automatic, labels, self._case.geometry)

    def remove(self) -> None:
        """Take it out of the scene."""
        scene.remove(self._nodes)

    def _segments(self) -> dict[str, int]:
        """Labels by segment: the number of ours, and the next free ones for those that the reader added."""
        ids = self.segmentation.GetSegmentation().GetSegmentIDs()
        if len(ids) > LABELS:
            raise InputError(f"There are {len(ids)} segments.", f"A mask holds {LABELS}; merge or remove some.")
        numbers = {name: name.removeprefix(_PREFIX) for name in ids}
        own = {name: int(text) for name, text in numbers.items() if text.isdecimal() and 0 < int(text) <= LABELS}
        free = (label for label in range(1, LABELS + 1) if label not in own.values())
        return own | {name: next(free) for name in ids if name not in own}

    def _dress(self) -> None:
        display = self.segmentation.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetSliceIntersectionThickness(OUTLINE_PIXELS)
        self._changes.GetDisplayNode().SetVisibility2DOutline(False)
        self._changes.GetDisplayNode().SetVisibility3D(False)
