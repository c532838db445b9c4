"""Agreement of maps with several classes. Imports no torch."""

from __future__ import annotations

import numpy as np


def confusion(found: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Voxels by true class (rows) and found class (columns), int64 (classes, classes), of two arrays of one shape."""
    pairs = truth.ravel().astype(np.int64) * classes + found.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_accuracy(table: np.ndarray) -> float:
    """Share of a class's voxels that are found as such, the mean over the classes that are there; NaN without any."""
    there = table.sum(1) > 0
    return _mean(table.diagonal()[there] / table.sum(1)[there])


def mean_iou(table: np.ndarray) -> float:
    """Intersection over union of each class, the mean over those that are there or found; NaN without any."""
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return _mean(table.diagonal()[union > 0] / union[union > 0])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
