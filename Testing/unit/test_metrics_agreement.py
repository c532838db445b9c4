import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from BreastTumorSegLib.metrics.agreement import (
    cohen_kappa,
    estimate,
    fleiss_kappa,
    fleiss_kappa_of_sums,
    fleiss_parts,
    observed_agreement,
)

TABLES = st.integers(2, 5).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.integers(0, 12)))

# Fleiss' method on ten subjects, fourteen raters and five categories, as worked out in textbooks: 0.210.
TEN_SUBJECTS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
# Table 1 of Fleiss 1971: thirty patients, six psychiatrists, five diagnoses.
DIAGNOSES = [
    [0, 0, 0, 6, 0],
    [0, 3, 0, 0, 3],
    [0, 1, 4, 0, 1],
    [0, 0, 0, 0, 6],
    [0, 3, 0, 3, 0],
    [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2],
    [2, 0, 3, 1, 0],
    [2, 0, 0, 4, 0],
    [0, 0, 0, 0, 6],
    [1, 0, 0, 5, 0],
    [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0],
    [1, 0, 0, 5, 0],
    [0, 2, 0, 3, 1],
    [0, 0, 5, 0, 1],
    [3, 0, 0, 1, 2],
    [5, 1, 0, 0, 0],
    [0, 2, 0, 4, 0],
    [1, 0, 2, 0, 3],
    [0, 0, 0, 0, 6],
    [0, 1, 0, 5, 0],
    [0, 2, 0, 1, 3],
    [2, 0, 0, 4, 0],
    [1, 0, 0, 4, 1],
    [0, 5, 0, 1, 0],
    [4, 0, 0, 0, 2],
    [0, 2, 0, 4, 0],
    [1, 0, 5, 0, 0],
    [0, 0, 0, 0, 6],
]


def ratings(table):
    """Two readers' ratings whose confusion table this is."""
    rows, columns = np.indices(np.shape(table))
    return np.repeat(rows, np.ravel(table)), np.repeat(columns, np.ravel(table))


def one_hot(rows, columns, k):
    parts = np.zeros((len(rows), k, k))
    parts[np.arange(len(rows)), rows, columns] = 1
    return parts


@pytest.mark.parametrize(
    ("table", "plain", "quadratic", "same"),
    [
        ([[20, 5], [10, 15]], 0.4, 0.4, 0.7),  # observed .7, expected .5
        ([[3, 0], [0, 7]], 1.0, 1.0, 1.0),
        ([[0, 5], [5, 0]], -1.0, -1.0, 0.0),
        ([[1, 1], [1, 1]], 0.0, 0.0, 0.5),
        # Observed disagreement 2/4, expected 11/16; squared steps 2/4 observed and 26/16 expected.
        ([[1, 1, 0], [0, 0, 1], [0, 0, 1]], 3 / 11, 9 / 13, 0.5),
        # Shares .44 .07 .09, .05 .20 .05, .01 .03 .06: observed .70, expected .41; squared steps .60 and 1.10.
        ([[88, 14, 18], [10, 40, 10], [2, 6, 12]], 0.29 / 0.59, 5 / 11, 0.70),
        ([[4, 0], [3, 0]], 0.0, 0.0, 4 / 7),  # one reader uses a single category: no better than chance
    ],
)
def test_kappa_of_small_tables(table, plain, quadratic, same):
    assert cohen_kappa(table) == pytest.approx(plain)
    assert cohen_kappa(table, quadratic=True) == pytest.approx(quadratic)
    assert observed_agreement(table) == pytest.approx(same)


@pytest.mark.parametrize("table", [np.zeros((4, 4)), np.diag([5, 0, 0, 0]), [[0, 0], [0, 1]]])
def test_kappa_is_undefined_without_cases_and_with_a_single_category(table):
    assert np.isnan(cohen_kappa(table)) and np.isnan(cohen_kappa(table, quadratic=True))


def test_agreement_is_undefined_without_cases():
    assert np.isnan(observed_agreement(np.zeros((4, 4))))


@settings(deadline=None)
@given(TABLES)
def test_kappa_is_scikit_learns_and_statsmodels(table):
    a, b = ratings(table)
    assume(len(set(a) | set(b)) > 1)
    labels = range(len(table))
    assert cohen_kappa(table) == pytest.approx(cohen_kappa_score(a, b, labels=labels))
    assert cohen_kappa(table, True) == pytest.approx(cohen_kappa_score(a, b, labels=labels, weights="quadratic"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its standard errors divide by 0 in small tables
        assert cohen_kappa(table) == pytest.approx(inter_rater.cohens_kappa(table, return_results=False))
        weighted = inter_rater.cohens_kappa(table, wt="fc", return_results=False)
    assert cohen_kappa(table, True) == pytest.approx(weighted)


def test_several_tables_at_once():
    tables = np.array([[[20, 5], [10, 15]], [[3, 0], [0, 7]], [[0, 0], [0, 0]]])
    assert cohen_kappa(tables) == pytest.approx([0.4, 1.0, math.nan], nan_ok=True)


def test_fleiss_on_published_tables():
    assert fleiss_kappa(TEN_SUBJECTS) == pytest.approx(0.210, abs=0.0005)
    assert fleiss_kappa(DIAGNOSES) == pytest.approx(0.430, abs=0.0005)


def test_fleiss_by_hand():
    # Agreement per subject 1, 1/3, 1/3, mean 5/9; shares 5/9 and 4/9, chance 41/81.
    assert fleiss_kappa([[3, 0], [1, 2], [1, 2]]) == pytest.approx((45 / 81 - 41 / 81) / (40 / 81))


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 20), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_fleiss_is_statsmodels(raters, subjects, categories, seed):
    counts = np.random.default_rng(seed).multinomial(raters, np.ones(categories) / categories, subjects)
    assume(np.count_nonzero(counts.sum(0)) > 1)
    assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts))


@pytest.mark.parametrize("counts", [np.zeros((0, 4)), [[1, 0], [0, 1]], [[3, 0], [3, 0]]])
def test_fleiss_is_undefined(counts):
    assert math.isnan(fleiss_kappa(counts))


def test_fleiss_refuses_incomplete_ratings():
    with pytest.raises(ValueError, match=r"\[2\.0, 3\.0\]"):
        fleiss_kappa([[3, 0], [1, 1]])


def test_interval_holds_the_truth_as_often_as_it_says():
    """True kappa by design: in half of the cases the second reader copies, otherwise guesses out of four."""
    rng, shared, held = np.random.default_rng(3), 0.5, 0
    trials, n = 300, 120
    for trial in range(trials):
        a, guess = rng.integers(0, 4, (2, n))
        b = np.where(rng.random(n) < shared, a, guess)  # marginals uniform, so kappa is `shared`
        found = estimate(one_hot(a, b, 4), [str(case) for case in range(n)], cohen_kappa, seed=trial)
        held += found.low <= shared <= found.high
    assert 0.91 <= held / trials <= 0.98


def test_interval_is_that_of_a_plain_bootstrap():
    """A share has the binomial's spread: .5 +- 1.96 sqrt(.25 / 400)."""
    a = np.arange(400) % 2
    found = estimate(one_hot(a, np.zeros(400, int), 2), [str(case) for case in range(400)], observed_agreement)
    assert found == pytest.approx((0.5, 0.451, 0.549), abs=0.006)


def test_cases_are_resampled_whole():
    """The same ratings four times over are no more evidence when they are of the same cases."""
    a = np.arange(400) % 2
    parts = one_hot(a, np.zeros(400, int), 2)
    found = estimate(parts, [str(case // 4) for case in range(400)], observed_agreement)
    assert found.low == found.high == 0.5  # each case has two right, two wrong
    blocks = one_hot(np.repeat(np.arange(100) % 2, 4), np.zeros(400, int), 2)
    wide = estimate(blocks, [str(case // 4) for case in range(400)], observed_agreement)
    assert wide == pytest.approx((0.5, 0.402, 0.598), abs=0.012)  # as 100 cases, not 400


def test_interval_of_fleiss():
    counts = np.array(DIAGNOSES)
    found = estimate(fleiss_parts(counts), [str(case) for case in range(30)], fleiss_kappa_of_sums)
    # A plain bootstrap, resample by resample, with statsmodels.
    rng = np.random.default_rng(1)
    plain = [inter_rater.fleiss_kappa(counts[rng.integers(0, 30, 30)]) for _ in range(2000)]
    assert found == pytest.approx((0.430, *np.quantile(plain, [0.025, 0.975])), abs=0.012)


@pytest.mark.parametrize(
    ("a", "b", "cases"),
    [
        ([], [], []),
        ([0, 0, 0], [0, 0, 0], ["a", "b", "c"]),
        ([0, 1], [0, 1], ["a", "a"]),
    ],
)
def test_no_interval_where_there_is_nothing_to_resample(a, b, cases):
    found = estimate(one_hot(np.array(a, int), np.array(b, int), 2), cases, cohen_kappa)
    assert math.isnan(found.low) and math.isnan(found.high)


def test_undefined_resamples_are_left_out():
    """Three cases, two of them alike: a third of the resamples holds one category alone, where kappa is undefined."""
    assert estimate(one_hot([0, 0, 1], [0, 0, 1], 2), ["a", "b", "c"], cohen_kappa) == (1, 1, 1)


def test_interval_needs_half_of_the_resamples():
    """One of ten cases is drawn exactly once in .9^9 = 39 % of the resamples; otherwise this statistic is undefined."""
    parts = np.eye(10)[:, :1]
    found = estimate(parts, list("abcdefghij"), lambda sums: np.where(sums[..., 0] == 1, 1.0, np.nan))
    assert found.value == 1 and math.isnan(found.low) and math.isnan(found.high)


def test_the_same_seed_gives_the_same_interval_and_quickly():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, 1506))
    cases = [str(case) for case in range(1506)]
    start = time.perf_counter()
    found = estimate(one_hot(a, b, 4), cases, cohen_kappa, seed=5)
    assert time.perf_counter() - start < 0.5
    assert found == estimate(one_hot(a, b, 4), cases, cohen_kappa, seed=5)
    assert found != estimate(one_hot(a, b, 4), cases, cohen_kappa, seed=6)
