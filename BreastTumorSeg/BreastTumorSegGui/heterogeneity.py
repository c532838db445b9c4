"""Clusters of time-intensity curves in a region of a result, by the library in a process of its own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from BreastTumorSegGui import results, scene, scratch
from BreastTumorSegGui.exam_table import Row
from BreastTumorSegGui.segmentation import new_place, remove_unfinished, write_exam
from BreastTumorSegGui.tasks import Work, follow, stage
from BreastTumorSegGui.worker import Launcher
from BreastTumorSegLib.core.colors import cluster_color, rgb
from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.io.pieces import read_in_pieces, write_in_pieces

LESIONS, BREASTS = "lesions", "breasts"
BREAST_IDS = ("RightBreast", "LeftBreast")
CURVES = "BreastTumorSeg.Curves"
CHART = "BreastTumorSeg.Chart"
TIME = "s after pre-contrast"
VOXEL = "voxel"


@dataclass(frozen=True)
class Order:
    """What to cluster.

    Attributes:
        rows: The confirmed phases.
        notes: What is known about the exam.
        segmentation: A result, with whatever a reader corrected in it.
        region: `LESIONS` or `BREASTS`.
        rim_mm: Millimetres around the lesions that belong to the region.
        method: Of the library's clusters.
        k: Number of clusters.
        folder: Folder for results.
    """

    rows: Sequence[Row]
    notes: Sequence[str]
    segmentation: slicer.vtkMRMLSegmentationNode
    region: str
    rim_mm: float
    method: str
    k: int
    folder: Path


class Heterogeneity:
    """Runs orders.

    Args:
        launcher: Starts the library.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def run(self, order: Order) -> Work:
        """The work of a task that ends with the cluster map; curves and chart hang on it by node references.

        Raises:
            BreastTumorSegError: It failed; the scene is as it was.
        """
        out = new_place(order.folder)
        given = scratch.new()
        try:
            mask = yield from _mask(order)
            yield from write_exam(order.rows, order.notes, given / "exam")
            yield from stage("export", write_in_pieces(mask, order.rows[0].geometry, given / "mask.nrrd"))
            arguments = ["heterogeneity", str(given / "exam"), str(out), "--mask", str(given / "mask.nrrd")]
            arguments += ["--rim", str(order.rim_mm), "--method", order.method, "--k", str(order.k)]
            events = self._launcher.run(
                "BreastTumorSegLib", [*arguments, "--progress", "json"], out.with_suffix(".log")
            )
            yield from follow(events, lambda _event: None)
            return (yield from _load(out, order.segmentation))
        finally:
            scratch.discard(given)
            remove_unfinished(out)


def voxel_curve(rows: Sequence[Row], position_ras: Sequence[float]) -> list[float] | None:
    """Percent enhancement of the voxel at a position, one a phase; None outside, or where nothing can be divided by."""
    index = scene.index_of(rows[0].node, position_ras)
    if index is None:
        return None
    values = [float(scene.voxels(row.node)[index]) for row in rows]
    return [100 * (value / values[0] - 1) for value in values] if values[0] > 0 else None


def show_voxel(cluster_map: slicer.vtkMRMLScalarVolumeNode, curve: Sequence[float]) -> None:
    """Draw a voxel's curve over the clusters' means."""
    table = cluster_map.GetNodeReference(CURVES)
    column = table.GetTable().GetColumnByName(VOXEL)
    for index, value in enumerate(curve):
        column.SetValue(index, value)
    table.GetTable().Modified()
    table.Modified()


def _mask(order: Order) -> Work:
    """Labels of the region's segments as they are now, on the exam's grid."""
    segmentation = order.segmentation.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    chosen = [segment for segment in ids if (segment in BREAST_IDS) == (order.region == BREASTS)]
    labels = np.zeros(order.rows[0].geometry.shape, np.uint8)
    for value, segment in enumerate(chosen[:255], start=1):
        scene.draw_segment(labels, value, order.segmentation, segment, order.rows[0].geometry)
        yield None
    if not chosen:
        raise InputError(f"The result has no {order.region}.", "Choose another region, or draw a segment.")
    return labels


def _load(folder: Path, segmentation: slicer.vtkMRMLSegmentationNode) -> Work:
    made: list[Any] = []
    with scene.taken_back(made):
        labels, geometry = yield from stage("import", read_in_pieces(folder / "heterogeneity.nii.gz"))
        made.append(scene.add_volume(labels, geometry, f"Clusters {folder.name}", *results.look("Clusters")))
        curves = _curves(folder / "curves.csv")
        made.append(_table(curves, folder.name))
        made.append(_chart(curves, made[1], made))
        made[0].SetNodeReferenceID(CURVES, made[1].GetID())
        made[0].SetNodeReferenceID(CHART, made[-1].GetID())
        scene.put_in_folder(f"Heterogeneity {folder.name}", made)
        results.set_map(segmentation, "Clusters", made[0])
        return made[0]


def _curves(file: Path) -> dict[int, list[dict[str, float]]]:
    """Rows of curves.csv by cluster."""
    found: dict[int, list[dict[str, float]]] = {}
    with file.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(int(row["cluster"]), []).append({name: float(value) for name, value in row.items()})
    return found


def _table(curves: dict[int, list[dict[str, float]]], name: str) -> slicer.vtkMRMLTableNode:
    """Times, mean curves with their spread, and a column for a voxel."""
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"Curves {name}")
    rows = next(iter(curves.values()), [])
    columns = {TIME: [row["time_s"] for row in rows], VOXEL: [0.0] * len(rows)}
    for cluster, values in curves.items():
        means = np.array([row["mean_pe_percent"] for row in values])
        spread = np.array([row["sd_pe_percent"] for row in values])
        columns |= {f"{cluster}": means, f"{cluster} + SD": means + spread, f"{cluster} - SD": means - spread}
    slicer.util.updateTableFromArray(table, [np.asarray(column, float) for column in columns.values()], list(columns))
    return table


def _chart(
    curves: dict[int, list[dict[str, float]]], table: slicer.vtkMRMLTableNode, made: list[Any]
) -> slicer.vtkMRMLPlotChartNode:
    """A chart of the mean curves in the clusters' colours, dashed lines one standard deviation away, and the voxel."""
    chart = slicer.mrmlScene.CreateNodeByClass("vtkMRMLPlotChartNode")
    chart.UnRegister(None)
    chart.SetTitle("Time-intensity curves")
    chart.SetXAxisTitle(TIME)
    chart.SetYAxisTitle("percent enhancement")
    slicer.mrmlScene.AddNode(chart)
    total = sum(values[0]["voxels"] for values in curves.values()) or 1
    for cluster, values in curves.items():
        color = tuple(value / 255 for value in rgb(cluster_color(cluster)))
        name = f"{cluster}: {values[0]['voxels'] / total:.0%}"
        made.append(_series(chart, table, str(cluster), name, color, dashed=False))
        for side in ("+", "-"):
            made.append(_series(chart, table, f"{cluster} {side} SD", f"{cluster} {side} SD", color, dashed=True))
    made.append(_series(chart, table, VOXEL, VOXEL, (0.0, 0.0, 0.0), dashed=False))
    return chart


def _series(
    chart: slicer.vtkMRMLPlotChartNode,
    table: slicer.vtkMRMLTableNode,
    column: str,
    name: str,
    color: tuple[float, ...],
    dashed: bool,
) -> slicer.vtkMRMLPlotSeriesNode:
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(TIME)
    series.SetYColumnName(column)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetColor(*color)
    series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
    series.SetLineStyle(
        slicer.vtkMRMLPlotSeriesNode.LineStyleDash if dashed else slicer.vtkMRMLPlotSeriesNode.LineStyleSolid
    )
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return series
