"""A results folder in the scene: a segmentation, and behind it the maps and the table of lesions that belong to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import slicer

from BreastTumorSegGui import scene, terminology
from BreastTumorSegGui.scene import SegmentStyle
from BreastTumorSegGui.tasks import Work, stage
from BreastTumorSegLib.core.colors import BREAST, CLUSTERS, CURVE_TYPES, UNCERTAINTY, rgb
from BreastTumorSegLib.core.result import CURVE_TYPES as CURVE_NAMES
from BreastTumorSegLib.core.result import LEFT, RIGHT
from BreastTumorSegLib.io.pieces import read_in_pieces
from BreastTumorSegLib.kinetics.enhancement import ENHANCING_PE

RESULT = "BreastTumorSeg.Result"
"""Attribute of a result's segmentation: the name of its folder. The folder's place is this computer's affair."""
LESIONS = "BreastTumorSeg.Lesions"
MAPS = {
    "Tumour probability": "tumor_probability",
    "Percent enhancement": "kinetics/pe",
    "Signal enhancement ratio": "kinetics/ser",
    "Curve type": "kinetics/curve_type",
    "Time to peak": "kinetics/time_to_peak",
    "Clusters": "heterogeneity",
}
"""Maps that can be laid over the exam, and their files."""
NONCONTRAST = "BreastTumorSeg.WithoutContrast"
"""Attribute of the segmentation of a result without contrast; its maps are others."""
NONCONTRAST_MAPS = {
    "Tumour probability": "tumor_probability",
    "Predicted clusters": "heterogeneity",
    "Uncertainty": "uncertainty",
}
TITLES = (*MAPS, "Predicted clusters", "Uncertainty")
"""Of all maps that any result can have."""
PROBABILITY = "Tumour probability"
LESION_COLUMNS = ("label", "side", "volume_ml", "diameter_mm", "size_category", "worst_curve", "peak_pe", "ser",
                  "confidence", "R_mm", "A_mm", "S_mm")  # fmt: skip


def load(folder: Path, reference: slicer.vtkMRMLScalarVolumeNode) -> Work:
    """Add a results folder to the scene.

    Args:
        reference: A phase of its exam, whose grid it has.

    Returns:
        Its segmentation; maps and lesions hang on it by node references.
    """
    made: list[Any] = []
    with scene.taken_back(made):
        manifest = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        with_contrast = manifest.get("contrast", True)
        maps = MAPS if with_contrast else NONCONTRAST_MAPS
        files = ("breast", "tumor", *maps.values())
        arrays = {}
        for index, name in enumerate(files):
            pieces = read_in_pieces(folder / f"{name}.nii.gz")
            arrays[name], geometry = yield from stage("import", pieces, index, len(files))
        segmentation = _segmentation(folder.name, reference, made)
        if not with_contrast:
            segmentation.SetAttribute(NONCONTRAST, "1")
        yield None
        imaged = [style for style in _breasts() if style.label in arrays["breast"]]  # one breast, or both
        yield None
        scene.add_segments(segmentation, arrays["breast"], geometry, imaged)
        yield None
        scene.add_segments(segmentation, arrays["tumor"], geometry, _lesions(manifest["lesions"]))
        for title, file in maps.items():
            made.append(_map(title, arrays[file], geometry, folder.name))
            segmentation.SetNodeReferenceID(_role(title), made[-1].GetID())
            yield None
        made.append(_table(manifest["lesions"], folder.name))
        segmentation.SetNodeReferenceID(LESIONS, made[-1].GetID())
        scene.put_in_folder(f"Result {folder.name}", made)
        return segmentation


def map_of(segmentation: slicer.vtkMRMLSegmentationNode | None, title: str) -> slicer.vtkMRMLScalarVolumeNode | None:
    """A result's map by its title; None where it has none of it."""
    return segmentation.GetNodeReference(_role(title)) if segmentation is not None and title in TITLES else None


def is_noncontrast(segmentation: slicer.vtkMRMLSegmentationNode | None) -> bool:
    """Whether a result was made without contrast."""
    return segmentation is not None and bool(segmentation.GetAttribute(NONCONTRAST))


def set_map(segmentation: slicer.vtkMRMLSegmentationNode, title: str, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Let a result have another map under a title; the one before stays in the scene."""
    segmentation.SetNodeReferenceID(_role(title), volume.GetID())


def lesions_of(segmentation: slicer.vtkMRMLSegmentationNode | None) -> list[dict[str, str]]:
    """A result's lesions, one a row of its table, by column."""
    table = segmentation.GetNodeReference(LESIONS) if segmentation is not None else None
    if table is None:
        return []
    return [
        {name: table.GetCellText(row, column) for column, name in enumerate(LESION_COLUMNS)}
        for row in range(table.GetNumberOfRows())
    ]


def preview_threshold(segmentation: slicer.vtkMRMLSegmentationNode | None, threshold: float) -> None:
    """Let the probability's overlay show from a threshold on; no mask is changed."""
    probability = map_of(segmentation, PROBABILITY)
    if probability is not None:
        scene.show_from(probability.GetDisplayNode(), threshold)


def _role(title: str) -> str:
    return f"BreastTumorSeg.{title.replace(' ', '')}"


def _segmentation(
    name: str, reference: slicer.vtkMRMLScalarVolumeNode, made: list[Any]
) -> slicer.vtkMRMLSegmentationNode:
    segmentation = scene.add_segmentation(f"Segmentation {name}", reference)
    made.append(segmentation)
    segmentation.SetAttribute(RESULT, name)
    return segmentation


def _breasts() -> list[SegmentStyle]:
    color = tuple(value / 255 for value in rgb(BREAST))
    darker = tuple(0.7 * value for value in color)
    return [
        SegmentStyle(RIGHT, "RightBreast", "Right breast", color, terminology.breast("right"), 0.05, 0.15),
        SegmentStyle(LEFT, "LeftBreast", "Left breast", darker, terminology.breast("left"), 0.05, 0.15),
    ]


def _lesions(lesions: list[dict[str, Any]]) -> list[SegmentStyle]:
    return [
        SegmentStyle(
            lesion["label"],
            f"Lesion{lesion['label']}",
            f"Lesion {lesion['label']}",
            terminology.MASS_COLOR,
            terminology.lesion(lesion["side"]),
            0.3,
            1.0,
        )
        for lesion in lesions
    ]


def _map(title: str, array: Any, geometry: Any, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    return scene.add_volume(array, geometry, f"{title} {name}", *look(title))


def look(title: str) -> tuple[tuple[float, float], str, bool, float | None]:
    """How a map is shown: window, colours, whether to interpolate, and the lowest value that is shown."""
    if title == "Curve type":
        entries = [(label, _unit(color)) for label, color in zip(CURVE_NAMES, CURVE_TYPES, strict=True)]
        return (0, len(entries) - 1), scene.add_color_table("Curve types", entries).GetID(), False, None
    if title in ("Clusters", "Predicted clusters"):
        none, cluster, table = _CLUSTER_WORDS[title]
        entries = [(none, (0.0, 0.0, 0.0))]
        entries += [(f"{cluster} {label}", _unit(color)) for label, color in enumerate(CLUSTERS, start=1)]
        return (0, len(entries) - 1), scene.add_color_table(table, entries).GetID(), False, None
    window, shown_from = {
        PROBABILITY: ((0.0, 1.0), 0.5),
        "Percent enhancement": ((0.0, 200.0), ENHANCING_PE),
        "Signal enhancement ratio": ((0.0, 2.0), 0.01),
        "Time to peak": ((0.0, 600.0), 0.01),  # seconds after injection
        "Uncertainty": ((0.0, 1.0), UNCERTAINTY[0][0]),
    }[title]
    return window, "vtkMRMLColorTableNodeIron", True, shown_from


_CLUSTER_WORDS = {
    "Clusters": ("not enhancing", "cluster", "TIC clusters"),
    "Predicted clusters": ("not predicted to enhance", "predicted cluster", "Predicted TIC clusters"),
}
"""Label 0, the others, and the name of the colour table."""


def _unit(color: str) -> tuple[float, float, float]:
    red, green, blue = rgb(color)
    return (red / 255, green / 255, blue / 255)


def _table(lesions: list[dict[str, Any]], name: str) -> slicer.vtkMRMLTableNode:
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"Lesions {name}")
    for column in LESION_COLUMNS:
        table.AddColumn().SetName(column)
    for lesion in lesions:
        row = table.AddEmptyRow()
        values = {**lesion, **dict(zip(("R_mm", "A_mm", "S_mm"), scene.ras(lesion["centre"]), strict=True))}
        for index, column in enumerate(LESION_COLUMNS):
            table.SetCellText(row, index, _cell(values.get(column)))
    return table


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
