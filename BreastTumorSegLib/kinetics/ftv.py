"""Functional tumour volume: what enhances as tumours do, in millilitres.

Definition: N. M. Hylton et al., Radiology 263:663, 2012 (ACRIN 6657 / I-SPY 1); its algorithm and thresholds as the
same group has them since (PMC3998689, PMC5214452). Percentile, number of neighbours and the order of the steps are
the defaults of that group's own module for 3D Slicer. Written from the definition.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import LEFT, RIGHT
from BreastTumorSegLib.kinetics.options import USUAL, KineticOptions
from BreastTumorSegLib.kinetics.readings import early_and_late, finite_curves, signal_at

LESION_MARGIN_MM = 10.0
"""How far a lesion's box reaches out of it, as a reader's box does, so that the percentile sees other tissue too."""


class FunctionalVolume(NamedTuple):
    """Functional tumour volume of one box.

    Attributes:
        mask: (Z, Y, X) bool, on the box's grid.
        ml: Its millilitres; NaN with one post-contrast phase.
        background: Pre-contrast signal from which a voxel is tissue, in the image's unit; NaN in an empty box.
    """

    mask: np.ndarray
    ml: float
    background: float


def functional_tumor_volume(
    data: np.ndarray,
    times: tuple[float, ...],
    region: np.ndarray,
    voxel_ml: float,
    options: KineticOptions = USUAL,
) -> FunctionalVolume:
    """Functional tumour volume inside a region of a box.

    A voxel of the region counts whose pre-contrast signal is at least 60 % of the box's 95th percentile, whose early
    percent enhancement is at least 70, of whose 26 neighbours at least 4 pass as well so far, and whose signal
    enhancement ratio is at least 0. The ratio is never divided out: late signal equal to pre-contrast signal is an
    infinite one and passes, late signal below it is a negative one and does not. With one post-contrast phase there is
    no ratio, and so no volume.

    Args:
        data: The box, (T, Z, Y, X), cut out of an exam, pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them.
        region: Where to look in the box, (Z, Y, X) bool: all of it, a breast, a lesion.
        voxel_ml: Volume of a voxel in millilitres.
        options: Times and thresholds.
    """
    mask = np.zeros(region.shape, bool)
    early, late = early_and_late(times, options)
    pre = data[0]
    finite = pre[np.isfinite(pre)]
    background = options.ftv_background / 100 * float(np.percentile(finite, 95)) if finite.size else float("nan")
    if late is None or not finite.size:
        return FunctionalVolume(mask, float("nan") if late is None else 0.0, background)
    ratio_passes = np.zeros_like(mask)
    for z in range(len(mask)):
        where, curves = finite_curves(data[:, z], region[z] & (pre[z] >= background) & (pre[z] > 0))
        begin, end = (signal_at(curves, reading) - curves[0] for reading in (early, late))
        mask[z][where] = 100 * begin >= options.ftv_pe * curves[0]
        ratio_passes[z][where] = (end >= 0) & (begin >= options.ftv_ser * end)
    mask = with_neighbors(mask, options.ftv_neighbors) & ratio_passes
    return FunctionalVolume(mask, float(np.count_nonzero(mask) * voxel_ml), background)


def with_neighbors(mask: np.ndarray, least: int) -> np.ndarray:
    """Voxels of a mask (Z, Y, X) that have at least so many of their 26 neighbours in it; outside there are none."""
    padded = np.pad(mask, 1).astype(np.uint8)
    _, rows, columns = padded.shape
    inside = np.flatnonzero(padded)
    steps = [(z * rows + y) * columns + x for z, y, x in product((-1, 0, 1), repeat=3) if (z, y, x) != (0, 0, 0)]
    count = np.zeros(len(inside), np.uint8)
    for step in steps:
        count += padded.ravel()[inside + step]
    kept = np.zeros(padded.size, bool)
    kept[inside[count >= least]] = True
    return kept.reshape(padded.shape)[1:-1, 1:-1, 1:-1]


def breast_volumes(
    data: np.ndarray,
    times: tuple[float, ...],
    breast: np.ndarray,
    voxel_ml: float,
    options: KineticOptions = USUAL,
) -> tuple[np.ndarray, dict[str, float]]:
    """Functional tumour volume of each breast, its bounding box being the box; vessels and glands are not left out.

    Args:
        data: Exam, (T, Z, Y, X).
        times: Seconds after the pre-contrast phase, T of them.
        breast: (Z, Y, X) uint8, 0 background, 1 right breast, 2 left breast.
        voxel_ml: Volume of a voxel in millilitres.
        options: Times and thresholds.

    Returns:
        The voxels that count, (Z, Y, X) uint8, 1 right and 2 left; millilitres by "right" and "left", for the breasts
        that there are, NaN with one post-contrast phase.
    """
    labels, millilitres = np.zeros(breast.shape, np.uint8), {}
    boxes = ndimage.find_objects(breast, max_label=LEFT)
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        box = boxes[side - 1]
        if box is not None:
            found = functional_tumor_volume(data[(slice(None), *box)], times, breast[box] == side, voxel_ml, options)
            labels[box][found.mask] = side
            millilitres[name] = found.ml
    return labels, millilitres


def lesion_volume(
    data: np.ndarray,
    times: tuple[float, ...],
    labels: np.ndarray,
    label: int,
    box: tuple[slice, ...],
    geometry: Geometry,
    options: KineticOptions = USUAL,
) -> float:
    """Functional tumour volume of a lesion's own voxels in millilitres, the box reaching `LESION_MARGIN_MM` out of it.

    Args:
        data: Exam, (T, Z, Y, X).
        times: Seconds after the pre-contrast phase, T of them.
        labels: Lesions on the exam's grid, (Z, Y, X).
        label: The lesion.
        box: Its bounding box in `labels`.
        geometry: The exam's grid.
        options: Times and thresholds.
    """
    steps = [round(LESION_MARGIN_MM / spacing) for spacing in geometry.spacing_zyx]
    wide = tuple(slice(max(part.start - n, 0), part.stop + n) for part, n in zip(box, steps, strict=True))
    region = labels[wide] == label
    return functional_tumor_volume(data[(slice(None), *wide)], times, region, geometry.voxel_ml, options).ml
