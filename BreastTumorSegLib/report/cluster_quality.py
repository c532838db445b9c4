"""The table and the plot by which the number of clusters can be checked on one exam."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.kinetics.clusters import enhancing_curves
from BreastTumorSegLib.kinetics.curves import after_injection
from BreastTumorSegLib.kinetics.quality import Quality, quality_table
from BreastTumorSegLib.networks.bundle import default_model, load_bundle
from BreastTumorSegLib.segmentation.breast import segment_breast
from BreastTumorSegLib.segmentation.inference import choose_device

PANELS = (
    ("sse", "SSE: mean squared distance", "lower is tighter; a fit lowers it with every K"),
    ("compactness", "CPN: compactness", "lower is tighter"),
    ("separability", "SPT: separability", "higher is further apart"),
    ("davies_bouldin", "DBN: Davies-Bouldin index", "lower is better"),
    ("largest_share", "TVR: share of the largest cluster", "near 1: one cluster took all"),
    ("seeds", "Stability: adjusted Rand index", "1: other seeds or other voxels give the same"),
)
STYLES = {"exam": ("#c2352b", "o", "fitted on the exam"), "population": ("#3b7dbd", "s", "shipped codebook")}


def exam_quality(exam: Exam, method: str, device: str = "auto", events: Events | None = None) -> list[Quality]:
    """Quality over K of the enhancing voxels of an exam's breasts.

    Raises:
        InputError: Nothing enhances in the breast, or no breast was found.
        ModelError: The breast model or the codebooks are missing or damaged.
    """
    events = events or Events()
    bundle = load_bundle(default_model("breast"), "breast")
    breast = segment_breast(exam.pre, exam.geometry, bundle, choose_device(device), events)
    _, curves = enhancing_curves(exam.data, exam.times, breast.labels > 0)
    if curves.shape[1] == 0:
        raise InputError(
            "No voxel of a breast enhances: there is nothing to cluster.", "Check the phases' order and times."
        )
    return quality_table(curves, after_injection(exam.times), method, events=events)


def write_quality(rows: list[Quality], folder: Path) -> None:
    """Write `quality.csv` and `quality.png` into an existing folder. A cell is empty where nothing is defined."""
    with (folder / "quality.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Quality._fields)
        for row in rows:
            numbers = ("" if number != number else f"{number:.4f}" for number in row[3:])
            writer.writerow([*row[:3], *numbers])
    plot_quality(rows).savefig(folder / "quality.png", dpi=130)


def plot_quality(rows: list[Quality]) -> Figure:
    """A panel a measure over K, fitted on the exam and with the shipped codebooks."""
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    for panel, (name, title, meaning) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        panel.xaxis.set_major_locator(FixedLocator(sorted({row.k for row in rows})))
        panel.set_title(f"{title}\n", fontsize=10, loc="left")
        panel.text(0, 1.02, meaning, transform=panel.transAxes, fontsize=8, color="#4b5563")
        panel.set_xlabel("Clusters, K")
        panel.grid(color="#e6e8ec")
        panel.spines[:].set_visible(False)
        for fit, (color, marker, label) in STYLES.items():
            chosen = [row for row in rows if row.fit == fit]
            if name == "seeds" and fit == "population":
                continue  # not fitted here
            label = "other seeds" if name == "seeds" else label
            panel.plot(
                [r.k for r in chosen], [getattr(r, name) for r in chosen], marker, color=color, ls="-", label=label
            )
        if name == "seeds":
            chosen = [row for row in rows if row.fit == "exam"]
            values = [row.halves for row in chosen]
            panel.plot([row.k for row in chosen], values, "^--", color="#8400cd", label="halves of the voxels")
        if name in ("sse", "seeds"):
            panel.legend(frameon=False, fontsize=8)
    return figure
