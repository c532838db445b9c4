"""Simulated exams that no training uses, networks on them, and tables of what they find."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from BreastTumorSegLib.metrics.bootstrap import bootstrap_interval
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import SITES
from BreastTumorSegLib.training.volumes import TrainingVolume

SPACING_MM = 2.0
TEST_SEEDS, THRESHOLD_SEEDS, PHASE_SEEDS = 700_000, 710_000, 720_000
JUDGED_IN = ("clean", "strong background", "no lesion", "lesion under 8 mm")
"""Conditions where not all of them can be measured."""
THRESHOLD_EXAMS = 4
THRESHOLDS = tuple(float(1 / (1 + np.exp(-logit))) for logit in np.arange(-5, 9.5, 0.5))
"""Even steps of the logit: networks that saw a tumour in most patches are sure of it too often, and others never."""


@dataclass(frozen=True)
class Exam:
    """A simulated exam and what the networks take of it."""

    truth: SimulatedExam
    volume: TrainingVolume

    def with_phases(self, count: int) -> TrainingVolume:
        """The volume as if the scan had ended after `count` phases."""
        return replace(self.volume, phases=self.volume.phases[:count], times=self.volume.times[:count])


def exams(sites: Iterable[str], count: int, first_seed: int, phases: int | None = None) -> Iterator[Exam]:
    """`count` exams of each site; with `phases`, patients as ever, but scanned so many times."""
    for site in sites:
        protocol = replace(SITES[site], phases=(phases, phases)) if phases else None
        for seed in range(first_seed, first_seed + count):
            truth = simulate_exam(site, seed, SPACING_MM, protocol=protocol)
            label, voxels = 255 * truth.tumor.to(torch.uint8), torch.nonzero(truth.tumor.flatten())[:, 0]
            yield Exam(truth, TrainingVolume(truth.data, label, truth.breast > 0, voxels, truth.times))


def table(rows: Sequence[dict[str, Any]], keys: Sequence[str], columns: Sequence[str]) -> None:
    """Means with intervals, a line for each group of equal keys; what is not finite is left out."""
    say(f"| {' | '.join((*keys, 'exams', *columns))} |\n|{'---|' * (len(keys) + 1 + len(columns))}")
    for group in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        members = [row for row in rows if tuple(row[key] for key in keys) == group]
        values = [np.array([row[name] for row in members], float) for name in columns]
        say(f"| {' | '.join(map(str, (*group, len(members), *map(told, values))))} |")


def told(values: np.ndarray) -> str:
    """The mean with its 95 % bootstrap interval over exams."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "–"
    low, high = bootstrap_interval(finite)
    return f"{finite.mean():.3f} ({low:.3f} to {high:.3f})"


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
