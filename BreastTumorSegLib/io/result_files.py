"""The files of a results folder; the design's list, but for the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.result import CURVE_TYPES, Clusters, ExamResult
from BreastTumorSegLib.io.files import write_volume


def write_result(result: ExamResult, folder: Path, events: Events | None = None) -> None:
    """Write masks, maps, tables and `result.json` into an existing folder; `result.json` comes last.

    Raises:
        OutputError: A file can't be written.
    """
    events = events or Events()
    maps = result.maps
    volumes: dict[str, tuple[np.ndarray, float | None]] = {  # maps are kept to a precision that means something
        "breast": (result.breast, None),
        "tumor": (result.tumor, None),
        "tumor_probability": (result.probability, 1e-3),
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
    for done, (name, (volume, step)) in enumerate(volumes.items()):
        events.progress("write", done, len(volumes))
        write_volume(volume, result.exam.geometry, folder / f"{name}.nii.gz", step)
    events.progress("write", len(volumes), len(volumes))
    _write_lesions(result, folder / "lesions.csv")
    write_curves(result.clusters, result.exam.times, folder / "curves.csv")
    (folder / "result.json").write_text(json.dumps(result.manifest, indent=2) + "\n", encoding="utf-8")


def _write_lesions(result: ExamResult, path: Path) -> None:
    """One row a lesion; columns carry their unit."""
    shares = [f"share_{name.replace(' ', '_')}" for name in CURVE_TYPES]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["label", "side", "x_mm", "y_mm", "z_mm", "volume_ml", "diameter_mm", "size_category", "peak_pe_percent",
             "ser", "worst_curve", *shares, "ftv_ml", "confidence"]
        )  # fmt: skip
        for lesion in result.lesions:
            numbers = (lesion.volume_ml, lesion.diameter_mm, lesion.peak_pe, lesion.ser)
            volume, diameter, pe, ser = (f"{number:.3f}" for number in numbers)
            centre = [f"{c:.1f}" for c in lesion.centre]
            row = [lesion.label, lesion.side, *centre, volume, diameter, lesion.size_category, pe, ser]
            last = [f"{number:.3f}" for number in (*lesion.curve_shares, lesion.ftv_ml, lesion.confidence)]
            writer.writerow([*row, lesion.worst_curve, *last])


def write_curves(clusters: Clusters, times: tuple[float, ...], path: Path) -> None:
    """One row a cluster and phase: mean and standard deviation of the percent enhancement."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cluster", "voxels", "time_s", "mean_pe_percent", "sd_pe_percent"])
        for index, (curve, spread) in enumerate(zip(clusters.curves, clusters.spread, strict=True)):
            for time, mean, deviation in zip(times, curve, spread, strict=True):
                writer.writerow([index + 1, int(clusters.voxels[index]), time, f"{mean:.2f}", f"{deviation:.2f}"])
