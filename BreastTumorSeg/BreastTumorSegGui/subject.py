"""The mask under review in the scene: its images without a name, and its contour in red."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import slicer
from scipy import ndimage

from BreastTumorSegGui import scene, terminology
from BreastTumorSegGui.scene import SegmentStyle
from BreastTumorSegGui.tasks import Progress, Work
from BreastTumorSegLib.core.boxes import bounding_box
from BreastTumorSegLib.review.case import Case
from BreastTumorSegLib.review.records import Place

RED = (1.0, 0.0, 0.0)
CONTOUR_PIXELS = 2
SLABS = 16


@dataclass(frozen=True)
class Pictures:
    """What is read of a case before it is shown.

    Attributes:
        case: Images and masks.
        subtraction: First post-contrast minus pre-contrast phase, float32 (Z, Y, X).
        centres: Where each lesion is looked at, LPS millimetres, largest first; the grid's centre where there is none.
    """

    case: Case
    subtraction: np.ndarray
    centres: tuple[tuple[float, float, float], ...]


def pictures(case: Case) -> Work:
    """Prepare a case, in slices of milliseconds."""
    subtraction = np.empty(case.first_post.shape, np.float32)
    bounds = np.linspace(0, len(subtraction), SLABS + 1).astype(int)
    for index, (low, high) in enumerate(pairwise(bounds)):
        np.subtract(case.first_post[low:high], case.pre[low:high], out=subtraction[low:high], dtype=np.float32)
        yield Progress("show", index / SLABS)
    return Pictures(case, subtraction, _centres(case))


def _centres(case: Case) -> tuple[tuple[float, float, float], ...]:
    """The middle of each lesion: its voxel nearest to its centroid, since a crescent's centroid is outside of it."""
    found = []
    for label, box in enumerate(ndimage.find_objects(case.automatic), start=1):
        if box is not None:
            voxels = np.argwhere(case.automatic[box] == label)
            off_centre = (voxels - voxels.mean(axis=0)) * case.geometry.spacing_zyx
            nearest = voxels[np.argmin((off_centre**2).sum(axis=1))]
            found.append((len(voxels), nearest + [part.start for part in box]))
    found.sort(key=lambda lesion: -lesion[0])
    indices = [index for _size, index in found] or [np.array(case.automatic.shape) // 2]
    return tuple(tuple((case.geometry.matrix @ (*index[::-1], 1.0))[:3].tolist()) for index in indices)


class Subject:
    """A place in a reader's order, shown.

    Args:
        place: Which.
        pictures: What was read.

    Attributes:
        place: Which.
        case: Its images and masks.
        post: First post-contrast phase.
        subtraction: First post-contrast minus pre-contrast phase.
        automatic: The automatic mask; its contour is what is scored.
    """

    def __init__(self, place: Place, pictures: Pictures) -> None:
        self.place = place
        self.case = pictures.case
        self._pictures = pictures
        self._lesion = 0
        self._enhances = bool(pictures.subtraction.any())
        made: list[slicer.vtkMRMLNode] = []
        with scene.taken_back(made):
            geometry = self.case.geometry
            self.post = scene.add_volume(self.case.first_post, geometry, "Review image")
            made.append(self.post)
            self.subtraction = scene.add_volume(pictures.subtraction, geometry, "Review subtraction")
            made.append(self.subtraction)
            self.automatic = scene.add_segmentation("Review mask", self.post)
            made.append(self.automatic)
            self._draw()
        self.nodes = made
        for node in made:
            node.SetSaveWithScene(False)  # a saved scene must not tell whose these are

    @property
    def enhancement(self) -> np.ndarray:
        """First post-contrast minus pre-contrast phase, float32 (Z, Y, X)."""
        return self._pictures.subtraction

    @property
    def lesion_count(self) -> int:
        """Places to look at."""
        return len(self._pictures.centres)

    def show(self, subtracted: bool) -> None:
        """Show the image or the subtraction, of which one phase has none; the slices stay where they are."""
        scene.set_background(self.subtraction if subtracted and self._enhances else self.post)

    def look(self) -> None:
        """Move the slices to the lesion; all of them stay in full field of view."""
        scene.slice_through(scene.ras(self._pictures.centres[self._lesion]))

    def look_at_next(self) -> None:
        """Move on to the next lesion."""
        self._lesion = (self._lesion + 1) % self.lesion_count
        self.look()

    def show_contour(self, shown: bool) -> None:
        """Show or hide the contour of the automatic mask."""
        self.automatic.GetDisplayNode().SetVisibility(shown)

    def remove(self) -> None:
        """Take it out of the scene."""
        scene.remove(self.nodes)

    def _draw(self) -> None:
        labels = self.case.automatic
        styles = [
            SegmentStyle(label, f"Lesion{label}", f"Lesion {label}", RED, terminology.lesion(""), 0.0, 1.0)
            for label in np.unique(labels[labels > 0]).tolist()
        ]
        box = bounding_box(labels)
        scene.replace_segments(self.automatic, labels[box], box, self.case.geometry, styles)
        display = self.automatic.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetOpacity2DOutline(1.0)
        display.SetSliceIntersectionThickness(CONTOUR_PIXELS)
