"""Fairness over groups of patients, as the MAMA-MIA challenge (MICCAI 2025) defines it.

For each of age, menopausal status and breast density: 1 - 1/2 (range of the groups' mean Dice + range of their mean
NormHD), a range being the largest mean minus the smallest. 1 is the same for all groups. The score is the mean over the
three, and methods are ranked by 1/2 performance + 1/2 fairness.

The challenge's released script (`scoring_task1.py`, 2025) can't compute this: it assigns measures by the case's name to
a table that is indexed by row numbers, which adds rows without age, status and density and leaves the patients' own
without measures, so that every group's mean is NaN. Here is the formula, with these rules where it says nothing:

- A case without an age or a density belongs to no group of that variable, and doesn't count for it. A case without a
  menopausal status belongs to the group "unknown", as in the script.
- A group without cases doesn't count. With fewer than two groups there is nothing to compare: NaN, not a perfect 1.
- The score is the mean over those variables that are not NaN; NaN if all are.
"""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from BreastTumorSegLib.core.errors import InputError

Row = dict[str, Any]
"""Measures of one case, by column."""

VARIABLES = ("age", "menopausal_status", "breast_density")

Groups = Mapping[str, Mapping[str, str]]
"""The group of each case in each variable; a variable in which a case has none is left out."""

_AGES = (40, 50, 60, 70)
_AGE_GROUPS = ("0-40", "41-50", "51-60", "61-70", "71+")
_MISSING = {"", "na", "nan", "none"}


def members(rows: Sequence[Row], groups: Groups, variable: str) -> dict[str, list[Row]]:
    """The rows of each group that has any, in the order of the groups' names; rows have a `case`."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        group = groups[row["case"]].get(variable)
        if group is not None:
            found.setdefault(group, []).append(row)
    return dict(sorted(found.items()))


def fairness_of(rows_by_group: Mapping[str, Sequence[Row]]) -> float:
    """Fairness of one variable from the `dice` and `norm_hd` of each group's cases; NaN with fewer than two groups."""
    if len(rows_by_group) < 2:
        return float("nan")
    means = [[np.mean([row[name] for row in rows]) for name in ("dice", "norm_hd")] for rows in rows_by_group.values()]
    return float(1 - np.ptp(means, axis=0).sum() / 2)


def fairness(by_variable: Iterable[float]) -> float:
    """The challenge's score: the mean over the variables whose fairness is not NaN."""
    known = [value for value in by_variable if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def read_groups(path: Path) -> dict[str, dict[str, str]]:
    """Read the groups of cases.

    Args:
        path: CSV with the columns `case` and any of `age` (years), `menopausal_status` (peri counts as pre) and
            `breast_density`, as in MAMA-MIA's clinical table. A field may be empty.

    Raises:
        InputError: It can't be read, lacks columns, or an age is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read: {error}.", "Give a CSV of the cases' groups.") from error
    columns = set(rows[0]) if rows else set()
    if "case" not in columns or not columns & set(VARIABLES):
        raise InputError(f"{path} has no groups of cases.", f"It needs the columns case, {', '.join(VARIABLES)}.")
    return {row["case"]: dict(_groups(row, path)) for row in rows}


def _groups(row: Mapping[str, str | None], path: Path) -> Iterator[tuple[str, str]]:
    for variable in VARIABLES:
        if variable not in row:
            continue
        value = (row[variable] or "").strip().lower()
        if variable == "menopausal_status":
            yield variable, _menopausal_group(value)
        elif value not in _MISSING:
            yield variable, _age_group(value, row, path) if variable == "age" else value


def _age_group(value: str, row: Mapping[str, str | None], path: Path) -> str:
    try:
        return _AGE_GROUPS[bisect_left(_AGES, float(value))]
    except ValueError as error:
        raise InputError(f"{path}: {row['case']} has the age {value}.", "Give years, or leave it empty.") from error


def _menopausal_group(value: str) -> str:
    if value in _MISSING:
        return "unknown"
    if "peri" in value:
        return "pre"
    return next((group for group in ("post", "pre") if group in value), value)
