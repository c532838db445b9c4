"""Agreement of readers beyond chance, with intervals over cases.

Every statistic here is a function of sums over cases (of confusion tables, or of counts). That makes the bootstrap
cheap: a resample is a weighting of the cases, and cases with the same ratings are interchangeable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from BreastTumorSegLib.metrics.bootstrap import RESAMPLES, percentile_interval

Statistic = Callable[[np.ndarray], np.ndarray]
"""From sums over cases, with any leading axes, to a value for each."""


class Estimate(NamedTuple):
    """A statistic with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


def cohen_kappa(table: np.ndarray, quadratic: bool = False) -> np.ndarray:
    """Cohen's kappa: 1 - observed disagreement / disagreement expected from the two readers' own shares.

    Unweighted, where every disagreement weighs the same (Cohen 1960, doi:10.1177/001316446002000104), or with weights
    (i - j)^2 for categories i and j (Cohen 1968, doi:10.1037/h0026256).

    NaN where nothing is expected to disagree: there are no cases, or both readers use one and the same category alone.

    Args:
        table: Counts, (..., K, K); rows are one reader's categories, columns the other's, in the same order.
        quadratic: Whether far disagreements weigh more.

    Returns:
        One value a table, of shape (...).
    """
    table = np.asarray(table, float)
    step = np.subtract.outer(np.arange(table.shape[-1]), np.arange(table.shape[-1]))
    weights = (step**2 if quadratic else step != 0).astype(float)
    observed = (weights * table).sum((-2, -1)) * table.sum((-2, -1))
    expected = np.einsum("...i,ij,...j->...", table.sum(-1), weights, table.sum(-2))
    return 1 - _ratio(observed, expected)


def observed_agreement(table: np.ndarray) -> np.ndarray:
    """Share of the cases with the same category, 0 to 1; NaN without cases. Takes tables as `cohen_kappa` does."""
    table = np.asarray(table, float)
    return _ratio(np.trace(table, axis1=-2, axis2=-1), table.sum((-2, -1)))


def fleiss_kappa(counts: np.ndarray) -> float:
    """Fleiss' kappa of N subjects that the same number of raters put into K categories (doi:10.1037/h0031619).

    NaN where there are no subjects, fewer than two raters, or all ratings are one and the same category.

    Args:
        counts: How many raters chose each category, (N, K).

    Raises:
        ValueError: The subjects differ in their number of ratings.
    """
    return float(fleiss_kappa_of_sums(fleiss_parts(counts).sum(0)))


def fleiss_parts(counts: np.ndarray) -> np.ndarray:
    """What each subject adds to the sums that Fleiss' kappa needs, (N, K + 2): counts, sum of their squares, 1.

    Raises:
        ValueError: The subjects differ in their number of ratings.
    """
    counts = np.asarray(counts, float)
    raters = np.unique(counts.sum(1))
    if len(raters) > 1:
        raise ValueError(f"Fleiss' kappa needs the same number of ratings of every subject, got {raters.tolist()}.")
    return np.column_stack([counts, (counts**2).sum(1), np.ones(len(counts))])


def fleiss_kappa_of_sums(sums: np.ndarray) -> np.ndarray:
    """Fleiss' kappa from the sums of `fleiss_parts`, (..., K + 2), one value each; undefined as `fleiss_kappa` is."""
    counts, squares, subjects = sums[..., :-2], sums[..., -2], sums[..., -1]
    ratings = counts.sum(-1)
    raters = _ratio(ratings, subjects)
    agreement = _ratio(squares - ratings, ratings * (raters - 1))
    chance = (_ratio(counts, ratings[..., None]) ** 2).sum(-1)
    return _ratio(agreement - chance, 1 - chance)


def estimate(parts: np.ndarray, cases: Sequence[str], statistic: Statistic, seed: int = 0) -> Estimate:
    """A statistic, and its 95 % percentile interval from 2000 bootstrap resamples of the cases (Efron 1979).

    Cases are resampled whole: several masks of one case, of several models, are not independent. Resamples in which the
    statistic is undefined are left out. The interval is NaN where the value is, with fewer than two cases, and where
    more than half of the resamples are left out. Full agreement has an interval of no width, however few the cases.

    Args:
        parts: What each rating adds to the sums that the statistic takes, (N, ...).
        cases: The case of each rating, N names.
        statistic: From sums (..., with the axes of one part) to values (...).
        seed: The same seed gives the same interval.
    """
    value = float(statistic(parts.sum(0)))
    names, place = np.unique(np.asarray(cases, str), return_inverse=True)
    if np.isnan(value) or len(names) < 2:
        return Estimate(value, np.nan, np.nan)
    totals = np.zeros((len(names), *parts.shape[1:]))
    np.add.at(totals, place, parts)
    return Estimate(value, *percentile_interval(statistic(_resampled_sums(totals, seed))))


def _resampled_sums(totals: np.ndarray, seed: int) -> np.ndarray:
    """Sums over each resample of the cases, (RESAMPLES, ...), from each case's own (N, ...)."""
    kinds, number = np.unique(totals.reshape(len(totals), -1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(totals), number / len(totals), RESAMPLES)
    return (draws @ kinds).reshape(RESAMPLES, *totals.shape[1:])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Their quotient; NaN where the whole is not over 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, np.divide(part, whole), np.nan)
