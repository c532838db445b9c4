"""Mean accuracy and mean intersection over union, by hand."""

import math

import numpy as np
import pytest

from BreastTumorSegLib.metrics.classes import confusion, mean_accuracy, mean_iou


def test_five_voxels_of_four_classes_of_which_the_last_is_nowhere():
    truth, found = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    table = confusion(found, truth, 4)
    assert table.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert mean_accuracy(table) == pytest.approx((2 / 3 + 1 / 2) / 2)
    # Class 0: 2 of 3; class 1: 1 of 3; class 2 is found and not there: 0 of 1.
    assert mean_iou(table) == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)


def test_nothing_has_no_mean():
    table = confusion(np.zeros(0, int), np.zeros(0, int), 3)
    assert math.isnan(mean_accuracy(table)) and math.isnan(mean_iou(table))


def test_equal_maps_agree_in_full():
    truth = np.arange(12).reshape(3, 4) % 5
    table = confusion(truth.astype(np.uint8), truth.astype(np.uint8), 5)
    assert mean_accuracy(table) == mean_iou(table) == 1.0
