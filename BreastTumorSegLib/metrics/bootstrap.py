"""Bootstrap intervals over cases (Efron 1979, doi:10.1214/aos/1176344552)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic over cases; NaN with fewer than two finite values.

    Args:
        values: One a case. Those that are not finite are left out before resampling, as undefined or missed.
        statistic: Called with resamples (N, cases) and `axis=1`, such as `np.mean` or `np.median`.
        seed: The same seed gives the same interval.
        resamples: How many resamples.
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(len(known), size=(resamples, len(known)))
    return percentile_interval(statistic(known[drawn], axis=1))


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """What holds the middle 95 % of a statistic's values over resamples, (N,).

    Resamples in which the statistic is undefined are left out; NaN where that is more than half of them.
    """
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < len(resampled) / 2:
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
