"""The tables of a reader study. Columns are stable; `docs/review-tables.md` explains them at more length.

A cell is empty where nothing is defined; an infinite distance is `inf`; yes and no are 1 and 0; shares and agreement
are 0 to 1. Text that a spreadsheet would take for a formula (it starts with = + - @, a tab or a line break) has an
apostrophe before it. All tables but the first two look at records that count, and at first presentations unless they
say otherwise.

`scores.csv`: `reader`, `item`, `case`, `model`, `site`, `stratum`, `position`, `repeat`, `score`, `exclusion`,
`comment`, `seconds`, `saved_at`, `counts` (0 where a later one of the same reader and position replaced it). One row
a saved score.

`corrections.csv`: `reader` to `repeat` as above, `voxels_added`, `voxels_removed`, `added_ml`, `removed_ml`,
`automatic_ml`, `corrected_ml`, `dice`, `hd95_mm`, `file`, `sha256`, `automatic_sha256`, `seconds`, `saved_at`,
`counts`. One row a saved correction.

`readers.csv`: `reader`, `model` (or "all"), `scored`, `excluded`, `good`, `acceptable`, `poor`, `missed`,
`good_share`, `acceptable_share`, `poor_share`, `missed_share` (of those scored), `seconds_median`, `seconds_mean`,
`seconds_total` (of those scored and excluded), `repeats` (hidden repeats beside them), `corrections`,
`correction_seconds_median`, `added_ml_median`, `removed_ml_median`.

`agreement.csv`: `kind` ("between" two readers, "within" one from hidden repeats, "all" readers), `reader_a`,
`reader_b`, `model` (or "all"), `n` (items that all of them scored, excluded ones left out), `statistic`, `value`,
`low`, `high` (95 % interval). Statistics: `cohen_kappa_4`, `cohen_kappa_4_quadratic`, `cohen_kappa_2` (Good against
the rest), `agreement_4`, `agreement_2`; of "all", with more than two readers, `fleiss_kappa_4`, `fleiss_kappa_2`.

`dice_between_readers.csv`: `item`, `case`, `model`, `reader_a`, `reader_b`, `dice`, `hd95_mm` of their corrected
masks.

`change_by_score.csv`: `reader`, `score` that this reader gave to the mask, `n` corrections of such masks, and for
each of `dice`, `hd95_mm` (automatic against corrected), `added_ml`, `removed_ml`: `..._n_finite`, `..._q1`,
`..._median`, `..._q3` of the finite ones.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from BreastTumorSegLib.review.agreement_table import agreement_rows
from BreastTumorSegLib.review.mask_table import mask_rows
from BreastTumorSegLib.review.record_tables import Row, change_rows, correction_rows, reader_rows, score_rows
from BreastTumorSegLib.review.records import Change, Study

_PLACE = ("reader", "item", "case", "model", "site", "stratum", "position", "repeat")
_SAVED = ("seconds", "saved_at", "counts")
_SCORES = ("good", "acceptable", "poor", "missed")
_CHANGES = ("dice", "hd95_mm", "added_ml", "removed_ml")
COLUMNS: dict[str, tuple[str, ...]] = {
    "scores": (*_PLACE, "score", "exclusion", "comment", *_SAVED),
    "corrections": (
        *_PLACE,
        *(field.name for field in fields(Change)),
        *("file", "sha256", "automatic_sha256"),
        *_SAVED,
    ),
    "readers": (
        *("reader", "model", "scored", "excluded", *_SCORES, *(f"{score}_share" for score in _SCORES)),
        *("seconds_median", "seconds_mean", "seconds_total", "repeats"),
        *("corrections", "correction_seconds_median", "added_ml_median", "removed_ml_median"),
    ),
    "agreement": ("kind", "reader_a", "reader_b", "model", "n", "statistic", "value", "low", "high"),
    "dice_between_readers": ("item", "case", "model", "reader_a", "reader_b", "dice", "hd95_mm"),
    "change_by_score": (
        *("reader", "score", "n"),
        *(f"{name}_{part}" for name in _CHANGES for part in ("n_finite", "q1", "median", "q3")),
    ),
}
"""Columns of each table, by its name."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Analysis:
    """The rows of each table, by column.

    Attributes:
        problems: Masks that could not be compared, and why, each a sentence.
    """

    scores: list[Row]
    corrections: list[Row]
    readers: list[Row]
    agreement: list[Row]
    dice_between_readers: list[Row]
    change_by_score: list[Row]
    problems: list[str]


def analyse(study: Study) -> Analysis:
    """Every table of a study. The masks of corrections are read from the study's folder where readers share an item."""
    masks, problems = mask_rows(study)
    return Analysis(
        scores=score_rows(study),
        corrections=correction_rows(study),
        readers=reader_rows(study),
        agreement=agreement_rows(study),
        dice_between_readers=masks,
        change_by_score=change_rows(study),
        problems=problems,
    )


def write_analysis(study: Study, folder: Path) -> Analysis:
    """Analyse a study and write each table as a CSV file in UTF-8 into an existing folder; returns the tables."""
    analysis = analyse(study)
    for name, columns in COLUMNS.items():
        write_table(folder / f"{name}.csv", columns, getattr(analysis, name))
    return analysis


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows as CSV in UTF-8; see above for what a cell holds where something is not defined."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return "" if isinstance(value, float) and math.isnan(value) else value
