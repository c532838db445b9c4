"""Lesions painted into the two real exams beside the project, and which of them tumour models find (docs/weights.md).

    python Testing/benchmarks/inserted.py MODEL... [--places 3] [--first-place 12] [--surroundings 1]
        [--data ../shared/data]

A MODEL is the name or the folder of a tumour model's bundle. The exams, their breasts and all that enhances there are
real; the lesions are as bright as the known one in the second patient's other breast. All models see the same ones.
Those of the first twelve places choose threshold and peak (operating_point.py), so that others are taken here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from held_out import say
from real_exams import DATA, Seen, real_exams
from scipy import ndimage

from BreastTumorSegLib.core.boxes import Box, widened
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import find_bundle

DIAMETERS_MM = (8, 12, 18, 25)
PRE, FIRST_POST, WASHOUT = 1.8, 3.9, 0.9
"""Signal of a lesion in the pre-contrast and the first post-contrast phase, as shares of the mean signal in the body,
and its last signal as a share of its first: a cancer in a dense, strongly enhancing breast (TCGA-AO-A03M, left)."""
BODY = 0.15
"""A voxel with more than this share of the brightest signal lies in the body."""
SHADING = (0.6, 1.6)
"""A coil makes tissue so much darker or brighter at most."""
EDGE_MM, ROUGHNESS_MM, ROUGH_MM = 1.2, 1.5, 4.0
"""Of a lesion's outline: how soft it is, how far it departs from an ellipsoid, and over what length."""

FAR_VOXELS = 2
"""What is further than so many voxels from the breasts is their surroundings."""

LEAST_OVERLAP = 0.2
"""Dice from which a lesion counts as found: what the exam has of its own may touch it."""


@dataclass(frozen=True)
class Case:
    """A real exam with a lesion painted in."""

    name: str
    seen: Seen
    exam: Exam
    lesion: np.ndarray
    diameter: float


def cases(data: Path, places: int, first: int = 0) -> Iterator[Case]:
    """Every diameter at so many places of both exams, from the `first` on; together they would fill the memory."""
    names = ("Duke 153", "TCGA-AO-A03M right")
    for name, seen in zip(names, real_exams(data), strict=True):
        for diameter in DIAMETERS_MM:
            for place in range(first, first + places):
                changed = with_lesion(seen, diameter, np.random.default_rng([place, diameter]))
                yield Case(name, seen, *changed, diameter)


def with_surroundings(case: Case, times: float) -> Case:
    """The same lesion where all that lies outside the breasts is so many times as bright: in other patients it is."""
    near = ndimage.binary_dilation(case.seen.breast.labels > 0, iterations=FAR_VOXELS)
    return replace(case, exam=Exam(case.exam.table, np.where(near, case.exam.data, times * case.exam.data)))


def with_lesion(seen: Seen, diameter: float, random: np.random.Generator) -> tuple[Exam, np.ndarray]:
    """The exam with a lesion somewhere in its breasts, and where it is, bool (Z, Y, X)."""
    exam, inside = seen.exam, seen.breast.labels > 0
    share, box = _lesion(exam, inside, diameter, random)
    brightest = np.percentile(exam.pre, 99)
    unit = exam.pre[exam.pre > BODY * brightest].mean()
    unit *= np.clip(np.median(exam.pre[box][inside[box]]) / np.median(exam.pre[inside]), *SHADING)
    data = exam.data.astype(np.float32)
    for number, phase in enumerate(data):
        late = max(number - 1, 0) / max(len(data) - 2, 1)
        signal = FIRST_POST * (1 + (WASHOUT - 1) * late) if number else PRE
        phase[box] = phase[box] * (1 - share) + share * signal * unit
    where = np.zeros(inside.shape, bool)
    where[box] = share > 0.5
    return Exam(exam.table, data), where


def _lesion(exam: Exam, inside: np.ndarray, diameter: float, random: np.random.Generator) -> tuple[np.ndarray, Box]:
    """The lesion's share of every voxel of a box, and the box."""
    spacing = np.array(exam.geometry.spacing_zyx)
    deep = ndimage.distance_transform_edt(inside[::2, ::2, ::2], 2 * spacing) > diameter / 2 + 4
    centre = 2 * random.permutation(np.argwhere(deep))[0]
    z, y, x = (int(np.ceil((diameter / 2 + 6) / step)) for step in spacing)
    box = widened((*(slice(at, at + 1) for at in centre),), (z, y, x), inside.shape)
    along = [
        (np.arange(part.start, part.stop) - at) * step for part, at, step in zip(box, centre, spacing, strict=True)
    ]
    offsets = np.meshgrid(*along, indexing="ij")
    distance = np.sqrt(sum((axis / random.uniform(0.8, 1.2)) ** 2 for axis in offsets))
    rough = ndimage.gaussian_filter(random.normal(size=distance.shape), ROUGH_MM / spacing)
    depth = diameter / 2 - distance + ROUGHNESS_MM * (rough - rough.mean()) / rough.std()
    return np.clip(depth / EDGE_MM + 0.5, 0, 1).astype(np.float32), box


def main() -> None:
    """A line for each model and exam, with what is found at every diameter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--places", type=int, default=3, help="of a lesion of each diameter in each exam")
    parser.add_argument("--first-place", type=int, default=12, help="the first of them")
    parser.add_argument("--surroundings", type=float, default=1.0, help="how many times as bright they become")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    rows = [
        (name, case.name, case.diameter, *_found(case, name))
        for painted in cases(options.data, options.places, options.first_place)
        for case in [with_surroundings(painted, options.surroundings)]
        for name in options.models
    ]
    heads = " | ".join(f"{diameter} mm" for diameter in DIAMETERS_MM)
    say(f"| | exam | {heads} | found | Dice where found |\n|{'---|' * (len(DIAMETERS_MM) + 4)}")
    for name, exam in sorted({row[:2] for row in rows}):
        some = [row[2:] for row in rows if row[:2] == (name, exam)]
        shares = [np.mean([hit for diameter, hit, _ in some if diameter == size]) for size in DIAMETERS_MM]
        overlap = np.mean([value for _, hit, value in some if hit] or [np.nan])
        cells = " | ".join(f"{share:.2f}" for share in (*shares, np.mean([hit for _, hit, _ in some]), overlap))
        say(f"| {name} | {exam} | {cells} |")


def _found(case: Case, name: str) -> tuple[bool, float]:
    """Whether a model reports the lesion, and the Dice of what it reports there."""
    return finds(Seen(case.exam, case.seen.breast).lesions(find_bundle(name, "tumor")), case.lesion)


def finds(labels: np.ndarray, lesion: np.ndarray) -> tuple[bool, float]:
    """Whether reported lesions (Z, Y, X) count as finding this one, bool (Z, Y, X), and their Dice with it."""
    overlap = dice(np.isin(labels, np.setdiff1d(labels[lesion], [0])), lesion, empty=0.0)
    return overlap >= LEAST_OVERLAP, overlap


if __name__ == "__main__":
    main()
