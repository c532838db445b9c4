"""The whole-breast mask, left and right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import LEFT, RIGHT
from BreastTumorSegLib.networks.bundle import Bundle
from BreastTumorSegLib.networks.inputs import normalised
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.resample import isotropic_grid, resample

SMALLEST_SHARE = 0.1
"""A component smaller than this share of the largest one is no breast."""

SECOND_BREAST_SHARE = 0.25
"""With less than this share of the mask beyond the midline, an exam shows one breast and an edge of the other."""

MIDLINE_ERROR_MM = 45.0
"""So far off can the midline be that the chest wall tells, where the breasts are turned or the coil lies askew."""

VALLEY_MM = 9.0
"""The gap between the breasts is looked for with columns of about this width."""

SEALED_VOXELS = 2
"""Half the width of the widest opening of an implant's hole."""


@dataclass(frozen=True)
class BreastMask:
    """The mask on the exam's grid, and on the network's for what follows.

    Attributes:
        labels: uint8 (Z, Y, X), 0 background, 1 right, 2 left, on the exam's grid.
        coarse: Both breasts, bool, on `grid`.
        grid: The network's grid.
    """

    labels: np.ndarray
    coarse: np.ndarray
    grid: Geometry


def segment_breast(
    pre: np.ndarray, geometry: Geometry, bundle: Bundle, device: torch.device, events: Events
) -> BreastMask:
    """Whole-breast mask of a pre-contrast phase (Z, Y, X), over its whole field of view."""
    grid = isotropic_grid(geometry, bundle.description.spacing_mm)
    image = resample(pre, geometry, grid)
    inputs = normalised(torch.from_numpy(image)[None], bundle.description.normalisation)
    everywhere = torch.ones(inputs.shape[1:], dtype=torch.bool)
    logits = Engine(bundle, device, events).predict(inputs, everywhere)
    probability = np.where(body(image), bundle.description.probability(logits[0]).numpy(), 0)
    threshold = bundle.description.threshold
    found = with_implants(_components(probability >= threshold))
    probability = np.where(ndimage.binary_dilation(found, iterations=2), probability, 0)
    probability[found & (probability < threshold)] = 1  # a hole, such as an implant, is breast all the same
    sides = side_of_columns(found, grid)
    fine = resample(probability, grid, geometry) >= threshold
    labels = np.where(fine, _sides_on(geometry, sides, grid), 0).astype(np.uint8)
    return BreastMask(labels, found, grid)


def body(image: np.ndarray) -> np.ndarray:
    """Where the patient is, and a voxel of air around: bool (Z, Y, X). Real air is noisier than simulated air.

    Otsu's threshold of the logarithm, without the zeros of masked images; specks removed, and dark implants filled.
    """
    signal = np.log1p(image - image.min())  # some exports have negative values
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    mask = sitk.GetImageFromArray((signal > 0).astype(np.uint8))
    otsu.SetMaskValue(1)
    otsu.Execute(sitk.GetImageFromArray(signal), mask)
    bright = ndimage.binary_opening(signal > otsu.GetThreshold())
    return ndimage.binary_dilation(_components(bright))


def with_implants(mask: np.ndarray) -> np.ndarray:
    """A mask of breasts (Z, Y, X) along LPS with the dark implants in them, bool.

    An implant is a hole that may lie bare to the air, where the skin over it is too thin for a voxel, or be cut off by
    the edge of the field of view. So openings of up to twice `SEALED_VOXELS` count as closed, and so do all faces of
    the volume but the front, where the air is, and the back. A hole from one face to the opposite one is taken for air
    between the breasts or under them, unless it is closed by itself.
    """
    front = np.pad(mask, ((0, 0), (SEALED_VOXELS + 1, SEALED_VOXELS + 1), (0, 0)))
    walled = np.pad(front, ((1, 1), (0, 0), (1, 1)), constant_values=True)
    wide = ndimage.binary_dilation(walled, iterations=SEALED_VOXELS)
    closed = ndimage.binary_erosion(wide, iterations=SEALED_VOXELS, border_value=True)
    filled = ndimage.binary_fill_holes(closed)
    bare = ~ndimage.binary_fill_holes(walled)[1:-1, :, 1:-1]
    holes, _ = ndimage.label((filled & ~closed)[1:-1, :, 1:-1])
    for number, box in enumerate(ndimage.find_objects(holes), start=1):
        across = any(box[axis] == slice(0, mask.shape[axis]) for axis in (0, 2))
        if across and bare[holes == number].any():
            holes[holes == number] = 0
    implants = ndimage.binary_dilation(holes > 0, iterations=2 * SEALED_VOXELS, mask=filled[1:-1, :, 1:-1])
    return mask | implants[:, SEALED_VOXELS + 1 : -SEALED_VOXELS - 1]


def side_of_columns(mask: np.ndarray, grid: Geometry) -> np.ndarray:
    """Label RIGHT or LEFT for each x of a grid along LPS, by where the chest wall bulges forward most.

    The chest is convex: seen from above its front is highest at the sternum and falls off to both sides. A parabola
    through the mask's back edge has its vertex at the midline, even where only one breast is in the image.

    Args:
        mask: Whole-breast mask, bool (Z, Y, X), on `grid`.
    """
    x = grid.origin[0] + grid.spacing[0] * np.arange(mask.shape[2])
    columns = np.nonzero(mask.any(axis=1))[1]
    if len(np.unique(columns)) < 3:
        return np.full(len(x), LEFT if x.mean() > 0 else RIGHT, np.uint8)
    back = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)[mask.any(axis=1)]
    middle = x[columns].mean()
    curvature, slope, _ = np.polyfit(x[columns] - middle, back * grid.spacing[1], 2)
    # Where the edge is straight or hollow, its lower end is the side.
    left_of_midline = x - middle > -slope / (2 * curvature) if curvature > 0 else np.full(len(x), slope > 0)
    voxels = mask.sum(axis=(0, 1))
    share = (voxels * left_of_midline).sum() / mask.sum()
    if min(share, 1 - share) < SECOND_BREAST_SHARE:
        left_of_midline[:] = share > 0.5
    elif left_of_midline.any() and not left_of_midline.all():
        left_of_midline = x > _thinnest(x, voxels, float(x[left_of_midline].min()))
    return np.where(left_of_midline, LEFT, RIGHT).astype(np.uint8)


def _thinnest(x: np.ndarray, voxels: np.ndarray, about: float) -> float:
    """Where two breasts part: the middle of the columns with fewest voxels near an estimate of the midline, in mm.

    Only columns that leave enough for a breast on either side are looked at, not those beside the breasts.
    """
    smooth = ndimage.uniform_filter1d(voxels.astype(float), max(round(VALLEY_MM / abs(x[1] - x[0])), 1))
    before = np.cumsum(voxels) / voxels.sum()
    near = (np.abs(x - about) <= MIDLINE_ERROR_MM) & (np.minimum(before, 1 - before) >= SECOND_BREAST_SHARE)
    return float(x[near & (smooth <= smooth[near].min())].mean()) if near.any() else about


def _sides_on(geometry: Geometry, sides: np.ndarray, grid: Geometry) -> np.ndarray:
    """Side of each voxel of a grid of any orientation, by its x; shape broadcasts to (Z, Y, X)."""
    nx, ny, nz = geometry.size
    step_x = geometry.matrix[0]
    x = (
        step_x[3]
        + step_x[2] * np.arange(nz)[:, None, None]
        + step_x[1] * np.arange(ny)[None, :, None]
        + step_x[0] * np.arange(nx)[None, None, :]
    )
    column = np.rint((x - grid.origin[0]) / grid.spacing[0]).astype(int)
    return sides[np.clip(column, 0, len(sides) - 1)]


def _components(mask: np.ndarray) -> np.ndarray:
    """The mask without specks, holes filled; bool."""
    labels, count = ndimage.label(ndimage.binary_fill_holes(mask))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return np.isin(labels, np.flatnonzero(sizes >= SMALLEST_SHARE * sizes.max(initial=0)) + 1)
