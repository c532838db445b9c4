"""Clusters of time-intensity curves in a region that somebody chose: lesions, lesions with a rim, or the breasts."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.result import Clusters
from BreastTumorSegLib.io.files import write_volume
from BreastTumorSegLib.io.result_files import write_curves
from BreastTumorSegLib.kinetics import cluster_curves
from BreastTumorSegLib.kinetics.composition import composition


@dataclass(frozen=True)
class Heterogeneity:
    """Clusters in a region.

    Attributes:
        clusters: Labels on the exam's grid, mean curves, spread and size.
        composition: Share of each cluster among a label's enhancing voxels, by the label of the mask, (K,).
    """

    clusters: Clusters
    composition: dict[int, np.ndarray]


def map_heterogeneity(
    exam: Exam, mask: np.ndarray, mask_geometry: Geometry, rim_mm: float, method: str, k: int
) -> Heterogeneity:
    """Cluster the curves of a mask's voxels and of a rim around it.

    Args:
        mask: Labels (Z, Y, X), 0 outside; lesions or breasts.
        mask_geometry: Its grid, which must be the exam's.
        rim_mm: How far the region reaches out of the mask, millimetres; 0 for the mask itself.
        method: See `kinetics.cluster_curves`.
        k: Number of clusters.

    Raises:
        InputError: The mask is empty or on another grid, the rim is negative, or there is no such method.
    """
    difference = exam.geometry.difference(mask_geometry)
    if difference:
        raise InputError(f"The mask is not on the exam's grid: {difference}.", "Give a mask of this exam.")
    if not mask.any():
        raise InputError("The mask is empty.", "Segment something first.")
    labels = with_rim(mask, exam.geometry, rim_mm)
    clusters = cluster_curves(exam.data, exam.times, labels > 0, k, method=method)
    return Heterogeneity(clusters, composition(clusters, labels))


def with_rim(mask: np.ndarray, geometry: Geometry, rim_mm: float) -> np.ndarray:
    """A mask whose labels reach `rim_mm` further; where two meet, the nearer one.

    Raises:
        InputError: The rim is negative.
    """
    if rim_mm < 0:
        raise InputError(f"A rim of {rim_mm:g} mm can't be made.", "Give 0 or more.")
    if rim_mm == 0:
        return mask
    box = _box(mask, geometry, rim_mm)
    inside = mask[box]
    distance, nearest = ndimage.distance_transform_edt(inside == 0, geometry.spacing_zyx, return_indices=True)
    grown = mask.copy()
    grown[box] = np.where(distance <= rim_mm, inside[tuple(nearest)], 0)
    return grown


def write_heterogeneity(found: Heterogeneity, exam: Exam, folder: Path, **chosen: object) -> None:
    """Write the label map, curves and composition into an existing folder, with what was chosen.

    Raises:
        OutputError: A file can't be written.
    """
    write_volume(found.clusters.labels, exam.geometry, folder / "heterogeneity.nii.gz")
    write_curves(found.clusters, exam.times, folder / "curves.csv")
    with (folder / "composition.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *(f"share_{index + 1}" for index in range(len(found.clusters.curves)))])
        for label, shares in found.composition.items():
            writer.writerow([label, *(f"{share:.4f}" for share in shares)])
    (folder / "heterogeneity.json").write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")


def _box(mask: np.ndarray, geometry: Geometry, rim_mm: float) -> tuple[slice, ...]:
    """The part of the grid that a mask and its rim can be in."""
    (found,) = ndimage.find_objects((mask > 0).astype(np.uint8))
    margins = [int(np.ceil(rim_mm / step)) for step in geometry.spacing_zyx]
    return tuple(slice(max(part.start - m, 0), part.stop + m) for part, m in zip(found, margins, strict=True))
