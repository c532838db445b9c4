"""What `summary.csv` holds: the measures of many cases in few numbers.

One row a group of cases and a column of `evaluation.csv`: `group`, `convention`, `column`, `mean`, `low` and `high`
(95 % bootstrap interval of the mean over cases), `median`, `n`. Only finite values count, and `n` says how many they
are: a missed lesion's infinite distance would make every mean infinite, and shows in Dice and sensitivity already.

Fairness comes as columns of the group `all`, its value as their `mean`, without interval and median: `fairness_age`,
`fairness_menopausal_status` and `fairness_breast_density`, `n` being the cases with such a group; `fairness`, the mean
over those variables, and `rank_score`, `n` being how many variables they rest on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from BreastTumorSegLib.metrics.bootstrap import bootstrap_interval
from BreastTumorSegLib.metrics.challenge import rank_score
from BreastTumorSegLib.metrics.fairness import VARIABLES, Groups, Row, fairness, fairness_of, members


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Every measure over all cases (group "all") and over each site; takes rows as `evaluate_folders` makes them."""
    sites = sorted({row["site"] for row in rows})
    groups = {"all": rows} | {site: [row for row in rows if row["site"] == site] for site in sites}
    return _by_group(groups)


def summarise_fairness(rows: Sequence[Row], groups: Groups) -> list[Row]:
    """Every measure over each group of patients, such as "age 41-50", and the fairness over them.

    Args:
        rows: As `evaluate_folders` makes them in the challenge's convention.
        groups: Those of every case.
    """
    found = {variable: members(rows, groups, variable) for variable in VARIABLES}
    by_variable = {variable: fairness_of(of_group) for variable, of_group in found.items()}
    mean, used = fairness(by_variable.values()), int(np.isfinite(list(by_variable.values())).sum())
    performance = float(np.mean([row["performance"] for row in rows]))
    cases = {variable: sum(map(len, of_group.values())) for variable, of_group in found.items()}
    return [
        *_by_group({f"{variable} {name}": cases for variable in VARIABLES for name, cases in found[variable].items()}),
        *(_all(f"fairness_{variable}", value, cases[variable]) for variable, value in by_variable.items()),
        _all("fairness", mean, used),
        _all("rank_score", rank_score(performance, mean), used),
    ]


def _by_group(groups: Mapping[str, Sequence[Row]]) -> list[Row]:
    return [
        _statistics(group, column, rows)
        for group, rows in groups.items()
        for column, value in (rows[0] if rows else {}).items()
        if not isinstance(value, str)
    ]


def _statistics(group: str, column: str, rows: Sequence[Row]) -> Row:
    values = np.array([row[column] for row in rows], float)
    values = values[np.isfinite(values)]
    mean, median = (values.mean(), np.median(values)) if len(values) else (np.nan, np.nan)
    low, high = bootstrap_interval(values)
    return _row(group, rows[0]["convention"], column, float(mean), low, high, float(median), len(values))


def _all(column: str, value: float, n: int) -> Row:
    return _row("all", "challenge", column, value, np.nan, np.nan, np.nan, n)


def _row(*values: Any) -> Row:
    return dict(zip(("group", "convention", "column", "mean", "low", "high", "median", "n"), values, strict=True))
