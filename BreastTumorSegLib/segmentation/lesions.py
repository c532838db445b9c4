"""Lesions: the connected parts of a tumour mask, and what is measured of each. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.boxes import bounding_box
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import CURVE_TYPES, LEFT, RIGHT, FoundLesion, Lesion, NonContrastLesion
from BreastTumorSegLib.kinetics.enhancement import early_late
from BreastTumorSegLib.kinetics.ftv import lesion_volume
from BreastTumorSegLib.kinetics.options import USUAL, KineticOptions
from BreastTumorSegLib.metrics.diameter import TOUCHING, longest_diameter

LEAST_ML = pi / 6 * 3**3 / 1000
"""A sphere of 3 mm: less can't be told from noise and small vessels at the resolution of breast MRI."""

GROUP_VOXELS, GROUP_ML = 4, 0.027
"""Least size of the group of voxels that a lesion's most suspicious curve is read from: more than three voxels, as
BI-RADS asks of a region of interest, and 3 x 3 x 3 mm."""


def label_lesions(mask: np.ndarray, geometry: Geometry, least_ml: float = LEAST_ML) -> np.ndarray:
    """Number the 26-connected parts of a mask from 1, largest first, and drop those smaller than `least_ml`.

    Args:
        mask: Tumour, (Z, Y, X) bool.
        geometry: Its grid.
        least_ml: Least volume in millilitres; by default a sphere of 3 mm.

    Returns:
        (Z, Y, X), uint8, or uint16 with more than 255 lesions.
    """
    box = bounding_box(mask)
    parts, count = ndimage.label(mask[box], TOUCHING)
    voxels = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-voxels, kind="stable")
    kept = order[voxels[order] * geometry.voxel_ml >= least_ml]
    number = np.zeros(count + 1, np.uint8 if len(kept) < 256 else np.uint16)
    number[1 + kept] = 1 + np.arange(len(kept))
    labels = np.zeros(mask.shape, number.dtype)
    labels[box] = number[parts]
    return labels


def measure_lesions(
    labels: np.ndarray,
    likely: np.ndarray,
    breast: np.ndarray,
    exam: Exam,
    pe: np.ndarray,
    ser: np.ndarray,
    curve_type: np.ndarray,
    options: KineticOptions = USUAL,
) -> tuple[Lesion, ...]:
    """Measure every lesion. All arrays are (Z, Y, X) on the exam's grid.

    With one post-contrast phase the ratio and the functional volume are NaN, the shares of the curve types are NaN and
    `worst_curve` is "".

    Args:
        labels: 0 background, 1 to N lesions, as `label_lesions` gives them.
        likely: How likely each voxel's lesion is one, 0 to 1, as `outlined` gives it; read inside lesions only.
        breast: 0 background, 1 right breast, 2 left breast.
        exam: The exam.
        pe: Early percent enhancement.
        ser: Signal enhancement ratio, 0 where it is not defined.
        curve_type: Index into `CURVE_TYPES`.
        options: Of the functional tumour volume.
    """
    has_curves = early_late(exam.times) is not None
    lesions = []
    for found, box, inside in _found_lesions(labels, likely, breast, exam.geometry):
        shares, worst = _curves(curve_type[box], inside, exam.geometry) if has_curves else ((np.nan,) * 4, "")
        lesions.append(
            Lesion(
                **vars(found),
                peak_pe=float(np.percentile(pe[box][inside], 95)),
                ser=_median_above_zero(ser[box][inside]),
                curve_shares=shares,
                worst_curve=worst,
                ftv_ml=lesion_volume(exam.data, exam.times, labels, found.label, box, exam.geometry, options),
            )
        )
    return tuple(lesions)


def measure_noncontrast_lesions(
    labels: np.ndarray,
    likely: np.ndarray,
    breast: np.ndarray,
    geometry: Geometry,
    predicted: np.ndarray,
    clusters: int,
) -> tuple[NonContrastLesion, ...]:
    """Measure every lesion that was found without contrast.

    Args:
        labels, likely, breast: As of `measure_lesions`, (Z, Y, X).
        geometry: Their grid.
        predicted: Predicted cluster, 1 to `clusters`; 0 where none is predicted to enhance.
        clusters: How many there can be.
    """
    lesions = []
    for found, box, inside in _found_lesions(labels, likely, breast, geometry):
        counts = np.bincount(predicted[box][inside], minlength=clusters + 1)
        lesions.append(NonContrastLesion(**vars(found), cluster_shares=tuple((counts / counts.sum()).tolist())))
    return tuple(lesions)


def _found_lesions(
    labels: np.ndarray, likely: np.ndarray, breast: np.ndarray, geometry: Geometry
) -> Iterator[tuple[FoundLesion, tuple[slice, ...], np.ndarray]]:
    """What needs no contrast of each lesion, with its box, and where in the box it is, bool."""
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        inside = labels[box] == label
        indices = np.argwhere(inside) + [part.start for part in box]
        found = FoundLesion(
            label=label,
            side=_side(breast[box][inside]),
            centre=_centre(indices, geometry),
            volume_ml=len(indices) * geometry.voxel_ml,
            diameter_mm=longest_diameter(inside, geometry),
            confidence=float(likely[box][inside].mean(dtype=float)),
        )
        yield found, box, inside


def _centre(indices: np.ndarray, geometry: Geometry) -> tuple[float, float, float]:
    """LPS position of the mean of voxel indices (N, 3), in array order."""
    x, y, z = (geometry.matrix @ [*indices.mean(axis=0)[::-1], 1.0])[:3]
    return float(x), float(y), float(z)


def _side(breast: np.ndarray) -> str:
    right, left = np.count_nonzero(breast == RIGHT), np.count_nonzero(breast == LEFT)
    return "" if right == left else "right" if right > left else "left"


def _median_above_zero(values: np.ndarray) -> float:
    return float(np.median(values[values > 0])) if np.any(values > 0) else float("nan")


def _curves(
    curve_type: np.ndarray, inside: np.ndarray, geometry: Geometry
) -> tuple[tuple[float, float, float, float], str]:
    """Share of each curve type in a lesion, and the most suspicious that any group of touching voxels reaches.

    So BI-RADS (5th edition 2013) reads a lesion: where its curves differ, by the worst of them, over more than three
    voxels. A group is all touching voxels of at least that suspicion. The least group is 3 x 3 x 3 mm and 4 voxels, but
    never more than half of the lesion, so that small lesions have a curve, too.
    """
    counts = np.bincount(curve_type[inside], minlength=len(CURVE_TYPES))
    least = min(max(GROUP_VOXELS, GROUP_ML / geometry.voxel_ml), counts.sum() / 2)
    worst = 0
    for suspicion in range(1, len(CURVE_TYPES)):
        groups, _ = ndimage.label(inside & (curve_type >= suspicion), TOUCHING)
        if np.bincount(groups.ravel())[1:].max(initial=0) >= least:
            worst = suspicion
    none, persistent, plateau, washout = (float(share) for share in counts / counts.sum())
    return (none, persistent, plateau, washout), CURVE_TYPES[worst]
