"""How well clusters of time-intensity curves tell tissues apart on simulated exams; prints markdown tables.

`python Testing/benchmarks/tissue_clusters.py`, minutes on two cores. Seeds are of validation and were used for nothing
else: neither for the codebooks nor for the choice of method, K or weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from BreastTumorSegLib.kinetics.clusters import cluster_curves
from BreastTumorSegLib.kinetics.codebooks import shipped_sizes
from BreastTumorSegLib.kinetics.enhancement import noise_floor
from BreastTumorSegLib.phantom.sites import TRAINING_SITES
from BreastTumorSegLib.phantom.tissues import TISSUES
from BreastTumorSegLib.training.codebooks import lesion_seeds, simulate_protocol

FIRST_SEED = 3000
TISSUE_NAMES = ("malignant", "benign", "fibroglandular", "vessel")
NOISES = (0.02, 0.05, 0.10)
PHASES = {8: (0, 1, 2, 3, 4, 5, 6, 7), 5: (0, 1, 3, 5, 7), 3: (0, 1, 5)}
"""Which of the eight phases an exam of eight, five and three has."""
CONDITIONS = ((8, 0.02), (8, 0.05), (8, 0.10), (5, 0.05), (3, 0.05))
VOXELS = 300
"""At most so many voxels of a tissue from an exam; gland would decide the index alone otherwise."""
BASELINE_FIT = 20_000


@dataclass(frozen=True)
class Case:
    """One simulated exam in the breast: (T, N) voxels as an exam of one row, their tissues, and a sample to score."""

    data: np.ndarray
    times: tuple[float, ...]
    tissues: np.ndarray
    scored: np.ndarray
    noise: float


Method = Callable[[list[np.ndarray], list[tuple[float, ...]]], list[np.ndarray]]


def cases(each: int) -> Iterator[Case]:
    random = np.random.default_rng(0)
    labels = [TISSUES[name].label for name in TISSUE_NAMES]
    for site in TRAINING_SITES:
        for seed in lesion_seeds(site, FIRST_SEED, each):
            for noise in NOISES:
                exam = simulate_protocol(site, seed, 8, 130.0, 85.0, noise)
                data = exam.data.numpy()
                # a voxel's label is 0 up to the floor of the whole exam, as in `enhancing_voxels`
                where = (exam.breast.numpy() > 0) & (data[0] > noise_floor(data[0]))
                tissues = exam.tissues.numpy()[where]
                parts = [np.flatnonzero(tissues == label) for label in labels]
                scored = [random.choice(part, min(len(part), VOXELS), replace=False) for part in parts]
                yield Case(data[:, where], exam.times, tissues, np.concatenate(scored), noise)


def ours(method: str, k: int, fit: str) -> Method:
    def labels(voxels: list[np.ndarray], times: list[tuple[float, ...]]) -> list[np.ndarray]:
        return [cluster_voxels(v, t, method, k, fit) for v, t in zip(voxels, times, strict=True)]

    return labels


def cluster_voxels(voxels: np.ndarray, times: tuple[float, ...], method: str, k: int, fit: str) -> np.ndarray:
    data = voxels[:, None, None, :]
    return cluster_curves(data, times, np.ones(data.shape[1:], bool), k, method=method, fit=fit).labels[0, 0]


def baseline(k: int, pooled: bool) -> Method:
    """K-means of min-max curves of all voxels: of one exam at a time, or one codebook for all of them."""

    def labels(voxels: list[np.ndarray], times: list[tuple[float, ...]]) -> list[np.ndarray]:
        points = [min_max(v).T for v in voxels]
        groups = [points] if pooled else [[p] for p in points]
        found = [min_max_labels(group, k) for group in groups]
        return [part for parts in found for part in parts]

    return labels


def min_max(voxels: np.ndarray) -> np.ndarray:
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    return (voxels - low) / np.maximum(high - low, 1e-9)


def min_max_labels(points: list[np.ndarray], k: int) -> list[np.ndarray]:
    random, every = np.random.default_rng(0), np.concatenate(points)
    with threadpool_limits(1):
        model = KMeans(k, n_init=4, random_state=0)
        model.fit(every[random.choice(len(every), min(BASELINE_FIT, len(every)), replace=False)])
        return [model.predict(part) for part in points]


def scores(method: Method, found: list[Case], phases: int, noise: float) -> tuple[float, float]:
    """Adjusted Rand index over all exams with tissues weighing the same, and its mean over exams."""
    chosen = [case for case in found if case.noise == noise]
    pick = list(PHASES[phases])
    labels = method([c.data[pick] for c in chosen], [tuple(c.times[i] for i in pick) for c in chosen])
    pairs = [(c.tissues[c.scored], part[c.scored]) for c, part in zip(chosen, labels, strict=True)]
    tissues, groups = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    random = np.random.default_rng(1)
    members = [np.flatnonzero(tissues == TISSUES[name].label) for name in TISSUE_NAMES]
    even = np.concatenate([random.choice(m, min(map(len, members)), replace=False) for m in members])
    single = float(np.mean([adjusted_rand_score(*pair) for pair in pairs]))
    return float(adjusted_rand_score(tissues[even], groups[even])), single


def kept(found: list[Case], method: str, k: int, phases: int) -> tuple[float, float]:
    """Mean and least share, over exams and over the phase left out, of voxels that keep their label."""
    shares = []
    for case in found:
        if case.noise != 0.05:
            continue
        pick = list(PHASES[phases])
        full, *others = (
            cluster_voxels(case.data[p], tuple(case.times[i] for i in p), method, k, "population")
            for p in [pick, *([i for i in pick if i != out] for out in pick[1:])]
        )
        shares += [float(np.mean(full[both] == o[both])) for o in others if (both := (full > 0) & (o > 0)).any()]
    return float(np.mean(shares)), min(shares)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    for row in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(row) + " |", flush=True)  # noqa: T201
    print()  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--exams", type=int, default=3, help="A site with a malignant, and as many with a benign lesion."
    )
    found = list(cases(parser.parse_args().exams))
    population = [(m, k) for m in ("kmeans", "vqvae") for k in shipped_sizes(m)]
    methods = {f"baseline, an exam at a time, K = {k}": baseline(k, False) for k in (4, 10)}
    methods |= {f"baseline, one codebook, K = {k}": baseline(k, True) for k in (4, 10)}
    methods |= {f"{m}, fitted on the exam, K = {k}": ours(m, k, "exam") for m, k in (("kmeans", 4), ("kmeans", 10))}
    methods |= {f"{m}, population, K = {k}": ours(m, k, "population") for m, k in population}
    rows = []
    for name, method in methods.items():
        cells = [scores(method, found, *condition) for condition in CONDITIONS]
        rows.append([name, *(f"{pooled:.2f} / {single:.2f}" for pooled, single in cells)])
    print_table(["method", *(f"{n} phases, noise {100 * noise:.0f} %" for n, noise in CONDITIONS)], rows)
    rows = [
        [f"{m}, K = {k}", *(f"{mean:.0%} / {least:.0%}" for mean, least in (kept(found, m, k, n) for n in (8, 5)))]
        for m, k in population
    ]
    print_table(["population codebook", "one of 8 phases", "one of 5 phases"], rows)


if __name__ == "__main__":
    main()
