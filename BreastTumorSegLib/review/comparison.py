"""Automatic masks, masks that readers drew from scratch and corrected ones, all against agreed masks, with their times.

Zhang et al. 2023 (doi:10.1016/j.patter.2023.100826), Table 4: two radiologists drew 100 tumours from scratch, and
refined a model's masks. Columns are stable; `docs/review-tables.md` explains them. A cell is empty where nothing is
defined; an infinite distance is `inf`.

`cases.csv`: `reader` ("" for automatic), `kind` ("automatic", "manual", "corrected"), `model` ("" for manual), `case`,
the columns of `metrics.evaluate` in the clinical convention, `minutes`. One row a mask.

`comparison.csv`: `reader`, `kind`, `model`, `measure` (one of `MEASURES`), `cases`, `n` (those with a finite value),
`mean`, `low`, `high` (95 % interval over cases), `median`, `median_low`, `median_high`. One row a group and measure.

`differences.csv`: `reader`, `model`, `first`, `second` (two kinds), then as above; of each case's value in the first
minus that in the second, over the cases that both groups have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.bootstrap import bootstrap_interval
from BreastTumorSegLib.metrics.diameter import size_agreement
from BreastTumorSegLib.metrics.evaluate import evaluate_case, reference_of
from BreastTumorSegLib.review.analysis import write_table
from BreastTumorSegLib.review.checked import Mask, read_automatic, read_correction, read_mask
from BreastTumorSegLib.review.counting import by_reader
from BreastTumorSegLib.review.record_tables import Row, finite, median
from BreastTumorSegLib.review.records import FROM_SCRATCH, Study
from BreastTumorSegLib.review.worklist import Entry, job_seconds

AUTOMATIC, MANUAL, CORRECTED = KINDS = ("automatic", "manual", "corrected")
MEASURES = ("dice", "recall", "hd95_mm", "assd_mm", "volume_ml_error", "size_category_right", "minutes")
PAIRS = ((CORRECTED, MANUAL), (CORRECTED, AUTOMATIC), (MANUAL, AUTOMATIC))
"""Kinds that are compared case by case, the first minus the second."""

_STATISTICS = ("measure", "cases", "n", "mean", "low", "high", "median", "median_low", "median_high")

Values = dict[str, Row]
"""A group's rows by case."""


@dataclass(frozen=True, order=True)
class Group:
    """Masks of one origin.

    Attributes:
        reader: "" for automatic masks.
        kind: `AUTOMATIC`, `MANUAL` or `CORRECTED`.
        model: "" for manual masks, and where unknown.
    """

    reader: str
    kind: str
    model: str


@dataclass(frozen=True)
class Comparison:
    """The rows of each table, by column.

    Attributes:
        problems: Masks that could not be compared, and why, each a sentence.
    """

    cases: list[Row]
    comparison: list[Row]
    differences: list[Row]
    problems: list[str]


@dataclass(frozen=True)
class _Contender:
    """A mask to compare: whose, its name for people, how to read it, and how long it took."""

    group: Group
    case: str
    name: str
    read: Callable[[], Mask]
    minutes: float


def compare_readers(
    study: Study, entries: Sequence[Entry], references: Path, events: Events | None = None
) -> Comparison:
    """Compare a study's masks with agreed ones. First presentations count, of several versions the last.

    Args:
        study: One store's, or several that were merged.
        entries: Of the worklists that have the automatic masks.
        references: The agreed masks, as `metrics.evaluate.evaluate_folders` takes them.
        events: Are told the progress, and can cancel.

    Raises:
        InputError: Not a single mask can be compared.
        Cancelled: It was cancelled.
    """
    events = events or Events()
    cases = _by_case([*_automatic(entries), *_drawn(study)])
    rows: list[Row] = []
    problems: list[str] = []
    for done, (case, contenders) in enumerate(cases.items()):
        events.progress("compare", done, len(cases))
        _compare_case(case, contenders, references, rows, problems)
    if not rows:
        first = problems[0] if problems else "There are no masks."
        raise InputError(f"No mask can be compared with {references}. {first}", "Check the references and the stores.")
    events.progress("compare", len(cases), len(cases))
    groups = _groups(rows)
    return Comparison(rows, _group_rows(groups), _difference_rows(groups), problems)


def write_comparison_tables(comparison: Comparison, folder: Path) -> None:
    """Write each table as a CSV file in UTF-8 into an existing folder."""
    write_table(folder / "cases.csv", list(comparison.cases[0]), comparison.cases)
    write_table(folder / "comparison.csv", ("reader", "kind", "model", *_STATISTICS), comparison.comparison)
    write_table(
        folder / "differences.csv", ("reader", "model", "first", "second", *_STATISTICS), comparison.differences
    )


def _automatic(entries: Sequence[Entry]) -> Iterator[_Contender]:
    for entry in entries:
        if entry.item.model != FROM_SCRATCH:
            name = f"The automatic mask of {entry.item.model or 'an unknown model'}"
            group = Group("", AUTOMATIC, entry.item.model)
            yield _Contender(group, entry.item.case, name, partial(read_automatic, entry), job_seconds(entry.mask) / 60)


def _drawn(study: Study) -> Iterator[_Contender]:
    """What readers drew from scratch or corrected."""
    for reader, records in by_reader(study.corrections).items():
        for record in records.values():
            item = study.items[record.item]
            manual = item.model == FROM_SCRATCH
            group = Group(reader, MANUAL if manual else CORRECTED, "" if manual else item.model)
            name = f"Mask {record.file} of {reader}"
            yield _Contender(group, item.case, name, partial(read_correction, study, record), record.seconds / 60)


def _by_case(contenders: Iterable[_Contender]) -> dict[str, list[_Contender]]:
    """In order of the cases. Of a group's several masks of a case, as after one was made anew, the first counts."""
    first: dict[tuple[str, Group], _Contender] = {}
    for contender in contenders:
        first.setdefault((contender.case, contender.group), contender)
    found: dict[str, list[_Contender]] = {}
    for case, group in sorted(first):
        found.setdefault(case, []).append(first[case, group])
    return found


def _compare_case(
    case: str, contenders: Sequence[_Contender], references: Path, rows: list[Row], problems: list[str]
) -> None:
    """Add the rows of a case, or what is wrong."""
    try:
        actual, grid = read_mask(reference_of(references, case))
    except InputError as error:
        problems.append(f"The reference of case {case} {error.message}.")
        return
    for contender in contenders:
        try:
            predicted, other = contender.read()
            if difference := other.difference(grid):
                raise InputError(f"differs from the reference in geometry: {difference}")
        except InputError as error:
            # Not the error itself: it names folders, which may name a patient.
            problems.append(f"{contender.name}, case {case}, {error.message}.")
            continue
        row: Row = vars(contender.group) | {"case": case} | evaluate_case(predicted, actual, grid)
        rows.append(row | size_agreement(predicted, actual, grid) | {"minutes": contender.minutes})


def _groups(rows: Sequence[Row]) -> dict[Group, Values]:
    """Rows by group and case; automatic masks first, then reader by reader."""
    groups: dict[Group, Values] = {}
    for row in rows:
        groups.setdefault(Group(row["reader"], row["kind"], row["model"]), {})[row["case"]] = row
    return {group: groups[group] for group in sorted(groups, key=lambda g: (g.reader, KINDS.index(g.kind), g.model))}


def _group_rows(groups: dict[Group, Values]) -> list[Row]:
    return [
        vars(group) | {"measure": measure} | _statistics([row[measure] for row in values.values()])
        for group, values in groups.items()
        for measure in MEASURES
    ]


def _difference_rows(groups: dict[Group, Values]) -> list[Row]:
    rows = []
    for a, b in product(groups, groups):
        shared = groups[a].keys() & groups[b].keys()
        if shared and _comparable(a, b):
            names = {"reader": a.reader, "model": a.model or b.model, "first": a.kind, "second": b.kind}
            for measure in MEASURES:
                pairs = [groups[a][case][measure] - groups[b][case][measure] for case in sorted(shared)]
                rows.append(names | {"measure": measure} | _statistics(pairs))
    return rows


def _comparable(a: Group, b: Group) -> bool:
    """Whether two groups are of one reader and one model; automatic masks have no reader, manual ones no model."""
    return (
        (a.kind, b.kind) in PAIRS
        and (a.reader == b.reader or b.kind == AUTOMATIC)
        and (a.model == b.model or MANUAL in (a.kind, b.kind))
    )


def _statistics(values: Sequence[float]) -> Row:
    known = finite(values)
    low, high = bootstrap_interval(known)
    median_low, median_high = bootstrap_interval(known, np.median)
    return {
        **{"cases": len(values), "n": len(known), "mean": float(known.mean()) if len(known) else np.nan},
        **{"low": low, "high": high},
        **{"median": median(list(known)), "median_low": median_low, "median_high": median_high},
    }
