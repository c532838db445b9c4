"""HD95 and average surface distance of masks of 160 x 320 x 320 voxels: ours, MONAI's and surface-distance's.

`OMP_NUM_THREADS=1 python Testing/benchmarks/surface.py`, minutes. All in one run, in turns; the answers are compared.
What surface-distance measures are elements of the surface by their area, not voxels: it agrees to a voxel only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import surface_distance
import torch
from monai.metrics import compute_hausdorff_distance

from BreastTumorSegLib.metrics.surface import hausdorff95, surface_distances

SHAPE = (160, 320, 320)
SPACING = (1.1, 0.75, 0.75)
VOXEL = float(np.linalg.norm(SPACING))


def ellipsoid(centre: tuple[int, int, int], radii: tuple[int, int, int]) -> np.ndarray:
    axes = zip(np.ogrid[tuple(map(slice, SHAPE))], centre, radii, strict=True)
    return sum(((axis - c) / r) ** 2 for axis, c, r in axes) <= 1


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predicted and reference masks by what they show; voxels at the border of the image are on no surface."""
    left, right = ellipsoid((80, 120, 90), (65, 100, 70)), ellipsoid((80, 120, 230), (65, 100, 70))
    breasts, other = left | right, ellipsoid((80, 124, 92), (63, 99, 72)) | ellipsoid((80, 118, 228), (67, 98, 68))
    lesion, far = ellipsoid((80, 120, 90), (12, 15, 14)), ellipsoid((60, 220, 240), (12, 15, 14))
    random, scattered = np.random.default_rng(0), np.zeros(SHAPE, bool)
    for _ in range(60):
        scattered |= ellipsoid(tuple(random.integers(10, size - 10) for size in SHAPE), (3, 4, 4))
    box = np.zeros(SHAPE, bool)
    box[5:155, 5:315, 5:315] = True
    return {
        "breasts, alike": (breasts, other),
        "breasts, one missed": (left, breasts),
        "breasts, 24 mm off": (breasts, np.roll(breasts, (0, 20, 25), (0, 1, 2))),
        "breasts, the whole image": (box, breasts),
        "lesion, alike": (lesion, ellipsoid((81, 122, 90), (11, 15, 15))),
        "lesion, in the other breast": (lesion, far),
        "lesion, 60 false ones": (scattered, lesion),
        "lesion, a whole breast": (left, lesion),
    }


def monai(a: np.ndarray, b: np.ndarray) -> float:
    tensors = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
    return compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=SPACING).item()


def surfels(a: np.ndarray, b: np.ndarray) -> float:
    distances = surface_distance.compute_surface_distances(b, a, SPACING)
    return float(surface_distance.compute_robust_hausdorff(distances, 95))


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "HD95": lambda a, b: hausdorff95(a, b, SPACING),
    "HD95 and ASSD": lambda a, b: surface_distances(a, b, SPACING).hd95,
    "MONAI HD95": monai,
    "surface-distance": surfels,
}


def timed(runs: dict[str, int], a: np.ndarray, b: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds and the answer of each method."""
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    answers = {}
    for turn in range(max(runs.values())):
        for name in [name for name in METHODS if turn < runs[name]]:
            start = time.perf_counter()
            answers[name] = METHODS[name](a, b)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}, answers


def check(answers: dict[str, float]) -> None:
    """Ours are equal, MONAI's is in single precision, and surface-distance agrees to a voxel."""
    ours, all_of_them, monais, surfels_ = answers.values()
    assert ours == all_of_them, answers
    assert abs(ours - monais) < 1e-4 * max(ours, 1), answers
    assert abs(ours - surfels_) < VOXEL, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="Of ours.")
    parser.add_argument("--other-runs", type=int, default=3, help="Of MONAI's and surface-distance's.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = dict(zip(METHODS, [arguments.runs] * 2 + [arguments.other_runs] * 2, strict=True))
    print_row("milliseconds", "HD95 in mm", *METHODS, "MONAI / HD95", "surface-distance / HD95")
    print_row(*["---"] * (len(METHODS) + 4))
    for case, masks in pairs().items():
        seconds, answers = timed(runs, *masks)
        check(answers)
        times = (f"{1000 * value:.0f}" for value in seconds.values())
        ratios = (f"{seconds[name] / seconds['HD95']:.0f}" for name in ("MONAI HD95", "surface-distance"))
        print_row(case, f"{answers['HD95']:.2f}", *times, *ratios)


def print_row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
