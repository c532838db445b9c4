"""Corrections of a lesion mask that need no image: which lesion, remove, keep, fill, and another threshold.

In `edits`, `shapes` and `growing`, `labels` is (Z, Y, X) uint8, 0 background and 1 to N lesions. It is never changed: a
new array is returned, which differs within a box around the lesion only. All are fast enough for the press of a button.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.boxes import Box, bounding_box, widened
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry

CLICK_MM = 3.0
"""A click this near to a lesion means it."""

LEAST_VOXELS = 4
"""Less is no lesion: three voxels can't be told from noise, nor read a curve from (BI-RADS)."""

MOST_LESIONS = 255

TOUCHING = np.ones((3, 3, 3), bool)
"""26-connectivity: voxels that share a face, an edge or a corner."""

IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)
"""Voxels of one slice that share an edge."""


def lesion_at(labels: np.ndarray, index: tuple[int, int, int], geometry: Geometry) -> int:
    """Label of the lesion at a voxel, or the nearest within 3 mm; 0 where there is none.

    Args:
        labels: The lesions.
        index: The voxel (z, y, x); may be beyond the image.
        geometry: Their grid.
    """
    point = tuple(slice(at, at + 1) for at in index)
    box = widened((point[0], point[1], point[2]), margin(CLICK_MM, geometry), labels.shape)
    found = np.argwhere(labels[box])
    if not len(found):
        return 0
    voxels = found + [part.start for part in box]
    distances = np.linalg.norm((voxels - index) * geometry.spacing_zyx, axis=1)
    nearest = int(np.argmin(distances))
    return int(labels[tuple(voxels[nearest])]) if distances[nearest] <= CLICK_MM else 0


def remove_lesion(labels: np.ndarray, label: int) -> np.ndarray:
    """The lesions without one.

    Raises:
        InputError: There is no such lesion.
    """
    box = lesion_box(labels, label)
    return replaced(labels, label, box, np.zeros(labels[box].shape, bool))


def keep_lesion(labels: np.ndarray, label: int) -> np.ndarray:
    """One lesion without the others.

    Raises:
        InputError: There is no such lesion.
    """
    box = lesion_box(labels, label)
    return replaced(np.zeros_like(labels), label, box, labels[box] == label)


def fill_holes(labels: np.ndarray, label: int) -> np.ndarray:
    """A lesion without holes: what it encloses within a slice becomes lesion, but for other lesions.

    Each slice of a cavity in 3D is enclosed within its slice, too, so that cavities are filled as well.

    Raises:
        InputError: There is no such lesion.
    """
    box = lesion_box(labels, label)
    return replaced(labels, label, box, filled(labels[box] == label))


def filled(mask: np.ndarray) -> np.ndarray:
    """A mask (Z, Y, X) bool, with what it encloses within a slice."""
    parts, _ = ndimage.label(np.pad(~mask, 1, constant_values=True), IN_PLANE)
    # In the padding, each slice's outside is one part, that of the slice's corner.
    outside = parts == parts[:, :1, :1]
    return ~outside[1:-1, 1:-1, 1:-1]


def from_probability(labels: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    """All lesions anew: the 26-connected parts of at least 4 voxels whose probability reaches a threshold.

    A part keeps the label of the lesion that it shares most voxels with. Of several parts of one lesion, that with most
    of it keeps the label; they, and parts that are new, get the lowest numbers that no lesion had, largest part first.

    Args:
        labels: The lesions now.
        probability: (Z, Y, X).
        threshold: Least probability of a lesion's voxels.

    Raises:
        InputError: No lesion would be left, or there would be more than 255.
    """
    mask = probability >= threshold
    box = bounding_box(mask)
    parts, count = ndimage.label(mask[box], TOUCHING)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    kept = [int(part) for part in 1 + np.argsort(-voxels, kind="stable") if voxels[part - 1] >= LEAST_VOXELS]
    if not kept:
        raise InputError(
            f"No lesion is left at a probability of {threshold:g}.",
            f"Choose a lower one; the highest in this exam is {np.max(probability, initial=0):.3g}.",
        )
    numbers = np.zeros(count + 1, np.uint8)
    for part, label in _numbering(
        parts, kept, labels[box], np.flatnonzero(np.bincount(labels[bounding_box(labels)].ravel()))
    ).items():
        numbers[part] = label
    result = np.zeros_like(labels)
    result[box] = numbers[parts]
    return result


def _numbering(parts: np.ndarray, kept: list[int], old: np.ndarray, taken: np.ndarray) -> dict[int, int]:
    """Label of each part that is kept: an old lesion's, by most common voxels, or one that is not taken."""
    common = (parts > 0) & (old > 0)
    pairs, voxels = np.unique(parts[common] * (MOST_LESIONS + 1) + old[common], return_counts=True)
    labels: dict[int, int] = {}
    for pair in pairs[np.argsort(-voxels, kind="stable")].tolist():
        part, label = divmod(pair, MOST_LESIONS + 1)
        if part in kept and part not in labels and label not in labels.values():
            labels[part] = label
    new = [part for part in kept if part not in labels]
    free = [label for label in range(1, MOST_LESIONS + 1) if label not in taken]
    if len(new) > len(free):
        raise InputError(
            f"That would make {len(kept)} lesions; {MOST_LESIONS} is the most.", "Choose a higher probability."
        )
    return labels | dict(zip(new, free, strict=False))


def lesion_box(labels: np.ndarray, label: int) -> Box:
    """The tight box around a lesion.

    Raises:
        InputError: There is no such lesion.
    """
    box = bounding_box(labels == label)
    if label < 1 or box[0].stop == 0:
        raise InputError(f"There is no lesion {label}.", "Choose a lesion of the mask.")
    return box


def margin(mm: float, geometry: Geometry) -> tuple[int, int, int]:
    """Voxels along each array axis that hold `mm` millimetres."""
    z, y, x = (int(np.ceil(mm / step)) for step in geometry.spacing_zyx)
    return z, y, x


def replaced(labels: np.ndarray, label: int, box: Box, lesion: np.ndarray) -> np.ndarray:
    """The lesions with one drawn anew within a box that holds it; voxels of others stay theirs.

    Args:
        labels: The lesions.
        label: Which is drawn.
        box: Where.
        lesion: The lesion within the box, bool.
    """
    result = labels.copy()
    part = result[box]
    part[part == label] = 0
    part[lesion & (part == 0)] = label
    return result


def next_label(labels: np.ndarray) -> int:
    """Label of one more lesion: one above the highest.

    Raises:
        InputError: The highest is 255.
    """
    highest = int(labels.max(initial=0))
    if highest >= MOST_LESIONS:
        raise InputError(
            f"Lesion {MOST_LESIONS} is there, and a mask holds no higher number.", "Remove a lesion first."
        )
    return highest + 1
