import math

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric

from BreastTumorSegLib.metrics.calibration import calibration_bins

# Of ten voxels with 0.2 one is tumour, of ten with 0.9 eight are: (10 * 0.1 + 10 * 0.1) / 20.
PROBABILITY = np.array([0.2] * 10 + [0.9] * 10, np.float32)
REFERENCE = np.array([1] + [0] * 9 + [3] * 8 + [0] * 2, np.uint8)


def test_error_worked_out_by_hand():
    assert calibration_bins(PROBABILITY, REFERENCE).error == pytest.approx(0.1)


def test_table_of_reliability():
    low, high = calibration_bins(PROBABILITY, REFERENCE, bins=5).table()
    assert low == pytest.approx({"low": 0.0, "high": 0.2, "voxels": 10, "probability": 0.2, "frequency": 0.1})
    assert high == pytest.approx({"low": 0.8, "high": 1.0, "voxels": 10, "probability": 0.9, "frequency": 0.8})


def test_a_bin_holds_its_upper_edge():
    values = np.array([0, 0.2, 0.4, 0.6, 0.8, 1], np.float32)
    assert calibration_bins(values, values, bins=5).counts.tolist() == [2, 1, 1, 1, 1]


def test_a_bin_of_mixed_probabilities_has_their_mean():
    assert calibration_bins(np.array([0.6, 0.8]), np.array([0, 1]), bins=2).error == pytest.approx(0.2)


@pytest.mark.parametrize(("reference", "error"), [([0, 0, 1, 1], 0.0), ([1, 1, 0, 0], 1.0), ([0, 1, 1, 1], 0.25)])
def test_certain_probabilities(reference, error):
    assert calibration_bins(np.array([0, 0, 1, 1]), np.array(reference)).error == error


def test_background_dilutes_the_error_unless_left_out():
    probability, reference = np.zeros((10, 10, 20)), np.zeros((10, 10, 20), bool)
    probability[0, 0], reference[0, 0] = PROBABILITY, REFERENCE
    within = np.zeros_like(reference)
    within[0, 0] = True
    assert calibration_bins(probability, reference).error == pytest.approx(0.001)
    assert calibration_bins(probability, reference, within).error == pytest.approx(0.1)


def test_cases_are_pooled_by_voxels():
    # 20 voxels with an error of 0.1; 5 more with 0.2 that are all tumour, so 6 of 15 with 0.2 are: off by 0.2.
    more = calibration_bins(np.full(5, 0.2), np.ones(5))
    pooled = calibration_bins(PROBABILITY, REFERENCE) + more
    assert pooled.counts.sum() == 25
    assert pooled.error == pytest.approx((15 * 0.2 + 10 * 0.1) / 25)


def test_nothing_to_measure():
    assert math.isnan(calibration_bins(PROBABILITY, REFERENCE, np.zeros(20)).error)
    assert calibration_bins(PROBABILITY, REFERENCE, np.zeros(20)).table() == []


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_against_monai(bins):
    random = np.random.default_rng(bins)
    probability = random.random((6, 7, 8), np.float32) ** 2
    reference = random.random((6, 7, 8)) < probability**2
    metric = CalibrationErrorMetric(num_bins=bins)
    metric(torch.from_numpy(probability)[None, None], torch.from_numpy(reference)[None, None])
    assert calibration_bins(probability, reference, bins=bins).error == pytest.approx(
        metric.aggregate().item(), abs=1e-6
    )
