"""Threshold and peak of tumour models, by simulated exams and by lesions painted into real ones (docs/weights.md).

    python Testing/benchmarks/operating_point.py FOLDER... [--data DATA] [--write]

`models calibrate` goes by simulated exams alone, whose lesions are surer than real ones. Here threshold and peak go by
the mean of four numbers: the score, the share found of the lesions that can be seen, the share of exams without lesion
that stay empty, and the share found of the lesions that `inserted.py` paints, each as it is and with surroundings twice
as bright. Taken is the best point with at most as many false lesions as `models calibrate` allows. The temperature is
that of the calibration exams, the weights by which lesions are told are those of all simulated ones. With `--write`
what was chosen is written into the FOLDER's model.json. Three hours or more and 10 GB of memory for each model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import chain, product
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
from BreastTumorSegLib.phantom.simulate import Change, SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import SITES, TRAINING_SITES
from BreastTumorSegLib.phantom.variation import varied
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
PATIENTS = (720_003, 720_004, 720_020, 720_021, 720_030, 720_031, 720_032)
"""Beside the calibration exams, patients of each site under every condition."""
IN_TURN = tuple(720_040 + number for number in range(50) if number % 10 in (2, 5, 8, 9))
"""Patients of each site under one condition each, with lesions. Further ones up to 720,089 are without, or varied."""
WITHOUT_LESION = (
    *range(720_005, 720_020),
    *range(720_022, 720_027),
    *range(720_033, 720_040),
    *(720_040 + number for number in range(50) if number % 10 in (0, 3, 6)),
)
"""More patients of each site, without lesion."""
VARIED = (*range(725_300, 725_318), *range(725_340, 725_358))
"""Varied exams of each site of the training."""
VARIED_EVERYWHERE = tuple(725_400 + number for number in range(50) if number % 10 in (1, 4, 7))
"""Varied exams of each site, also of the one left out."""
PLACES = 12
BRIGHTER = 2.0
"""Of every painted lesion's surroundings, in its second form."""

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
    """The best one, of those with few false lesions if there are any."""
    offered = list(choices)
    careful = [choice for choice in offered if choice.false_positives <= MOST_FALSE] or offered
    return max(careful, key=lambda choice: choice.worth)


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


def simulated(sites: Iterable[str], seeds: Iterable[int], changes: Sequence[Change]) -> Iterator[SimulatedExam]:
    """Patients of sites, each changed in every way."""
    for site, seed, change in product(sites, seeds, changes):
        yield simulate_exam(site, seed, SPACING_MM, change=change)


def in_turn(conditions: Sequence[Change]) -> Iterator[SimulatedExam]:
    """Patients of every site, each under one of the conditions."""
    for (patient, seed), (place, site) in product(enumerate(IN_TURN), enumerate(SITES)):
        yield simulate_exam(site, seed, SPACING_MM, change=conditions[(patient + place) % len(conditions)])


def look_at_all(bundle: Bundle, data: Path) -> tuple[float, LesionWeights | None, list[Choice]]:
    """Temperature, weights and every choice of a model."""
    breast = load_bundle(default_model("breast"), "breast")
    calibration = look_at_exams(bundle, breast, CPU, Events())
    conditions = {name: partial(in_condition, condition=name) for name in CONDITIONS}
    more = chain(
        simulated(SITES, PATIENTS, list(conditions.values())),
        simulated(TRAINING_SITES, VARIED, [varied]),
        simulated(SITES, VARIED_EVERYWHERE, [varied]),
        in_turn([change for name, change in conditions.items() if name != "no lesion"]),
    )
    others, free = (
        [look_at(truth, bundle, breast, CPU) for truth in truths]
        for truths in (more, simulated(SITES, WITHOUT_LESION, [conditions["no lesion"]]))
    )
    painted = (
        look(form.exam, form.seen.breast, form.lesion, form.lesion, bundle, CPU)
        for case in cases(data, PLACES)
        for form in (case, with_surroundings(case, BRIGHTER))
    )
    exams = [*calibration, *others]
    temperature = fitting_temperature(calibration)
    weights = fitting_weights(bundle.description, [*exams, *free], temperature, Events())
    return temperature, weights, choices(exams, free, painted, temperature, weights)


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
