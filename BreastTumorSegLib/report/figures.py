"""The figures of the report. All volumes are turned once (`Display`), so no figure knows the acquisition plane."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from BreastTumorSegLib.core.colors import BREAST, LESION, OTHER_LESION, UNCERTAINTY, cluster_color
from BreastTumorSegLib.core.result import LEFT, RIGHT, ExamResult, FoundInExam, NonContrastResult
from BreastTumorSegLib.report.display import AXIAL, CORONAL, SAGITTAL, VIEWS, Display, View
from BreastTumorSegLib.report.pictures import Picture, source

MOST_LESIONS = 10
"""Figures are drawn for so many lesions at most."""
FIELD_PX = 840  # longest side of a full field of view
DETAIL_PX = 640  # longest side of a part of it
DARK, BRIGHT, LESION_BRIGHT = 1.0, 99.7, 75.0  # percentiles that are shown black and white


@dataclass(frozen=True)
class Panel:
    """One picture with its caption.

    Attributes:
        source: Source of the HTML image.
        alt: What it shows, for who can't see it.
        caption: What stands under it.
        view: Whose orientation letters stand on its edges.
        width_mm: Millimetres across; panels side by side share their scale.
        height_mm: Millimetres down.
        marks: Lesion numbers and where they stand, in percent from the left and from the top.
    """

    source: str
    alt: str
    caption: str
    view: View
    width_mm: float
    height_mm: float
    marks: tuple[tuple[int, float, float], ...] = ()


class CommonFigures:
    """Draws the figures that a report has with and without contrast.

    Args:
        image: The phase that lesions are shown on, (Z, Y, X).
        what: Its name in words.
    """

    def __init__(self, result: FoundInExam, image: np.ndarray, what: str) -> None:
        geometry = result.exam.geometry
        self._display = Display(geometry)
        self._acquired = VIEWS[geometry.plane]
        self._pre, self._image = self._display.turn(result.exam.pre), self._display.turn(image)
        self._breast, self._tumor = self._display.turn(result.breast), self._display.turn(result.tumor)
        self._what = what
        self._window = _window(self._image, self._breast)

    def lesion(self, label: int) -> list[Panel]:
        """Axial, sagittal and coronal slice of the image where the lesion is largest."""
        mask = self._tumor == label
        return [self._lesion_slice(view, mask, label) for view in (AXIAL, SAGITTAL, CORONAL) if mask.any()]

    def _lesion_slice(self, view: View, mask: np.ndarray, label: int) -> Panel:
        index = _largest(mask, view)
        picture = self._slice(view, index, self._image, self._window_for(self._image[mask]))
        picture.outline(view.plane(self._tumor, index) > 0, OTHER_LESION)
        picture.outline(view.plane(mask, index), LESION)
        what = f"slice through lesion {label}, outlined in red, {self._what}"
        return self._panel(picture, view, what, self._position(view, index))

    def breasts(self) -> list[Panel]:
        """Axial and sagittal slice of the pre-contrast phase where the breast mask is largest, outlined."""
        mask = self._breast > 0
        window = _window(self._pre, self._breast)
        return [self._breast_slice(view, mask, window) for view in (AXIAL, SAGITTAL) if mask.any()]

    def _breast_slice(self, view: View, mask: np.ndarray, window: tuple[float, float]) -> Panel:
        index = _largest(mask, view)
        picture = self._slice(view, index, self._pre, window)
        for side in (RIGHT, LEFT):
            picture.outline(view.plane(self._breast, index) == side, BREAST)
        what = "slice with the outline of the breast mask, pre-contrast phase"
        return self._panel(picture, view, what, self._position(view, index))

    def _slice(self, view: View, index: int, volume: np.ndarray, window: tuple[float, float]) -> Picture:
        scale = FIELD_PX / float(np.max(np.multiply(volume.shape, self._display.spacing)))
        return Picture(view.plane(volume, index), window, view.in_plane(self._display.spacing), scale)

    def _window_for(self, values: np.ndarray) -> tuple[float, float]:
        """The breasts' window, widened so that values keep their shades in a lesion that outshines its breast."""
        low, high = self._window
        return low, max(high, float(np.percentile(values, LESION_BRIGHT)))

    def _position(self, view: View, index: int) -> str:
        return self._display.position(view, index)

    @staticmethod
    def _panel(
        picture: Picture, view: View, what: str, detail: str, marks: tuple[tuple[int, float, float], ...] = ()
    ) -> Panel:
        name = view.name.capitalize()
        caption = f"{name}, {detail}" if detail else name
        height, width = picture.extent
        return Panel(picture.source(), f"{name} {what}", caption, view, width, height, marks)

    def _detail(self, view: View, index: int, box: tuple[slice, ...], values: np.ndarray) -> Picture:
        """A part of a slice of the image; its window shows `values` well."""
        spacing = view.in_plane(self._display.spacing)
        plane = view.plane(self._image, index)[box]
        scale = DETAIL_PX / float(np.max(np.multiply(plane.shape, spacing)))
        return Picture(plane, self._window_for(values), spacing, scale)


class Figures(CommonFigures):
    """Draws the figures of a result with contrast, on its first post-contrast phase."""

    def __init__(self, result: ExamResult) -> None:
        super().__init__(result, result.exam.first_post, "first post-contrast phase")
        self._clusters = self._display.turn(result.clusters.labels)

    def projections(self) -> list[Panel]:
        """Maximum-intensity projections of the subtraction inside the breasts, where the heart can't outshine them.

        Axial and coronal through both breasts, sagittal through each. Without a breast mask through everything.
        """
        inside = (self._breast > 0) | (self._tumor > 0)  # a lesion that a reader drew may leave the breast
        if not inside.any():
            inside = np.ones_like(inside)
        box = _box(inside, self._display.spacing, margin=5)
        gain = np.where(inside[box], self._image[box] - self._pre[box], 0)
        tumor, breast = self._tumor[box], self._breast[box]
        through_all = [self._projection(view, gain, tumor, "") for view in (AXIAL, CORONAL)]
        through_one = [
            self._projection(SAGITTAL, gain * (breast == side), tumor * (breast == side), name)
            for side, name in ((RIGHT, "right breast"), (LEFT, "left breast"))
            if (breast == side).any()
        ]
        return [panel for pair in zip_longest(through_all, through_one) for panel in pair if panel]

    def _projection(self, view: View, gain: np.ndarray, tumor: np.ndarray, part: str) -> Panel:
        plane = gain.max(view.axis)
        bright = float(np.percentile(plane[plane > 0], BRIGHT)) if (plane > 0).any() else 1.0
        spacing = view.in_plane(self._display.spacing)
        extent = np.multiply(gain.shape, self._display.spacing)
        picture = Picture(plane, (0.0, bright), spacing, FIELD_PX / float(extent.max()))
        picture.outline(tumor.max(view.axis) > 0, LESION)
        what = "maximum-intensity projection of the subtraction"
        return self._panel(picture, view, f"{what} {part}".strip(), part, _marks(tumor, view))

    def clusters(self) -> list[Panel]:
        """The acquired slice through the largest lesion, zoomed to its breast: as it is, and with the clusters on it.

        Without a clustered lesion, the slice with the most clustered voxels.
        """
        if not self._clusters.any():
            return []
        view = self._acquired
        clustered = self._clusters > 0
        lesion = clustered & (self._tumor == 1)
        aim = lesion if lesion.any() else clustered
        index = _largest(aim, view)
        labels, breast = view.plane(self._clusters, index), view.plane(self._breast, index)
        side = np.bincount(breast[view.plane(aim, index)]).argmax()
        box = _box((labels > 0) & (breast == side), view.in_plane(self._display.spacing), margin=15, least=60)
        labels = labels[box]
        values = view.plane(self._image, index)[box][labels > 0]
        plain, tinted = (self._detail(view, index, box, values) for _ in range(2))
        plain.outline(view.plane(self._tumor, index)[box] > 0, LESION)
        _tint_clusters(tinted, labels)
        where = self._position(view, index)
        return [
            self._panel(plain, view, f"slice, {self._what}", where),
            self._panel(tinted, view, "slice, the clusters in colour", "the same, clusters in colour"),
        ]


class NonContrastFigures(CommonFigures):
    """Draws the figures of a result without contrast."""

    def __init__(self, result: NonContrastResult) -> None:
        super().__init__(result, result.exam.pre, "pre-contrast phase")
        self._predicted = self._display.turn(result.predicted)
        self._uncertainty = self._display.turn(result.uncertainty)

    def maps(self, label: int) -> list[Panel]:
        """A lesion's acquired slice, zoomed to its breast: as it is, with predicted clusters, and with what is unsure.

        Without the lesion, the slice with the most predicted clusters, or else the most breast.
        """
        lesion = self._tumor == label
        aim = next(mask for mask in (lesion, self._predicted > 0, self._breast > 0, ~lesion) if mask.any())
        view = self._acquired
        index = _largest(aim, view)
        breast = view.plane(self._breast, index)
        side = np.bincount(breast[view.plane(aim, index)]).argmax()
        box = _box((breast == side) | view.plane(aim, index), view.in_plane(self._display.spacing), margin=5, least=60)
        values = view.plane(self._image, index)[view.plane(aim, index)]
        plain, clusters, unsure = (self._detail(view, index, box, values) for _ in range(3))
        _tint_clusters(clusters, view.plane(self._predicted, index)[box])
        _tint_uncertainty(unsure, view.plane(self._uncertainty, index)[box])
        for picture in (plain, clusters, unsure):
            picture.outline(view.plane(lesion, index)[box], LESION)
        shown = f"at lesion {label}" if lesion.any() else "without a lesion"
        return [
            self._panel(plain, view, f"part of a slice {shown}, {self._what}", self._position(view, index)),
            self._panel(clusters, view, f"part {shown}, predicted clusters in colour", "predicted clusters"),
            self._panel(unsure, view, f"part {shown}, uncertainty in colour", "uncertainty"),
        ]


def _tint_clusters(picture: Picture, labels: np.ndarray) -> None:
    """Colour clusters (rows, columns)."""
    for label in np.unique(labels[labels > 0]):
        picture.tint(labels == label, cluster_color(int(label)))


def _tint_uncertainty(picture: Picture, uncertainty: np.ndarray) -> None:
    """Colour uncertainty (rows, columns) in steps."""
    ends = [least for least, _ in UNCERTAINTY[1:]] + [np.inf]
    for (least, color), end in zip(UNCERTAINTY, ends, strict=True):
        picture.tint((least <= uncertainty) & (uncertainty < end), color)


def curves(result: ExamResult) -> str:
    """Source of a chart of each cluster's mean percent enhancement over seconds, with its standard deviation."""
    figure = Figure(figsize=(5.4, 3.6), dpi=180, layout="constrained")
    axes = figure.add_subplot()
    found = result.clusters
    for label, (mean, spread) in enumerate(zip(found.curves, found.spread, strict=True), 1):
        color = cluster_color(label)
        axes.fill_between(result.exam.times, mean - spread, mean + spread, color=color, alpha=0.13, linewidth=0)
        axes.plot(result.exam.times, mean, color=color, marker="o", markersize=4, linewidth=2)
    axes.set(xlabel="Seconds after the pre-contrast phase", ylabel="Mean enhancement, %")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(color="#e6e8ec")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor="#4b5563")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return source("png", buffer.getvalue())


def _window(volume: np.ndarray, breast: np.ndarray) -> tuple[float, float]:
    """Black and white of a volume; white by the breasts alone, because the heart would darken the lesion."""
    part = (slice(None, None, 2 if volume.size > 1_000_000 else 1),) * 3
    volume, breast = volume[part], breast[part]
    inside = breast > 0 if breast.any() else volume >= volume.mean()
    low, high = float(np.percentile(volume, DARK)), float(np.percentile(volume[inside], BRIGHT))
    return low, max(high, low + 1e-6)


def _largest(mask: np.ndarray, view: View) -> int:
    """Index of the slice in which a mask has the largest area."""
    other = tuple(axis for axis in range(3) if axis != view.axis)
    return int(np.argmax(np.count_nonzero(mask, axis=other)))


def _box(mask: np.ndarray, spacing: tuple[float, ...], margin: float, least: float = 0.0) -> tuple[slice, ...]:
    """Bounding box of a mask, grown by a margin and to a least side, both in millimetres, inside the array."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    grown = []
    for side, length, step in zip(box, mask.shape, spacing, strict=True):
        extra = math.ceil(max(margin, (least - (side.stop - side.start) * step) / 2) / step)
        grown.append(slice(max(0, side.start - extra), min(length, side.stop + extra)))
    return tuple(grown)


def _marks(tumor: np.ndarray, view: View) -> tuple[tuple[int, float, float], ...]:
    """Number of each lesion at the upper right of its box, in percent from the left and from the top."""
    marks = []
    for label, box in enumerate(ndimage.find_objects(tumor)[:MOST_LESIONS], 1):
        if box is not None:
            (rows, columns), (height, width) = view.in_plane(box), view.in_plane(tumor.shape)
            marks.append((label, 100 * columns.stop / width, 100 * rows.start / height))
    return tuple(marks)
