"""The comparison of readers: tables as CSV files, and a single HTML file that needs nothing else.

The page names readers, models and, where a mask can't be compared, its case; it has no dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io import results_folder
from BreastTumorSegLib.report import review_figures as figures
from BreastTumorSegLib.report.page import page_environment
from BreastTumorSegLib.review.comparison import (
    AUTOMATIC,
    CORRECTED,
    MANUAL,
    Comparison,
    compare_readers,
    write_comparison_tables,
)
from BreastTumorSegLib.review.record_tables import Row
from BreastTumorSegLib.review.records import Study
from BreastTumorSegLib.review.worklist import Entry

WORDS = {AUTOMATIC: "automatic", MANUAL: "from scratch", CORRECTED: "corrected"}
CLAIMS = {"dice": ("better", "worse"), "minutes": ("slower", "faster")}
"""What a difference over zero means, and one below."""


def write_comparison(
    study: Study, entries: Sequence[Entry], references: Path, out: Path, events: Events | None = None
) -> list[str]:
    """Compare as `review.comparison` does, and write its tables and `comparison.html` into `out`.

    Args:
        study: One store's, or several that were merged.
        entries: Of the worklists that have the automatic masks.
        references: The agreed masks, as `metrics.evaluate.evaluate_folders` takes them.
        out: Folder; made here, whole or not at all.
        events: Are told the progress, and can cancel.

    Returns:
        Masks that could not be compared, and why, each a sentence.

    Raises:
        InputError: Not a single mask can be compared.
        OutputError: `out` already holds something, or can't be written.
        Cancelled: It was cancelled.
    """
    with results_folder(out, overwrite=False) as folder:
        comparison = compare_readers(study, entries, references, events)
        write_comparison_tables(comparison, folder)
        (folder / "comparison.html").write_text(comparison_page(comparison), encoding="utf-8")
    return comparison.problems


def comparison_page(comparison: Comparison) -> str:
    """The page as HTML."""
    groups = _wide(comparison.comparison, ("reader", "kind", "model"))
    differences = _wide(comparison.differences, ("reader", "model", "first", "second"))
    timed = [row for row in groups if row["minutes"]["n"]]
    facts = {
        "cases": len({row["case"] for row in comparison.cases}),
        "readers": sorted({row["reader"] for row in groups} - {""}),
        "models": sorted({row["model"] for row in groups if row["kind"] != MANUAL}),
        "groups": groups,
        "untimed": [row["label"] for row in groups if row not in timed],
        "differences": [row | {"claims": _claims(row)} for row in differences],
        "problems": comparison.problems,
        "figure": figures.dice_and_minutes(timed) if timed else "",
    }
    return page_environment().get_template("comparison.html.j2").render(facts)


def _wide(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """One row for each of what the names tell, with the long table's rows by measure."""
    found = []
    for key, group in groupby(rows, key=lambda row: tuple(row[name] for name in names)):
        named = dict(zip(names, key, strict=True))
        found.append(named | {"label": _label(named)} | {row["measure"]: row for row in group})
    return found


def _label(row: Row) -> str:
    """What a group, or a pair of groups, is called."""
    model = row["model"] or "unknown model"
    if "first" in row:
        return f"{row['reader']}, {model}: {WORDS[row['first']]} minus {WORDS[row['second']]}"
    origin = [row["reader"], "" if row["kind"] == MANUAL else model, WORDS[row["kind"]]]
    return ", ".join(part for part in origin if part)


def _claims(row: Row) -> str:
    """What the intervals of the mean differences allow to say of Dice and time; of what was not measured, nothing."""
    found = []
    for measure, (above, below) in CLAIMS.items():
        difference = row[measure]
        if difference["n"]:
            unclear = f"not shown to be {above} or {below}"
            found.append(above if difference["low"] > 0 else below if difference["high"] < 0 else unclear)
    return ", ".join(found)
