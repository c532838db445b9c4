"""The files of a results folder; the design's list, but for the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.result import (
    CURVE_TYPES,
    Clusters,
    ExamResult,
    FoundInExam,
    FoundLesion,
    Lesion,
    NonContrastResult,
)
from BreastTumorSegLib.io.files import write_volume

Volumes = dict[str, tuple[np.ndarray, float | None]]
"""Volumes by their names; maps with the precision that means something."""


def write_result(result: ExamResult, folder: Path, events: Events | None = None) -> None:
    """Write masks, maps, tables and `result.json` into an existing folder; `result.json` comes last.

    Raises:
        OutputError: A file can't be written.
    """
    maps = result.maps
    kinetics: Volumes = {
        "kinetics/pe": (maps.pe, 0.1),
        "kinetics/pe_late": (maps.pe_late, 0.1),
        "kinetics/ser": (maps.ser, 1e-2),
        "kinetics/curve_type": (maps.curve_type, None),
        "kinetics/time_to_peak": (maps.time_to_peak, 0.1),
        "kinetics/washout_slope": (maps.washout_slope, 0.1),
        "kinetics/ftv": (result.ftv, None),
        "heterogeneity": (result.clusters.labels, None),
    }
    (folder / "kinetics").mkdir()
    _write_volumes(result, kinetics, folder, events or Events())
    _write_lesions(result.lesions, folder / "lesions.csv")
    write_curves(result.clusters, result.exam.times, folder / "curves.csv")
    _write_manifest(result, folder)


def write_noncontrast_result(result: NonContrastResult, folder: Path, events: Events | None = None) -> None:
    """The same without contrast: the heterogeneity map is the predicted one, `uncertainty` is added, kinetics are not.

    Raises:
        OutputError: A file can't be written.
    """
    maps: Volumes = {"heterogeneity": (result.predicted, None), "uncertainty": (result.uncertainty, 1e-3)}
    _write_volumes(result, maps, folder, events or Events())
    _write_noncontrast_lesions(result, folder / "lesions.csv")
    _write_manifest(result, folder)


def _write_volumes(result: FoundInExam, maps: Volumes, folder: Path, events: Events) -> None:
    masks: Volumes = {
        "breast": (result.breast, None),
        "tumor": (result.tumor, None),
        "tumor_probability": (result.probability, 1e-3),
    }
    volumes = masks | maps
    for done, (name, (volume, step)) in enumerate(volumes.items()):
        events.progress("write", done, len(volumes))
        write_volume(volume, result.exam.geometry, folder / f"{name}.nii.gz", step)
    events.progress("write", len(volumes), len(volumes))


def _write_manifest(result: FoundInExam, folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps(result.manifest, indent=2) + "\n", encoding="utf-8")


def _write_lesions(lesions: Sequence[Lesion], path: Path) -> None:
    """One row a lesion; columns carry their unit."""
    shares = [f"share_{name.replace(' ', '_')}" for name in CURVE_TYPES]
    header = [*_FOUND, "peak_pe_percent", "ser", "worst_curve", *shares, "ftv_ml", "confidence"]
    rows = [
        [
            *_found(lesion),
            *_thousandths(lesion.peak_pe, lesion.ser),
            lesion.worst_curve,
            *_thousandths(*lesion.curve_shares, lesion.ftv_ml, lesion.confidence),
        ]
        for lesion in lesions
    ]
    _write_table(path, header, rows)


def _write_noncontrast_lesions(result: NonContrastResult, path: Path) -> None:
    """One row a lesion; its share of each cluster is predicted."""
    shares = [f"predicted_share_cluster_{number}" for number in range(1, result.clusters + 1)]
    header = [*_FOUND, "predicted_share_not_enhancing", *shares, "confidence"]
    rows = [[*_found(lesion), *_thousandths(*lesion.cluster_shares, lesion.confidence)] for lesion in result.lesions]
    _write_table(path, header, rows)


_FOUND = ("label", "side", "x_mm", "y_mm", "z_mm", "volume_ml", "diameter_mm", "size_category")


def _found(lesion: FoundLesion) -> list[object]:
    """The columns of `_FOUND`."""
    centre = [f"{c:.1f}" for c in lesion.centre]
    sizes = _thousandths(lesion.volume_ml, lesion.diameter_mm)
    return [lesion.label, lesion.side, *centre, *sizes, lesion.size_category]


def _thousandths(*numbers: float) -> list[str]:
    return [f"{number:.3f}" for number in numbers]


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def write_curves(clusters: Clusters, times: tuple[float, ...], path: Path) -> None:
    """One row a cluster and phase: mean and standard deviation of the percent enhancement."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cluster", "voxels", "time_s", "mean_pe_percent", "sd_pe_percent"])
        for index, (curve, spread) in enumerate(zip(clusters.curves, clusters.spread, strict=True)):
            for time, mean, deviation in zip(times, curve, spread, strict=True):
                writer.writerow([index + 1, int(clusters.voxels[index]), time, f"{mean:.2f}", f"{deviation:.2f}"])
