"""Threshold and peak of tumour models, by simulated exams and by lesions painted into real ones (docs/weights.md).

    python Testing/benchmarks/operating_point.py FOLDER... [--data DATA] [--write]

`models calibrate` goes by simulated exams alone, whose lesions are surer than real ones. Here threshold and peak go by
the mean of four numbers: the score, the share found of the lesions that can be seen, the share of exams without lesion
that stay empty, and the share found of the lesions that `inserted.py` paints, each as it is and with surroundings twice
as bright. Of all points nearly as good as the best one, with at most as many false lesions as `models calibrate`
allows, the one with the lowest peak is taken, and of these the one that draws the painted lesions best. Temperature
and the weights by which lesions are told are those of the calibration exams. With `--write` what was chosen is written
into the FOLDER's model.json. An hour or more for each model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from held_out import say
from inserted import cases, finds, with_surroundings
from real_exams import DATA

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.detection import match_lesions
from BreastTumorSegLib.networks.bundle import (
    Bundle,
    LesionWeights,
    default_model,
    load_bundle,
    read_bundle,
    write_description,
)
from BreastTumorSegLib.phantom.conditions import CONDITIONS, in_condition
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import SITES
from BreastTumorSegLib.segmentation.lesions import label_lesions
from BreastTumorSegLib.training.calibrate import (
    MOST_FALSE,
    SPACING_MM,
    THRESHOLDS,
    Calibration,
    Seen,
    fitting_temperature,
    fitting_weights,
    look,
    look_at,
    look_at_exams,
    measured,
    score_of,
)

CPU = torch.device("cpu")
FIRST_SEED, PATIENTS, WITHOUT_LESION = 720_003, 2, 17
"""Beside the calibration exams: so many patients of each site under every condition, and so many without a lesion."""
PLACES = 12
BRIGHTER = 2.0
"""Of every painted lesion's surroundings, in its second form."""
NEARLY = 0.015
"""Means no further apart than this count as equal: it is about the standard error of one. Of equal points the lowest
peak is best: a missed lesion is worse than a false one."""

Point = tuple[float, float]
"""Threshold and peak."""
Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Choice:
    """Threshold and peak, and the figures that they give; `drawn` is the Dice of the painted lesions that are found."""

    threshold: float
    peak: float
    score: float
    false_positives: float
    visible: float
    empty: float
    painted: float
    drawn: float

    @property
    def worth(self) -> float:
        """The mean of the four numbers."""
        return float(np.mean([self.score, self.visible, self.empty, self.painted]))


def chosen(choices: Iterable[Choice]) -> Choice:
    """Of those nearly as good as the best the lowest peak, and with it the threshold that draws best."""
    offered = list(choices)
    careful = [choice for choice in offered if choice.false_positives <= MOST_FALSE] or offered
    best = max(choice.worth for choice in careful)
    equal = [choice for choice in careful if choice.worth >= best - NEARLY]
    return min(equal, key=lambda each: (each.peak, -each.drawn))


def choices(
    exams: Iterable[Seen],
    free: Iterable[Seen],
    painted: Iterable[Seen],
    temperature: float,
    weights: LesionWeights | None,
) -> list[Choice]:
    """Every threshold and peak.

    Args:
        exams: Simulated exams, with and without lesions.
        free: More without, which tell whether they stay empty.
        painted: Real exams with a painted lesion each.
    """
    some, silent, hits = (
        tallied(seen, temperature, weights, measure)
        for seen, measure in ((exams, _figures), (free, score_of), (painted, _hit))
    )
    return [figures_of(point, some[point], silent[point], hits[point]) for point in some]


def figures_of(
    point: Point,
    exams: Sequence[tuple[float, int, int, int, bool]],
    free: Sequence[tuple[float, int]],
    painted: Sequence[tuple[bool, float]],
) -> Choice:
    """The figures of a point from what `_figures`, `score_of` and `_hit` say of every exam."""
    score, false, found, there, lesion = np.array(exams).T
    hit, overlap = np.array(painted).T
    empty = np.concatenate([score[lesion == 0], np.array(free)[:, 0]])
    drawn = overlap[hit > 0].mean() if hit.any() else 0.0
    told = score.mean(), false.mean(), found.sum() / there.sum(), empty.mean(), hit.mean(), drawn
    return Choice(*point, *map(float, told))


def tallied(
    exams: Iterable[Seen],
    temperature: float,
    weights: LesionWeights | None,
    measure: Callable[[np.ndarray, Seen], Figures],
) -> dict[Point, list[Figures]]:
    """For every threshold and peak what `measure` says of every exam."""
    tally: dict[Point, list[Figures]] = {}
    for each in exams:
        for threshold in THRESHOLDS:
            for peak, figures in measured(each, temperature, threshold, weights, measure):
                tally.setdefault((threshold, peak), []).append(figures)
    return tally


def _figures(reported: np.ndarray, seen: Seen) -> tuple[float, int, int, int, bool]:
    """Score, false lesions, visible lesions found and there, and whether there is any lesion."""
    visible = match_lesions(reported, seen.visible)
    return *score_of(reported, seen), visible.found, visible.reference, bool(seen.tumor.any())


def _hit(reported: np.ndarray, seen: Seen) -> tuple[bool, float]:
    return finds(label_lesions(reported, seen.geometry), seen.tumor)


def simulated(conditions: Iterable[str], first_seed: int, patients: int) -> Iterator[SimulatedExam]:
    """Patients of every site, also of the one left out, under conditions."""
    for site in SITES:
        for condition in conditions:
            for seed in range(first_seed, first_seed + patients):
                yield simulate_exam(site, seed, SPACING_MM, change=partial(in_condition, condition=condition))


def look_at_all(bundle: Bundle, data: Path) -> tuple[float, LesionWeights | None, list[Choice]]:
    """Temperature, weights and every choice of a model."""
    breast = load_bundle(default_model("breast"), "breast")
    calibration = look_at_exams(bundle, breast, CPU, Events())
    temperature = fitting_temperature(calibration)
    weights = fitting_weights(bundle.description, calibration, temperature, Events())
    more = simulated(["no lesion"], FIRST_SEED + PATIENTS, WITHOUT_LESION - PATIENTS)
    others, free = (
        (look_at(truth, bundle, breast, CPU) for truth in truths)
        for truths in (simulated(CONDITIONS, FIRST_SEED, PATIENTS), more)
    )
    painted = (
        look(form.exam, form.seen.breast, form.lesion, form.lesion, bundle, CPU)
        for case in cases(data, PLACES)
        for form in (case, with_surroundings(case, BRIGHTER))
    )
    return temperature, weights, choices(chain(calibration, others), free, painted, temperature, weights)


def main() -> None:
    """A line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--write", action="store_true", help="write what was chosen into model.json")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"{options.data} is not a folder: the exams that lesions are painted into are missing.")
    heads = "temperature | threshold | peak | score | false an exam | visible lesions found | empty where no lesion"
    say(f"| | {heads} | painted lesions found | Dice of these | mean of four |\n|{'---|' * 11}")
    for folder in options.models:
        bundle = read_bundle(folder)
        temperature, weights, offered = look_at_all(bundle, options.data)
        best = chosen(offered)
        told = " | ".join(f"{value:.3g}" for value in astuple(best))
        say(f"| {folder.name} | {temperature:.3f} | {told} | {best.worth:.4f} |")
        if options.write:
            calibration = Calibration(
                round(temperature, 3), best.threshold, best.peak, best.score, best.false_positives, best.empty, weights
            )
            write_description(calibration.of(bundle), folder)


if __name__ == "__main__":
    main()
