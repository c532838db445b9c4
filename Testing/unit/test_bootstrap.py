import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from BreastTumorSegLib.metrics.bootstrap import bootstrap_interval

NAN = math.nan
DICE = np.random.default_rng(3).beta(6, 2, 60)


def test_equal_values_have_an_interval_of_no_width():
    assert bootstrap_interval([0.7, 0.7, 0.7]) == pytest.approx((0.7, 0.7))


def test_two_cases():
    """A resample is both, or one of them twice, a quarter each: the ends are the cases themselves."""
    assert bootstrap_interval([0.2, 0.6]) == pytest.approx((0.2, 0.6))


def test_interval_of_many_cases_is_the_normal_one():
    low, high = bootstrap_interval(DICE)
    half = norm.ppf(0.975) * DICE.std() / math.sqrt(60)
    assert (low, high) == pytest.approx((DICE.mean() - half, DICE.mean() + half), abs=0.004)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_against_scipy(statistic):
    expected = bootstrap((DICE,), statistic, n_resamples=9000, method="percentile", rng=1).confidence_interval
    assert bootstrap_interval(DICE, statistic) == pytest.approx(tuple(expected), abs=0.005)


def test_undefined_values_are_left_out():
    assert bootstrap_interval([0.7, NAN, 0.7, math.inf]) == pytest.approx((0.7, 0.7))


@pytest.mark.parametrize("values", [[], [0.7], [0.7, NAN]])
def test_no_interval_of_fewer_than_two(values):
    assert bootstrap_interval(values) == pytest.approx((NAN, NAN), nan_ok=True)


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap_interval(DICE, seed=4) == bootstrap_interval(DICE, seed=4)
    assert bootstrap_interval(DICE, seed=4) != bootstrap_interval(DICE, seed=5)
