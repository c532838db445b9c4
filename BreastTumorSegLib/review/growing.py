"""Corrections that follow an image: a missed lesion from a click, a lesion by threshold. For `labels`, see `edits`."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.boxes import Box, bounding_box, widened
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.review.edits import (
    CLICK_MM,
    LEAST_VOXELS,
    TOUCHING,
    filled,
    lesion_box,
    margin,
    next_label,
    replaced,
)

REACH_MM = 40.0
"""A region that comes so far from its seed along an axis has leaked."""

MOST_MM = 60.0
"""A region that is longer than this along an axis has leaked: into gland, skin, vessels or heart."""

FRACTIONS = tuple(np.arange(45, 90, 5) / 100)
"""Shares of the seed's enhancement over its surroundings. Half is where a blurred edge lies."""

JUMP = 1.5
"""A region this many times as large as at the next share has leaked."""

LEAST_ML = 0.014
"""A sphere of 3 mm: less can't be told from noise."""

LEAST_CONTRAST = 3.0
"""A seed enhances if it is so many deviations above its surroundings."""

SMOOTHING_MM = 0.6
"""Standard deviation of the Gaussian that takes single noisy voxels out of the image."""


def add_from_seed(
    labels: np.ndarray,
    seed: tuple[int, int, int],
    subtraction: np.ndarray,
    breast: np.ndarray | None,
    geometry: Geometry,
) -> np.ndarray:
    """The lesions and one more, grown from a click; its label is one above the highest.

    The brightest voxel within 3 mm of the click is the start. The lesion is what is connected to it and brighter than a
    share of its enhancement over the median of the surroundings: the lowest share, from 0.45 to 0.8, at which the
    region does not leak. A leak is more than 60 mm, or 40 mm from the start, or 1.5 times the size at the next share.
    Holes are filled.

    Args:
        labels: The lesions.
        seed: Voxel (z, y, x) of the click.
        subtraction: First post-contrast minus pre-contrast phase, (Z, Y, X).
        breast: Where tumour can be: over 0, (Z, Y, X); None for everywhere.
        geometry: Grid of all.

    Raises:
        InputError: The click is outside the breast or in a lesion, nothing enhances there, the region leaks at every
            share, or lesion 255 is there.
    """
    new = next_label(labels)
    _check_seed(labels, seed, breast)
    box = _around(seed, REACH_MM, geometry, labels.shape)
    allowed = labels[box] == 0
    if breast is not None:
        allowed &= breast[box] > 0
    image = ndimage.gaussian_filter(
        subtraction[box].astype(np.float32), [SMOOTHING_MM / step for step in geometry.spacing_zyx]
    )
    start = _brightest(image, allowed, tuple(at - part.start for at, part in zip(seed, box, strict=True)), geometry)
    surroundings, deviation = _median_and_deviation(image[allowed][::8])
    contrast = image[start] - surroundings
    if not contrast > LEAST_CONTRAST * deviation:
        raise InputError("Nothing enhances where you clicked.", "Click on the brightest part of the lesion.")
    image[~allowed] = -np.inf
    region = _grown(image, start, [surroundings + share * contrast for share in FRACTIONS], geometry)
    if np.count_nonzero(region) < max(LEAST_VOXELS, LEAST_ML / geometry.voxel_ml):
        raise InputError("What enhances where you clicked is too small for a lesion.", "Draw it by hand.")
    return replaced(labels, new, box, filled(region))


def _check_seed(labels: np.ndarray, seed: tuple[int, int, int], breast: np.ndarray | None) -> None:
    inside = all(0 <= at < size for at, size in zip(seed, labels.shape, strict=True))
    if not inside or (breast is not None and not breast[seed]):
        raise InputError("You clicked outside the breast.", "Click within it, or correct the breast's mask first.")
    if labels[seed]:
        raise InputError(f"Lesion {labels[seed]} is there already.", "Grow it, or change its threshold.")


def _around(index: tuple[int, ...], mm: float, geometry: Geometry, shape: tuple[int, ...]) -> Box:
    z, y, x = (slice(at, at + 1) for at in index)
    return widened((z, y, x), margin(mm, geometry), shape)


def _brightest(
    image: np.ndarray, allowed: np.ndarray, index: tuple[int, ...], geometry: Geometry
) -> tuple[int, int, int]:
    """Index of the brightest allowed voxel near a click."""
    box = _around(index, CLICK_MM, geometry, image.shape)
    brightest = np.argmax(np.where(allowed[box], image[box], -np.inf))
    z, y, x = (
        int(at) + part.start for at, part in zip(np.unravel_index(brightest, image[box].shape), box, strict=True)
    )
    return z, y, x


def _median_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Median, and the standard deviation as the median absolute deviation tells it for a normal distribution."""
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(values - median)))


def _grown(image: np.ndarray, start: tuple[int, int, int], thresholds: list[float], geometry: Geometry) -> np.ndarray:
    """What is connected to the start above the lowest of the rising thresholds at which that doesn't leak, bool."""
    region, box = _connected(image, start, thresholds[0], bounding_box(image > thresholds[0]))
    for threshold in thresholds[1:]:
        higher, higher_box = _connected(image, start, threshold, box)
        if not _too_far(box, start, geometry) and region.sum() <= JUMP * higher.sum():
            grown = np.zeros(image.shape, bool)
            grown[box] = region
            return grown
        region, box = higher, higher_box
    raise InputError("What you clicked on has no border to its surroundings.", "Draw the lesion by hand.")


def _connected(image: np.ndarray, start: tuple[int, int, int], threshold: float, box: Box) -> tuple[np.ndarray, Box]:
    """What is connected to the start across faces above a threshold, within a box; and the tight box around it."""
    parts, _ = ndimage.label(image[box] > threshold)
    region = parts == parts[tuple(at - part.start for at, part in zip(start, box, strict=True))]
    tight = bounding_box(region)
    z, y, x = (slice(w.start + t.start, w.start + t.stop) for w, t in zip(box, tight, strict=True))
    return region[tight], (z, y, x)


def _too_far(box: Box, start: tuple[int, int, int], geometry: Geometry) -> bool:
    """Whether a region with this box leaked."""
    return any(
        (part.stop - part.start) * step > MOST_MM or max(at - part.start, part.stop - 1 - at) * step >= REACH_MM
        for part, at, step in zip(box, start, geometry.spacing_zyx, strict=True)
    )


def threshold_near(
    labels: np.ndarray, label: int, image: np.ndarray, low: float, high: float, geometry: Geometry, mm: float
) -> np.ndarray:
    """A lesion drawn anew: what is near it and between two values, in 26-connected parts that touch it as it was.

    Voxels of other lesions are not taken; the lesion's own that are not between the values are left out.

    Args:
        labels: The lesions.
        label: Which to draw anew.
        image: (Z, Y, X).
        low: Least value of the lesion's voxels.
        high: Greatest.
        geometry: Grid of all.
        mm: Distance from the lesion, between voxel centres, up to which it may reach.

    Raises:
        InputError: There is no such lesion, or nothing would be left of it.
    """
    box, lesion, near = _surroundings(labels, label, geometry, mm)
    parts, count = ndimage.label(near & (image[box] >= low) & (image[box] <= high), TOUCHING)
    touching = np.zeros(count + 1, bool)
    touching[parts[ndimage.binary_dilation(lesion, TOUCHING)]] = True
    touching[0] = False
    if not touching.any():
        raise InputError(
            f"Nothing of lesion {label} or next to it is between {low:g} and {high:g}.", "Choose other values."
        )
    return replaced(labels, label, box, touching[parts])


def suggested_threshold(labels: np.ndarray, label: int, image: np.ndarray, geometry: Geometry, mm: float) -> float:
    """The value that best parts a lesion and its surroundings within `mm` in two classes (Otsu 1979), in image units.

    Other lesions and values that are not finite don't count. Where all values are equal, it is that value.

    Raises:
        InputError: There is no such lesion.
    """
    box, _, near = _surroundings(labels, label, geometry, mm)
    values = image[box][near]
    values = np.sort(values[np.isfinite(values)].astype(float))
    below = np.arange(1, len(values))
    sums = np.cumsum(values)
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / (len(values) - below)
    between = below * (len(values) - below) * (means[1] - means[0]) ** 2
    last = int(np.argmax(between)) if len(between) else 0
    return float(values[last : last + 2].mean())


def _surroundings(labels: np.ndarray, label: int, geometry: Geometry, mm: float) -> tuple[Box, np.ndarray, np.ndarray]:
    """A box around a lesion, the lesion in it, and the lesion with all voxels within `mm` that are not another's."""
    box = widened(lesion_box(labels, label), margin(mm, geometry), labels.shape)
    lesion = labels[box] == label
    distance = ndimage.distance_transform_edt(~lesion, geometry.spacing_zyx)
    return box, lesion, (distance <= mm) & (lesion | (labels[box] == 0))
