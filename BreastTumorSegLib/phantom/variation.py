"""Domain randomisation: exams that differ more than those of any site, to train networks for exams nobody has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from BreastTumorSegLib.phantom.anatomy import Body
from BreastTumorSegLib.phantom.decoys import draw_decoys
from BreastTumorSegLib.phantom.draft import Draft
from BreastTumorSegLib.phantom.lesions import LesionPlan, Shape, draw_lesion
from BreastTumorSegLib.phantom.scanner import Scanner
from BreastTumorSegLib.phantom.tofts import Sequence

Ingredient = Literal["lesions", "background", "gain", "scanner", "protocol", "anatomy", "decoys", "tissues"]
INGREDIENTS: tuple[Ingredient, ...] = get_args(Ingredient)
"""What varies; each can be left out, to see what it is good for."""

DUKE_MEDIAN_MM, DUKE_SIGMA = 31.5, 0.575
"""Median, and standard deviation of the logarithm, of the longest edge of the 922 lesion boxes of
Duke-Breast-Cancer-MRI, with 0.75 x 0.75 x 1.1 mm a voxel (its medians)."""
SMALL_SHARE, SMALL_MM = 0.4, (5.0, 20.0)
"""Duke's patients had cancers that were felt or seen. This share is of smaller lesions, log-evenly."""
LESION_FREE_SHARE = 0.15
IRREGULAR_SHARE = 0.45
SPREAD = 0.3
"""Of tissues, see `tissues.draw`."""


def varied(draft: Draft, random: np.random.Generator, without: Ingredient | None = None) -> Draft:
    """The exam with everything but one of the `INGREDIENTS` drawn anew from wide ranges.

    Every ingredient draws from a generator of its own, so that leaving one out leaves the others as they are.
    """
    streams = dict(zip(INGREDIENTS, random.spawn(len(INGREDIENTS)), strict=True))
    changes: dict[Ingredient, Callable[[Draft, np.random.Generator], Draft]] = {
        "lesions": lambda d, r: replace(d, lesion=_lesion(r)),
        "background": lambda d, r: replace(d, body=replace(d.body, enhancement=r.uniform(0.1, 1.6))),
        "gain": lambda d, r: replace(d, scanner=replace(d.scanner, gain=_gain(r))),
        "scanner": lambda d, r: replace(d, scanner=_scanner(d.scanner, r)),
        "protocol": _protocol,
        "anatomy": lambda d, r: replace(d, body=_body(d.body, r)),
        "decoys": lambda d, r: replace(d, decoys=draw_decoys(r)),
        "tissues": lambda d, _: replace(d, spread=SPREAD),
    }
    for name in INGREDIENTS:
        if name != without:
            draft = changes[name](draft, streams[name])
    return draft


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _lesion(random: np.random.Generator) -> LesionPlan | None:
    if random.random() < LESION_FREE_SHARE:
        return None
    plan = None
    while plan is None:
        plan = draw_lesion(random)
    if random.random() < SMALL_SHARE:
        diameter = _log_uniform(random, *SMALL_MM)
    else:
        diameter = float(np.clip(DUKE_MEDIAN_MM * random.lognormal(0, DUKE_SIGMA), 6, 100))
    shape: Shape = "irregular" if random.random() < IRREGULAR_SHARE else plan.shape
    return replace(plan, diameter=diameter, shape=shape)


def _gain(random: np.random.Generator) -> float:
    """In half of the exams, -10 to +46 % in the mean and up to twice that in places: the drift's mean is half of it."""
    return random.uniform(-0.2, 0.92) if random.random() < 0.5 else random.uniform(-0.05, 0.05)


def _scanner(scanner: Scanner, random: np.random.Generator) -> Scanner:
    fat = random.uniform(0.35, 1.0) if random.random() < 0.1 else random.uniform(0.05, 0.35)
    return replace(
        scanner,
        fat_signal=fat,
        suppression_failure=random.uniform(0.4, 1.0) if random.random() < 0.25 else random.uniform(0, 0.2),
        shading=random.uniform(0, 1.0),
        noise=_log_uniform(random, 0.012, 0.2),
        ghosts=random.uniform(0, 0.15) if random.random() < 0.5 else random.uniform(0, 0.04),
        phase_axis=int(random.choice([1, 2])),
        motion=random.uniform(0.3, 0.9) if random.random() < 0.3 else random.uniform(0, 0.3),
        displacement=random.uniform(0.5, 3.5) if random.random() < 0.25 else 0.0,
        clip=random.random() < 0.12,
    )


def _protocol(draft: Draft, random: np.random.Generator) -> Draft:
    """In half of the exams other times, contrast 45 to 300 s old in the first of them, and another sequence."""
    if random.random() < 0.5:
        return draft
    first, interval = _log_uniform(random, 60, 600), _log_uniform(random, 60, 340)
    count = int(random.integers(2, 8))
    times = (0.0, *(round(first + i * interval, 1) for i in range(count)))
    sequence = Sequence(random.uniform(0.0035, 0.012), random.uniform(9, 26))
    injection = round(max(first - _log_uniform(random, 45, 300), 0.0), 1)
    return replace(draft, times=tuple(t for t in times if t < 1300), injection=injection, sequence=sequence)


def _body(body: Body, random: np.random.Generator) -> Body:
    return replace(
        body,
        shoulders=random.random() < 0.7,
        muscle=random.uniform(6, 26),
        fat=random.uniform(3, 22),
        skin=random.uniform(1.2, 3.2),
        implant=random.random() < 0.06,
    )
