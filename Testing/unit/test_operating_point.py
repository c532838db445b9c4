"""Which threshold and peak the shipped tumour models get."""

from dataclasses import replace
from pathlib import Path

import pytest


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import operating_point

    return operating_point


@pytest.fixture
def strict(benchmark):
    """A point whose four numbers have a mean of 0.8."""
    return benchmark.Choice(0.6, 0.9, 0.7, 0.1, visible=0.8, empty=0.9, painted=0.8, drawn=0.9)


def test_the_point_with_the_highest_mean_is_taken(benchmark, strict):
    better = replace(strict, peak=0.8, empty=0.8, painted=0.91)
    worse = replace(strict, peak=0.7, score=0.69)
    assert benchmark.chosen([strict, better, worse]) == better


def test_a_point_with_too_many_false_lesions_is_taken_only_where_all_have(benchmark, strict):
    better = replace(strict, peak=0.5, painted=1.0, false_positives=0.6)
    assert benchmark.chosen([strict, better]) == strict
    assert benchmark.chosen([better, replace(better, peak=0.4, painted=0.9)]) == better


def test_figures_of_a_point_are_means_over_the_exams_that_they_are_of(benchmark):
    """Two exams with three visible lesions of which two are found, and one without; two more without; two painted."""
    point = (0.5, 0.8)
    exams = [(0.9, 0, 1, 1, True), (0.3, 1, 1, 2, True), (1.0, 0, 0, 0, False)]
    told = benchmark.figures_of(point, exams, [(0.0, 2), (1.0, 0)], [(True, 0.8), (False, 0.1)])
    assert vars(told) == pytest.approx(
        {
            "threshold": 0.5,
            "peak": 0.8,
            "score": 2.2 / 3,
            "false_positives": 1 / 3,
            "visible": 2 / 3,
            "empty": 2 / 3,
            "painted": 0.5,
            "drawn": 0.8,
        }
    )


def test_no_patient_of_a_site_decides_twice(benchmark):
    under_conditions = [*benchmark.PATIENTS, *benchmark.IN_TURN, *benchmark.WITHOUT_LESION]
    assert len(set(under_conditions)) == len(under_conditions) == 7 + 20 + 42
    varied = [*benchmark.VARIED, *benchmark.VARIED_EVERYWHERE]
    assert len(set(varied)) == len(varied) == 36 + 15
    assert min(under_conditions) > 720_001 and max(varied) < 730_000  # 720,000 and 720,001 are for calibration


def test_patients_in_turn_are_each_of_another_seed_and_site_and_go_round_the_conditions(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "simulate_exam", lambda site, seed, _, change: (site, seed, change))
    told = list(benchmark.in_turn("abcdefgh"))
    assert len({(site, seed) for site, seed, _ in told}) == len(told) == 100
    assert [change for *_, change in told[:6]] == list("abcdeb")  # five sites, then the next patient
