"""The report of an exam that was segmented without contrast: a single HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from BreastTumorSegLib.core import colors
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.result import NONCONTRAST_NOTICE, NonContrastResult
from BreastTumorSegLib.report.figures import NonContrastFigures
from BreastTumorSegLib.report.html import exam_page, lesion_slices, write_page


def write_noncontrast_report(result: NonContrastResult, path: Path, events: Events | None = None) -> None:
    """Write the report of an exam without contrast; arguments and errors as of `write_report`."""
    facts = _figures(result, events or Events()) | _facts(result)
    write_page(exam_page("noncontrast.html.j2", result, result.lesions, facts), path)


def _figures(result: NonContrastResult, events: Events) -> dict[str, Any]:
    """Every figure, by the name that the template has for it."""
    draw = NonContrastFigures(result)
    slices = lesion_slices(draw, result.lesions, events)
    maps = [draw.maps(lesion.label) for lesion, _ in slices] or [draw.maps(1)]
    drawn = {"slices": slices, "maps": maps, "breasts": draw.breasts()}
    events.progress("report", len(slices) + 1, len(slices) + 1)
    return drawn


def _facts(result: NonContrastResult) -> dict[str, Any]:
    """Every number and text beyond those that all reports of exams have."""
    return {
        "notice": NONCONTRAST_NOTICE,
        "used_as": {0: "pre-contrast, alone"},
        "clusters": [(colors.cluster_color(label), label) for label in range(1, result.clusters + 1)],
        "not_enhancing": colors.CURVE_TYPES[0],
        "unsure": colors.UNCERTAINTY,
    }
