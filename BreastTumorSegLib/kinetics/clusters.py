"""Clusters of time-intensity curves within one exam."""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.core.result import Clusters
from BreastTumorSegLib.kinetics.enhancement import ENHANCING_PE, early_late, enhancing_voxels, percent_enhancement

FIT_VOXELS = 20_000
"""As many voxels give the same centres as all do, in a fraction of the time."""

AMPLITUDE_WEIGHT = 0.35
"""Weight of the logarithm of the peak beside the shape: much less leaves malignant and benign curves in one cluster of
simulated exams, much more puts brightness before washout."""


def cluster_curves(data: np.ndarray, times: tuple[float, ...], mask: np.ndarray, k: int = 4, seed: int = 0) -> Clusters:
    """K-means of the curves of a mask's enhancing voxels, numbered from persistent to washout.

    The number follows the slope of the cluster's mean curve after the early phase, relative to its peak; with one
    post-contrast phase, where no slope is known, its enhancement. There are fewer than `k` clusters, perhaps none,
    where fewer different curves enhance. Same input, same labels.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them.
        mask: Where to cluster, (Z, Y, X) bool: lesions, lesions with a rim, or the breast.
        k: Number of clusters, at most 255.
        seed: Of the random generator.
    """
    where = mask & enhancing_voxels(data, times)
    voxels = data[:, where]
    curves = percent_enhancement(voxels[0], voxels, floor=0.0)
    groups = _groups(_features(curves), k, seed)
    members = [curves[:, groups == group] for group in range(groups.max(initial=-1) + 1)]
    order = np.argsort([_washout(member.mean(axis=1), times) for member in members], kind="stable")
    labels = np.zeros(mask.shape, np.uint8)
    labels[where] = 1 + np.argsort(order)[groups]
    return Clusters(
        labels,
        np.array([members[i].mean(axis=1) for i in order]).reshape(-1, len(times)),
        np.array([members[i].std(axis=1) for i in order]).reshape(-1, len(times)),
        np.array([members[i].shape[1] for i in order], np.int64),
    )


def _features(curves: np.ndarray) -> np.ndarray:
    """Shape and amplitude of curves (T, N) in percent enhancement, as (N, T).

    Each curve is divided by its own peak, which the gate on enhancement keeps well above 0, and by the root of the
    number of phases, so that shape weighs the same in an exam of three phases as of eight.
    """
    peak = curves.max(axis=0)
    shape = curves[1:] / peak / np.sqrt(len(curves) - 1)
    return np.vstack([shape, AMPLITUDE_WEIGHT * np.log(peak / ENHANCING_PE)]).T.astype(np.float64)


def _groups(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Group of every row of features (N, F), from 0, without gaps, fitted on a sample of the rows."""
    if not len(features):
        return np.zeros(0, np.intp)
    from sklearn.cluster import KMeans  # Slicer's own Python has no scikit-learn
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(seed)
    sample = random.choice(features, min(FIT_VOXELS, len(features)), replace=False)
    k = min(k, len(np.unique(sample, axis=0)))
    with threadpool_limits(1):  # several threads add up in any order, and labels would differ between runs
        model = KMeans(k, n_init=4, random_state=seed).fit(sample)
        return np.unique(model.predict(features), return_inverse=True)[1]


def _washout(curve: np.ndarray, times: tuple[float, ...]) -> float:
    """Fall of a mean curve after the early phase, as a share of its peak per second; without a late phase its peak."""
    phases = early_late(times)
    if phases is None:
        return float(curve.max())
    after = slice(phases[0], None)
    return -float(np.polyfit(times[after], curve[after] / curve.max(), 1)[0])
