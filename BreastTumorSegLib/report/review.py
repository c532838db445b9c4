"""The report of a reader study: tables as CSV files, and a single HTML file that needs nothing else.

The page names readers, models and, where a mask can't be compared, its case. Dates and readers' comments are left to
the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from BreastTumorSegLib.core import colors
from BreastTumorSegLib.io import results_folder
from BreastTumorSegLib.report import review_figures as figures
from BreastTumorSegLib.report.page import page_environment
from BreastTumorSegLib.review.agreement_table import confusion_tables
from BreastTumorSegLib.review.analysis import Analysis, write_analysis
from BreastTumorSegLib.review.counting import ALL, by_reader, models
from BreastTumorSegLib.review.record_tables import Row, changes_by_score, finite, median
from BreastTumorSegLib.review.records import GUIDELINES, Change, Score, Study

MOST_PAIRS = 12
"""Pairs of readers are shown up to so many, those who share most items; the tables have all."""


def write_review(study: Study, out: Path) -> list[str]:
    """Analyse a study and write the tables of `review.analysis` and `report.html` into `out`.

    Args:
        study: One store's, or several that were merged.
        out: Folder; made here, whole or not at all.

    Returns:
        Masks that could not be compared, and why, each a sentence.

    Raises:
        OutputError: `out` already holds something, or can't be written.
    """
    with results_folder(out, overwrite=False) as folder:
        analysis = write_analysis(study, folder)
        (folder / "report.html").write_text(review_page(study, analysis), encoding="utf-8")
    return analysis.problems


def review_page(study: Study, analysis: Analysis) -> str:
    """The page as HTML."""
    environment = page_environment()
    environment.filters |= {"model": _model}
    facts = _size(study, analysis) | _agreement(study, analysis) | _changes(study, analysis)
    template = environment.get_template("review.html.j2")
    return template.render(facts | {"problems": analysis.problems, "guidelines": GUIDELINES, "all": ALL})


def _size(study: Study, analysis: Analysis) -> Row:
    """How much was read by whom, and how long it took."""
    scores = by_reader(study.scores)
    items = {record.item for record in study.scores} | {record.item for record in study.corrections}
    shown = models(study) if len(models(study)) > 2 else [ALL]
    timed = {reader: [record.seconds for record in records.values()] for reader, records in scores.items() if records}
    return {
        "masks": len(items),
        "cases": len({study.items[item].case for item in items}),
        "models": models(study)[1:],
        "readers": [row for row in analysis.readers if row["model"] in shown],
        "total": [row for row in analysis.readers if row["model"] == ALL],
        "scores": list(zip([score.value for score in Score], colors.SCORES, strict=True)),
        "seconds": figures.seconds(timed) if timed else "",
    }


def _agreement(study: Study, analysis: Analysis) -> Row:
    """Kappas, confusion tables, and the corrected masks of two readers."""
    tables = confusion_tables(study)
    pairs = sorted(tables, key=lambda pair: -int(tables[pair].sum()))[:MOST_PAIRS]
    several = len(models(study)) > 2
    rows = [
        row
        for row in _comparisons(analysis.agreement)
        if (row["model"] == ALL or several)
        and (row["kind"] != "between" or (row["reader_a"], row["reader_b"]) in pairs)
    ]
    drawn = [
        (_label(row["kind"], *map(figures.axis_name, (row["reader_a"], row["reader_b"]))), row["statistics"])
        for row in rows
        if row["model"] == ALL
    ]
    return {
        "confusion": [(*pair, tables[pair].tolist(), int(tables[pair].max())) for pair in pairs],
        "pairs": len(tables),
        "most_pairs": MOST_PAIRS,
        "kinds": {kind: [row for row in rows if row["kind"] == kind] for kind in ("between", ALL, "within")},
        "kappas": figures.kappas(drawn) if drawn else "",
        "between_masks": _between_masks(analysis.dice_between_readers),
    }


def _comparisons(rows: Sequence[Row]) -> list[Row]:
    """One row for each comparison and model, with the rows of `agreement.csv` by statistic; between, all, within."""
    found = []
    for (kind, a, b, model), group in groupby(
        rows, key=lambda row: (row["kind"], row["reader_a"], row["reader_b"], row["model"])
    ):
        statistics = {row["statistic"]: row for row in group}
        n = next(iter(statistics.values()))["n"]
        names = {"kind": kind, "reader_a": a, "reader_b": b, "model": model}
        found.append(names | {"label": _label(kind, a, b), "n": n, "statistics": statistics})
    order = ["between", ALL, "within"]
    return sorted(found, key=lambda row: (order.index(row["kind"]), row["reader_a"], row["reader_b"]))


def _label(kind: str, a: str, b: str) -> str:
    return {"between": f"{a} and {b}", "within": f"{a}, again", ALL: "All readers (Fleiss)"}[kind]


def _between_masks(rows: Sequence[Row]) -> list[Row]:
    """Each pair of readers, those with the most masks in common first."""

    def pair(row: Row) -> tuple[str, str]:
        return row["reader_a"], row["reader_b"]

    found = []
    for (a, b), group in groupby(sorted(rows, key=pair), key=pair):
        members = list(group)
        dice, distance = ([row[name] for row in members] for name in ("dice", "hd95_mm"))
        found.append({"label": f"{a} and {b}", "n": len(members), "dice": median(dice), "hd95_mm": median(distance)})
    return sorted(found, key=lambda row: -row["n"])


def _changes(study: Study, analysis: Analysis) -> Row:
    """What corrections changed, by score and by reader."""
    by_score = changes_by_score(study)
    pooled: dict[Score, list[Change]] = {
        score: [change for groups in by_score.values() for change in groups[score]] for score in Score
    }
    corrected = {
        reader: [record.change for record in records.values()]
        for reader, records in by_reader(study.corrections).items()
        if records
    }
    distances = [change.hd95_mm for changes in pooled.values() for change in changes]
    return {
        "change_rows": [row for row in analysis.change_by_score if row["n"]],
        "by_score": figures.dice_and_distance(pooled) if distances else "",
        "without_distance": len(distances) - len(finite(distances)),
        "volumes": figures.volumes(corrected) if corrected else "",
    }


def _model(name: str) -> str:
    """A model's name for people."""
    return name or "unknown"
