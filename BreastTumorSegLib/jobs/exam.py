"""One exam, from its files to its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.result import NonContrastResult
from BreastTumorSegLib.io import load_exam, write_noncontrast_result, write_result


def segment_into(
    folder: Path,
    sources: Sequence[Path],
    model: str | None,
    device: str,
    events: Events,
    times: Sequence[float] | None = None,
    interval: float = 120.0,
) -> dict[str, Any]:
    """Segment an exam and write masks, maps, tables and report into `folder`, which is there and empty.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: The exam can't be used.
        ModelError: A model is missing or damaged.
        OutputError: A file can't be written.
        OutOfMemoryError: Memory ran out after every fallback.
        Cancelled: On request.
    """
    exam = load_exam(sources, times, interval, events)
    events.progress("models", 0, 1)  # importing PyTorch takes seconds
    from BreastTumorSegLib.report.html import write_report
    from BreastTumorSegLib.report.noncontrast import write_noncontrast_report
    from BreastTumorSegLib.segmentation.pipeline import segment_exam

    result = segment_exam(exam, model, device, events)
    if isinstance(result, NonContrastResult):
        write_noncontrast_result(result, folder, events)
        write_noncontrast_report(result, folder / "report.html", events)
    else:
        write_result(result, folder, events)
        write_report(result, folder / "report.html", events)
    return result.manifest
