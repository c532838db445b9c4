"""Measures of a clustering of time-intensity curves, and how stable it is, so that K can be checked. NumPy alone.

Xie et al. (docs/heterogeneity.md) name SSE, CPN, SPT, DBN and TVR and define none. The definitions here are the usual
ones, in the space in which voxels are clustered: `curve_features`, where distances have no unit. Points are (N, F),
labels (N,) of any integers, and a group's centre is the mean of its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.kinetics.clusters import clusterer, sample
from BreastTumorSegLib.kinetics.codebooks import shipped_codebook, shipped_sizes
from BreastTumorSegLib.kinetics.curves import curve_features

SIZES = (4, 6, 8, 10, 12)
SEEDS = (0, 1, 2, 3)


class Quality(NamedTuple):
    """One row of the table.

    Attributes:
        fit: "exam" or "population".
        k: Clusters asked for.
        used: Clusters that have voxels.
        sse, compactness, separability, davies_bouldin, largest_share: See the functions of these names.
        seeds: Mean adjusted Rand index between fits with other seeds; NaN for what was not fitted here.
        halves: Adjusted Rand index, on all voxels, between fits on two halves of them; NaN likewise.
    """

    fit: str
    k: int
    used: int
    sse: float
    compactness: float
    separability: float
    davies_bouldin: float
    largest_share: float
    seeds: float
    halves: float


def sse(points: np.ndarray, labels: np.ndarray) -> float:
    """Squared distance of a point to its group's centre, mean over points. Falls with every further group.

    The sum over points, which the name says, grows with the size of the breast; the paper's values are means, too.
    """
    centres, groups = _centres(points, labels)
    return float(((points - centres[groups]) ** 2).sum(axis=1).mean())


def compactness(points: np.ndarray, labels: np.ndarray) -> float:
    """CPN: distance of a point to its group's centre, mean over the group, then over groups; lower is tighter."""
    return float(_scatter(points, labels).mean())


def separability(points: np.ndarray, labels: np.ndarray) -> float:
    """SPT: distance between two groups' centres, mean over all pairs; higher is further apart. NaN for one group."""
    centres, _ = _centres(points, labels)
    upper = np.triu_indices(len(centres), 1)
    return float(_between(centres)[upper].mean()) if len(upper[0]) else float("nan")


def davies_bouldin(points: np.ndarray, labels: np.ndarray) -> float:
    """DBN: mean over groups of the largest (s_i + s_j) / d_ij; lower is better. NaN for one group.

    s is the mean distance to the centre, d the distance between centres (Davies and Bouldin 1979, p = 2, q = 1).
    """
    centres, _ = _centres(points, labels)
    if len(centres) < 2:
        return float("nan")
    scatter, between = _scatter(points, labels), _between(centres)
    np.fill_diagonal(between, np.inf)
    return float(((scatter[:, None] + scatter) / np.maximum(between, 1e-12)).max(axis=1).mean())


def largest_share(labels: np.ndarray) -> float:
    """TVR: share of points in the largest group; near 1 means that one group took nearly everything."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def adjusted_rand(one: np.ndarray, other: np.ndarray) -> float:
    """Adjusted Rand index of two labellings (N,) of the same points: 1 the same groups, about 0 chance.

    Hubert and Arabie 1985. 1 where both have one group, or both as many as points.
    """
    groups = [np.unique(labels, return_inverse=True)[1] for labels in (one, other)]
    shape = [group.max(initial=0) + 1 for group in groups]
    table = np.bincount(groups[0] * shape[1] + groups[1], minlength=shape[0] * shape[1]).reshape(shape)
    both, first, second = (_pairs(counts) for counts in (table, table.sum(axis=1), table.sum(axis=0)))
    chance = first * second / max(_pairs(np.array([len(one)])), 1)
    most = (first + second) / 2
    return 1.0 if most == chance else float((both - chance) / (most - chance))


def quality_table(
    curves: np.ndarray,
    seconds: np.ndarray,
    method: str = "kmeans",
    sizes: Sequence[int] = SIZES,
    events: Events | None = None,
) -> list[Quality]:
    """Quality over K, fitted on the exam and with the shipped codebooks, on a sample of the curves.

    Args:
        curves: Percent enhancement of enhancing voxels, (T, N), at least one of them.
        seconds: After injection, (T,).
        method: "kmeans" (needs scikit-learn) or "vqvae" (PyTorch; minutes).
        sizes: K, each a row.
    """
    events, curves = events or Events(), sample(curves, 0)
    rows = []
    for done, k in enumerate(sizes):
        events.progress("clusters", done, len(sizes))
        labels = [_fitted(curves, curves, seconds, method, k, seed) for seed in SEEDS]
        seeds = [adjusted_rand(labels[i], labels[j]) for i in range(len(SEEDS)) for j in range(i)]
        rows.append(_row("exam", k, curves, labels[0], float(np.mean(seeds)), _halves(curves, seconds, method, k)))
        if k in shipped_sizes(method):
            known = shipped_codebook(method, k).assign(curves, seconds)
            rows.append(_row("population", k, curves, known, float("nan"), float("nan")))
    events.progress("clusters", len(sizes), len(sizes))
    return rows


def _row(fit: str, k: int, curves: np.ndarray, labels: np.ndarray, seeds: float, halves: float) -> Quality:
    points = curve_features(curves).T.astype(np.float64)
    return Quality(
        fit=fit,
        k=k,
        used=len(np.unique(labels)),
        sse=sse(points, labels),
        compactness=compactness(points, labels),
        separability=separability(points, labels),
        davies_bouldin=davies_bouldin(points, labels),
        largest_share=largest_share(labels),
        seeds=seeds,
        halves=halves,
    )


def _fitted(part: np.ndarray, curves: np.ndarray, seconds: np.ndarray, method: str, k: int, seed: int) -> np.ndarray:
    return clusterer(method).fit(part, seconds, k, seed).assign(curves, seconds)


def _halves(curves: np.ndarray, seconds: np.ndarray, method: str, k: int) -> float:
    """Agreement of what two random halves of the voxels teach; NaN for fewer than two voxels."""
    order = np.random.default_rng(0).permutation(curves.shape[1])
    if len(order) < 2:
        return float("nan")
    one, other = (_fitted(curves[:, order[half::2]], curves, seconds, method, k, 0) for half in (0, 1))
    return adjusted_rand(one, other)


def _centres(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (K, F) of the groups that have members, and every point's group (N,)."""
    names, groups = np.unique(labels, return_inverse=True)
    return np.array([points[groups == group].mean(axis=0) for group in range(len(names))]), groups


def _scatter(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean distance to the centre in every group, (K,)."""
    centres, groups = _centres(points, labels)
    distance = np.linalg.norm(points - centres[groups], axis=1)
    return np.bincount(groups, distance) / np.bincount(groups)


def _between(centres: np.ndarray) -> np.ndarray:
    return np.linalg.norm(centres[:, None] - centres, axis=2)


def _pairs(counts: np.ndarray) -> float:
    return float((counts.astype(np.float64) * (counts - 1) / 2).sum())
