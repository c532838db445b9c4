"""The report of one exam: a single HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from BreastTumorSegLib.core import colors
from BreastTumorSegLib.core.errors import OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import TimeSource, first_post_index
from BreastTumorSegLib.core.result import CURVE_TYPES, LEFT, RIGHT, ExamResult, FoundInExam, FoundLesion, Reading
from BreastTumorSegLib.kinetics.composition import composition
from BreastTumorSegLib.report.figures import MOST_LESIONS, CommonFigures, Figures, Panel, curves
from BreastTumorSegLib.report.page import page_environment

LesionT = TypeVar("LesionT", bound=FoundLesion)


def write_report(result: ExamResult, path: Path, events: Events | None = None) -> None:
    """Write the report of an exam as one self-contained HTML file; it replaces `path` when it is complete.

    Args:
        result: What was found.
        path: The file, usually `report.html` in the results folder.
        events: Is told of the progress, and can cancel.

    Raises:
        OutputError: The file can't be written.
        Cancelled: `events` was cancelled; nothing is written.
    """
    facts = _figures(result, events or Events()) | _facts(result)
    write_page(exam_page("report.html.j2", result, result.lesions, facts), path)


def write_page(page: str, path: Path) -> None:
    """Write a page; it replaces `path` when it is complete.

    Raises:
        OutputError: The file can't be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"The report {path} can't be written: {error.strerror}.", "Choose another folder.") from error


def summary(lesions: Sequence[FoundLesion]) -> str:
    """The finding in one plain sentence."""
    if not lesions:
        return "No lesion found."
    largest = max(lesions, key=lambda lesion: lesion.diameter_mm)
    size = f"{largest.diameter_mm:.0f} mm" + (f" in the {largest.side} breast" if largest.side else "")
    if len(lesions) == 1:
        return f"1 lesion found, {size}."
    return f"{len(lesions)} lesions found, the largest {size}."


def exam_page(template: str, result: FoundInExam, lesions: Sequence[FoundLesion], facts: dict[str, Any]) -> str:
    """The page of a template that extends `exam.html.j2`; `facts` are those that it has beyond that one's."""
    environment = page_environment()
    environment.filters |= {"columns": _columns, "widths": _widths}
    return environment.get_template(template).render(_common_facts(result, lesions) | facts)


def lesion_slices(draw: CommonFigures, lesions: Sequence[LesionT], events: Events) -> list[tuple[LesionT, list[Panel]]]:
    """The slices of the largest lesions; tells a step for each, and one for what comes after."""
    shown = lesions[:MOST_LESIONS]
    slices = []
    for done, lesion in enumerate(shown):
        events.progress("report", done, len(shown) + 1)
        slices.append((lesion, draw.lesion(lesion.label)))
    events.progress("report", len(shown), len(shown) + 1)
    return slices


def _figures(result: ExamResult, events: Events) -> dict[str, Any]:
    """Every figure, by the name that the template has for it."""
    draw = Figures(result)
    slices = lesion_slices(draw, result.lesions, events)
    drawn = {
        "slices": slices,
        "projections": draw.projections(),
        "clusters": draw.clusters(),
        "curves": curves(result) if len(result.clusters.curves) else "",
        "breasts": draw.breasts(),
    }
    events.progress("report", len(slices) + 1, len(slices) + 1)
    return drawn


def _common_facts(result: FoundInExam, lesions: Sequence[FoundLesion]) -> dict[str, Any]:
    """Every number and text of `exam.html.j2`, by its name there."""
    exam = result.exam
    return {
        "summary": summary(lesions),
        "lesions": lesions,
        "warnings": [_without_paths(warning, result) for warning in result.warnings],
        "problems": [
            (_without_paths(problem.message, result), _without_paths(problem.remedy, result))
            for problem in exam.table.problems
        ],
        "phases": exam.table.phases,
        "assumed": TimeSource.ASSUMED,
        "geometry": exam.geometry,
        "most_lesions": MOST_LESIONS,
        "breast_ml": {
            name: float((result.breast == side).sum()) * exam.geometry.voxel_ml
            for side, name in ((RIGHT, "right"), (LEFT, "left"))
        },
        "manifest": result.manifest,
        "colors": colors,
    }


def _facts(result: ExamResult) -> dict[str, Any]:
    """Every other number and text, by the name that the template has for it."""
    exam = result.exam
    voxels = result.clusters.voxels
    return {
        "used_as": {0: "pre-contrast", first_post_index(exam.times): "first post-contrast"},
        "one_post": result.maps.late is None,
        "curve_types": list(zip(CURVE_TYPES, colors.CURVE_TYPES, strict=True)),
        "read": [
            (name, read_at(reading))
            for name, reading in (("Early", result.maps.early), ("Late", result.maps.late))
            if reading is not None
        ],
        "ftv_ml": {side: ml for side, ml in result.ftv_ml.items() if math.isfinite(ml)},
        "legend": [
            (colors.cluster_color(label), label, count / voxels.sum(), count * exam.geometry.voxel_ml)
            for label, count in enumerate(voxels.tolist(), 1)
        ],
        "compositions": composition(result.clusters, result.tumor),
    }


def read_at(reading: Reading) -> str:
    """Which seconds a reading stands for, and where they differ from what was wanted."""
    seconds = [f"{second:.0f} s" for second in reading.phases_s]
    if len(seconds) == 2:
        return f"{reading.used_s:.0f} s after injection, between the phases at {seconds[0]} and {seconds[1]}"
    if abs(reading.used_s - reading.wanted_s) < 0.5:
        return f"{seconds[0]} after injection"
    return f"{seconds[0]} after injection, instead of {reading.wanted_s:.0f} s, as this exam's phases come"


def _columns(panels: list[Panel]) -> list[int]:
    """Column of each panel: four in two rows, two flat ones stacked beside the first, or all side by side."""
    first, *others = panels
    if len(panels) == 4:
        return [0, 1, 0, 1]
    if len(panels) == 3 and sum(panel.height_mm for panel in others) <= 1.5 * first.height_mm:
        return [0, 1, 1]
    return list(range(len(panels)))


def _widths(panels: list[Panel]) -> list[float]:
    """Millimetres that each column of panels is wide."""
    columns = _columns(panels)
    return [
        max(panel.width_mm for panel, place in zip(panels, columns, strict=True) if place == column)
        for column in range(max(columns) + 1)
    ]


def _without_paths(text: str, result: FoundInExam) -> str:
    """A text without the exam's folders: patients' names are often in them."""
    folders = {folder for phase in result.exam.table.phases for file in phase.files for folder in file.parents}
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        if folder.is_absolute() and folder != Path(folder.anchor):
            text = text.replace(str(folder), "...")
    return text
