"""Clusters of time-intensity curves: what the pipeline and Slicer call."""

from __future__ import annotations

from typing import Literal

import numpy as np

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.result import Clusters
from BreastTumorSegLib.kinetics.codebooks import (
    METHODS,
    Clusterer,
    Codebook,
    CurveCodebook,
    numbered,
    shipped_codebook,
    shipped_sizes,
)
from BreastTumorSegLib.kinetics.curves import after_injection, curve_features
from BreastTumorSegLib.kinetics.enhancement import enhancing_voxels, percent_enhancement

Fit = Literal["population", "exam"]

DEFAULT_METHOD = "kmeans"
DEFAULT_K = 4
"""Chosen on simulated exams, see docs/heterogeneity.md."""

FIT_VOXELS = 20_000
"""As many voxels give the same centres as all do, in a fraction of the time."""


class KMeansClusterer:
    """K-means of shape and amplitude with scikit-learn; a kind is the mean curve of its members."""

    def fit(self, curves: np.ndarray, seconds: np.ndarray, k: int, seed: int = 0) -> CurveCodebook:
        """See `Clusterer`."""
        from sklearn.cluster import KMeans  # Slicer's own Python has no scikit-learn
        from threadpoolctl import threadpool_limits

        points = curve_features(curves).T.astype(np.float64)
        k = min(k, len(np.unique(points, axis=0)))
        with threadpool_limits(1):  # several threads add up in any order, and labels would differ between runs
            groups = KMeans(k, n_init=4, random_state=seed).fit_predict(points)
        found = np.array([curves[:, groups == group].mean(axis=1, dtype=np.float64) for group in np.unique(groups)])
        return CurveCodebook(seconds, found[numbered(seconds, found)])


def clusterer(method: str) -> Clusterer:
    """The method of a name: "kmeans" or "vqvae"; the latter imports PyTorch."""
    if method not in METHODS:
        raise InputError(f"There is no clustering method {method!r}.", f"Choose one of {', '.join(METHODS)}.")
    if method == "kmeans":
        return KMeansClusterer()
    from BreastTumorSegLib.kinetics.vqvae import VqVaeClusterer

    return VqVaeClusterer()


def default_fit(method: str, k: int) -> Fit:
    """ "population" where a codebook of k kinds is shipped for the method, else "exam"."""
    return "population" if k in shipped_sizes(method) else "exam"


def cluster_curves(
    data: np.ndarray,
    times: tuple[float, ...],
    mask: np.ndarray,
    k: int = DEFAULT_K,
    seed: int = 0,
    method: str = DEFAULT_METHOD,
    fit: Fit | None = None,
) -> Clusters:
    """Cluster the curves of a mask's enhancing voxels, numbered from persistent to washout.

    With a population's codebook a number means the same kind of curve in every exam, and a kind that no voxel has
    stays: 0 voxels, the codebook's own curve, spread 0. Fitted on the exam there are fewer than `k` clusters where
    fewer different curves enhance. Where none does there is no cluster. With one post-contrast phase, where no slope
    is known, what is fitted on the exam is numbered by its enhancement. Same input, same labels, on any device: it is
    all done on the CPU.

    Args:
        data: Exam, (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase, T of them.
        mask: Where to cluster, (Z, Y, X) bool: lesions, lesions with a rim, or the breast.
        k: Number of clusters, 1 to 255.
        seed: Of the random generator, where something is fitted.
        method: "kmeans" or "vqvae".
        fit: "population" for the shipped codebook, "exam" to learn from this exam (k-means needs scikit-learn, the
            VQ-VAE PyTorch); without it, whatever `default_fit` says.

    Raises:
        InputError: There is no such method, no such codebook, or `k` is out of range.
        ModelError: The shipped codebooks are missing or damaged.
    """
    if method not in METHODS or not 1 <= k <= 255:
        raise InputError(f"{k} clusters by {method!r} can't be made.", f"1 to 255 by one of {', '.join(METHODS)}.")
    where, curves = enhancing_curves(data, times, mask)
    seconds = after_injection(times)
    if curves.shape[1] == 0:
        codebook: Codebook = CurveCodebook(seconds, np.zeros((0, len(times))))
    elif (fit or default_fit(method, k)) == "population":
        codebook = shipped_codebook(method, k)
    else:
        codebook = clusterer(method).fit(sample(curves, seed), seconds, k, seed)
    return _clusters(codebook, where, curves, seconds)


def enhancing_curves(data: np.ndarray, times: tuple[float, ...], mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask enhances, (Z, Y, X) bool, and the percent enhancement of those voxels, float32 (T, N)."""
    where = mask & enhancing_voxels(data, times)
    voxels = data[:, where].astype(np.float32, copy=False)
    return where, percent_enhancement(voxels[0], voxels, floor=0.0)


def sample(curves: np.ndarray, seed: int, most: int = FIT_VOXELS) -> np.ndarray:
    """At most so many columns of curves (T, N), without repetition, in their order."""
    if curves.shape[1] <= most:
        return curves
    return curves[:, np.sort(np.random.default_rng(seed).choice(curves.shape[1], most, replace=False))]


def _clusters(codebook: Codebook, where: np.ndarray, curves: np.ndarray, seconds: np.ndarray) -> Clusters:
    """The result: labels on the grid; mean, spread and size of each cluster."""
    centres = codebook.centres(seconds)
    found = codebook.assign(curves, seconds) if len(centres) else np.zeros(0, np.uint8)
    labels = np.zeros(where.shape, np.uint8)
    labels[where] = found
    count = np.bincount(found, minlength=len(centres) + 1)[1:]
    present = count > 0
    mean, square = (
        np.array([np.bincount(found, row, len(centres) + 1)[1:] for row in rows]).T / np.maximum(count, 1)[:, None]
        for rows in (curves, (row.astype(np.float64) ** 2 for row in curves))
    )
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    mean[~present], spread[~present] = centres[~present], 0
    return Clusters(labels, mean, spread, count.astype(np.int64))
