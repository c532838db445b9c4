import csv

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score

from BreastTumorSegLib.kinetics import quality
from BreastTumorSegLib.kinetics.quality import Quality, adjusted_rand, quality_table
from BreastTumorSegLib.report.cluster_quality import write_quality

# Two groups on a line: centres 1 and 11, distances 1, 1 and 1, 0, 1.
POINTS = np.array([[0.0], [2.0], [10.0], [11.0], [12.0]])
LABELS = np.array([3, 3, 7, 7, 7])
SECONDS = np.array([0.0, 120.0, 240.0, 360.0, 480.0])


def test_measures_worked_out_by_hand():
    assert quality.sse(POINTS, LABELS) == pytest.approx((1 + 1 + 1 + 0 + 1) / 5)
    assert quality.compactness(POINTS, LABELS) == pytest.approx((1 + 2 / 3) / 2)
    assert quality.separability(POINTS, LABELS) == pytest.approx(10)
    assert quality.davies_bouldin(POINTS, LABELS) == pytest.approx((1 + 2 / 3) / 10)
    assert quality.largest_share(LABELS) == pytest.approx(3 / 5)


def test_three_centres_are_three_pairs_apart():
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]])
    assert quality.separability(points, np.arange(3)) == pytest.approx((5 + 10 + np.sqrt(45)) / 3)


def test_one_group_is_neither_near_nor_far():
    one = np.zeros(5, int)
    assert np.isnan(quality.separability(POINTS, one))
    assert np.isnan(quality.davies_bouldin(POINTS, one))


@pytest.mark.parametrize("k", [2, 5, 12])
def test_indices_are_those_of_scikit_learn(k):
    random = np.random.default_rng(k)
    points, labels, other = random.normal(size=(400, 6)), random.integers(0, k, 400), random.integers(0, 4, 400)
    points += labels[:, None]
    assert quality.davies_bouldin(points, labels) == pytest.approx(davies_bouldin_score(points, labels))
    assert adjusted_rand(labels, other) == pytest.approx(adjusted_rand_score(labels, other))
    assert adjusted_rand(labels, labels // 2) == pytest.approx(adjusted_rand_score(labels, labels // 2))


def test_agreement_of_the_same_groups_under_other_names_is_one():
    assert adjusted_rand(LABELS, -LABELS) == 1
    assert adjusted_rand(np.zeros(4, int), np.ones(4, int)) == 1
    assert adjusted_rand(np.arange(4), np.arange(4)[::-1]) == 1


def curves(count=3000):
    kinds = np.array([[0, 60, 100, 130, 150], [0, 160, 162, 160, 158], [0, 200, 120, 70, 40], [0, 400, 350, 300, 250]])
    which = np.random.default_rng(0).integers(0, 4, count)
    return (kinds[which].T + np.random.default_rng(1).normal(0, 2, (5, count))).astype(np.float32)


def test_the_table_shows_the_number_of_kinds_that_is_there(tmp_path):
    rows = quality_table(curves(), SECONDS, sizes=(2, 4, 8))
    exam = {row.k: row for row in rows if row.fit == "exam"}
    assert [(row.fit, row.k) for row in rows] == [
        ("exam", 2), ("exam", 4), ("population", 4), ("exam", 8), ("population", 8)
    ]  # fmt: skip
    assert exam[4].seeds == exam[4].halves == 1
    assert exam[8].halves < 0.9
    assert min(exam.values(), key=lambda row: row.davies_bouldin).k == 4
    assert exam[2].sse > exam[4].sse > exam[8].sse
    assert np.isnan(rows[2].seeds)
    write_quality(rows, tmp_path)
    table = list(csv.reader((tmp_path / "quality.csv").read_text().splitlines()))
    assert table[0] == list(Quality._fields)
    assert [row[-1] for row in table[1:]][2] == ""
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_one_voxel_makes_a_table():
    row = quality_table(curves(1), SECONDS, sizes=(4,))[0]
    assert (row.used, row.sse, row.largest_share) == (1, 0.0, 1.0)
    assert np.isnan(row.halves)
