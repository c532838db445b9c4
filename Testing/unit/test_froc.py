import math

import numpy as np
import pytest
from monai.metrics import compute_froc_curve_data, compute_froc_score

from BreastTumorSegLib.metrics.froc import Candidates, find_candidates, sensitivity_at

INF = math.inf
# Four cases, five lesions. False positives from the highest score: .95 .7 .6 .3; found lesions: .9 .8 .5 .2.
CASES = [
    Candidates(np.array([0.9]), np.array([0.7, 0.3])),
    Candidates(np.array([0.8, -INF]), np.array([])),
    Candidates(np.array([0.2, 0.5]), np.array([0.95])),
    Candidates(np.array([]), np.array([0.6])),
]


@pytest.mark.parametrize(
    ("allowed", "sensitivity"),
    [
        (0, 0.0),  # the highest score is a false positive's
        (0.24, 0.0),
        (0.25, 0.4),  # one in all: down to .7
        (0.5, 0.4),  # two: down to .6
        (0.75, 0.6),  # three: down to .3
        (1, 0.8),  # all
        (8, 0.8),  # one lesion has no candidate
    ],
)
def test_sensitivity_worked_out_by_hand(allowed, sensitivity):
    assert sensitivity_at(CASES, [allowed]) == [pytest.approx(sensitivity)]


def test_of_equal_scores_the_false_positive_counts_first():
    case = Candidates(np.array([0.5]), np.array([0.5]))
    assert sensitivity_at([case], [0, 1]) == [0.0, 1.0]


@pytest.mark.parametrize("cases", [[], [Candidates(np.array([]), np.array([0.6]))]])
def test_nothing_to_find(cases):
    assert sensitivity_at(cases, [1, 2]) == pytest.approx([math.nan, math.nan], nan_ok=True)


def test_rates_are_not_lost_to_rounding():
    """0.29 * 100 is less than 29 in floating point."""
    cases = [Candidates(np.array([0.1]), np.array([0.5] if i < 29 else [])) for i in range(100)]
    assert sensitivity_at(cases, [0.28, 0.29]) == [0.0, 1.0]


def test_candidates_worked_out_by_hand():
    probability, reference = np.zeros((3, 4, 12)), np.zeros((3, 4, 12), np.uint8)
    probability[0, 0, 0:2] = 0.3, 0.8  # overlaps the first lesion with its low end
    probability[1, 1, 2] = 0.4  # touches by a corner: the same candidate
    probability[0, 0, 5] = 0.6  # in two candidates' lesion
    probability[0, 0, 7] = 0.9
    probability[2, 3, 11] = 0.7  # beside everything
    probability[2, 0, 9] = 0.2  # too low
    reference[0, 0, 0], reference[0, 0, 5:8], reference[2, 0, 9] = 1, 2, 3
    found = find_candidates(probability, reference, 0.3)
    assert found.lesions.tolist() == [0.8, 0.9, -INF]
    assert found.false.tolist() == [0.7]


def test_a_candidate_finds_every_lesion_it_overlaps():
    reference = np.array([1, 0, 0, 1, 0, 1], bool)[None, None]
    found = find_candidates(np.array([0.3, 0.4, 0.5, 0.6, 0, 0])[None, None], reference, 0.3)
    assert found.lesions.tolist() == [0.6, 0.6, -INF]
    assert found.false.tolist() == []


def test_no_candidates_and_no_lesions():
    empty = np.zeros((2, 2, 2))
    assert [len(part) for part in find_candidates(empty, empty, 0.1)] == [0, 0]


def test_against_monai():
    """MONAI interpolates between operating points; at them the answers are the same."""
    random = np.random.default_rng(0)
    cases = []
    for _ in range(10):
        lesions = np.where(random.random(4) < 0.2, -INF, random.random(4))
        cases.append(Candidates(lesions, random.random(random.integers(6))))
    found, false = (np.concatenate([case[part] for case in cases]) for part in (0, 1))
    curve = compute_froc_curve_data(false, np.maximum(found, 0), len(found), len(cases))
    rates = [number / len(cases) for number in range(len(false))]
    assert len(rates) > 15
    expected = [compute_froc_score(*curve, (rate,)) for rate in rates]
    assert sensitivity_at(cases, rates) == pytest.approx(expected)
    assert np.mean(sensitivity_at(cases, rates)) == pytest.approx(compute_froc_score(*curve, rates))
