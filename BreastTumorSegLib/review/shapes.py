"""Corrections of a lesion's shape: larger or smaller, smoother, in two. For `labels`, see `edits`."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.boxes import widened
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.review.edits import TOUCHING, lesion_box, margin, next_label, replaced

SLACK_MM = 1e-6
"""Distances that are equal but for rounding are equal."""

SIGMAS = 3.0
"""Beyond so many standard deviations a Gaussian is nothing."""

NECK = 0.85
"""Parts are held apart by a neck of at most this share of the smaller part's depth: a digital ball has none."""

LEVELS = 24
"""Depths at which a neck is looked for."""


def resize(labels: np.ndarray, label: int, geometry: Geometry, mm: float) -> np.ndarray:
    """A lesion grown by so many millimetres on all sides, or shrunk where `mm` is negative.

    Its surface is taken to lie halfway between a voxel inside and the nearest outside, in the direction of the two, and
    a voxel changes where its centre is passed. So a step of less than half a voxel does nothing along that axis, and
    1 mm changes one layer of 2 mm voxels. Balls of 5 to 13 mm radius change by 1 mm within 0.1 mm on grids like
    0.75 x 0.75 x 1 and 0.7 x 0.7 x 2 mm, and within 0.3 mm at 1 mm. Growing takes no voxels of other lesions. Beyond
    the image's border is outside.

    Raises:
        InputError: There is no such lesion, or nothing would be left of it.
    """
    reach = mm + max(geometry.spacing) / 2 if mm > 0 else 0.0
    box = widened(lesion_box(labels, label), margin(reach, geometry), labels.shape)
    lesion = np.pad(labels[box] == label, 1)
    changed = lesion | _within(lesion, mm, geometry) if mm > 0 else lesion & ~_within(~lesion, -mm, geometry)
    if not changed.any():
        raise InputError(
            f"Nothing would be left of lesion {label}, shrunk by {-mm:g} mm.", "Shrink it by less, or remove it."
        )
    return replaced(labels, label, box, changed[1:-1, 1:-1, 1:-1])


def _within(mask: np.ndarray, mm: float, geometry: Geometry) -> np.ndarray:
    """Voxels outside a mask whose centre is at most `mm` from its surface, bool."""
    spacing = np.asarray(geometry.spacing_zyx)
    distance, nearest = ndimage.distance_transform_edt(~mask, spacing, return_indices=True)
    near = np.nonzero(~mask & (distance <= mm + spacing.max() / 2 + SLACK_MM))
    steps = (np.stack(near) - nearest[(slice(None), *near)]).T * spacing
    half_voxel = np.linalg.norm(steps * spacing, axis=1) / np.linalg.norm(steps, axis=1) / 2
    within = np.zeros(mask.shape, bool)
    within[near] = distance[near] - half_voxel <= mm + SLACK_MM
    return within


def smooth(labels: np.ndarray, label: int, geometry: Geometry, mm: float) -> np.ndarray:
    """A lesion with a smoother surface and as many voxels as before.

    They are those where the mask's Gaussian average is highest; of equal ones, the lesion's own come first. Details
    smaller than `mm` go, small separate parts with them. Voxels of other lesions are not taken.

    Args:
        labels: The lesions.
        label: Which to smooth.
        geometry: Their grid.
        mm: Standard deviation of the Gaussian.

    Raises:
        InputError: There is no such lesion.
    """
    box = widened(lesion_box(labels, label), margin(SIGMAS * mm, geometry), labels.shape)
    lesion, free = labels[box] == label, (labels[box] == label) | (labels[box] == 0)
    sigma = [mm / step for step in geometry.spacing_zyx]
    average = ndimage.gaussian_filter(lesion.astype(float), sigma, mode="nearest", truncate=SIGMAS)
    # Rounded, because equal places are to be equal. The half that the lesion's voxels have more is less than a step.
    order = np.where(free, np.round(average * 1e6) + lesion / 2, -1).ravel()
    smoothed = np.zeros(lesion.shape, bool)
    smoothed.ravel()[np.argsort(-order, kind="stable")[: np.count_nonzero(lesion)]] = True
    return replaced(labels, label, box, smoothed)


def split(labels: np.ndarray, label: int, geometry: Geometry) -> np.ndarray:
    """A lesion in two: the part with more voxels keeps the label, the other gets one above the highest.

    A lesion in separate parts is split into the largest and the others. Else it is cut at its neck: its depth, the
    distance to the surface, has two peaks that stay apart down to the depth of the neck. They are the deepest and, of
    the others, the one farthest above its neck. Each voxel goes to the nearer of the two, as they are above that neck.

    Raises:
        InputError: There is no such lesion, it has no neck of at most 0.85 of the smaller part's depth, or lesion 255
            is there.
    """
    new = next_label(labels)
    box = lesion_box(labels, label)
    lesion = np.pad(labels[box] == label, 1)
    parts, count = ndimage.label(lesion, TOUCHING)
    if count == 1:
        parts = _cut(lesion, label, geometry)
    voxels = np.bincount(parts.ravel())[1:]
    other = lesion & (parts != 1 + np.argmax(voxels))
    result = labels.copy()
    result[box][other[1:-1, 1:-1, 1:-1]] = new
    return result


def _cut(lesion: np.ndarray, label: int, geometry: Geometry) -> np.ndarray:
    """The two parts of a connected lesion, 1 and 2, in an array with an empty border."""
    depth = ndimage.distance_transform_edt(lesion, geometry.spacing_zyx)
    peaks = _peaks(depth, NECK)
    if peaks is None:
        raise InputError(f"Lesion {label} has no neck to split it at.", "Separate it with the eraser.")
    nearest = ndimage.distance_transform_edt(
        peaks == 0, geometry.spacing_zyx, return_distances=False, return_indices=True
    )
    return np.where(lesion, peaks[tuple(nearest)], 0)


def _peaks(depth: np.ndarray, neck: float) -> np.ndarray | None:
    """The deepest part, 1, and the one farthest above its neck, 2, as they are just above that neck; None without."""
    best, peaks = 0.0, None
    inside = np.flatnonzero(depth)
    # Rising, so that the last value written for a part is its highest; ten times as fast as scipy's `maximum`.
    order = inside[np.argsort(depth.ravel()[inside], kind="stable")]
    for level in np.linspace(0, depth.max(), LEVELS, endpoint=False):
        parts, count = ndimage.label(depth > level, TOUCHING)
        if count < 2:
            continue
        heights = np.zeros(count + 1)
        heights[parts.ravel()[order]] = depth.ravel()[order]
        heights[0] = 0
        first, second = np.argsort(-heights, kind="stable")[:2]
        if level <= neck * heights[second] and heights[second] - level > best:
            best = heights[second] - level
            peaks = (parts == first) + 2 * (parts == second).astype(np.uint8)
    return peaks
