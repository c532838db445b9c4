"""Exams under one difficult condition each, otherwise clean: what a model has to hold up under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from BreastTumorSegLib.phantom.draft import Draft
from BreastTumorSegLib.phantom.lesions import LesionPlan

SMALLEST_CLEAN_MM = 10.0
"""A clean exam has one lesion of this diameter or more."""


def in_condition(draft: Draft, random: np.random.Generator, condition: str) -> Draft:
    """The exam as it would be in a condition, a key of `CONDITIONS`."""
    return CONDITIONS[condition](_clean(draft, random), random)


def _clean(draft: Draft, random: np.random.Generator) -> Draft:
    """A lesion, background enhancement from minimal to moderate, and a scanner that does what it should."""
    scanner, body = draft.scanner, draft.body
    lesion = draft.lesion or LesionPlan("lobulated", random.uniform(12, 35), "malignant")
    return replace(
        draft,
        body=replace(body, implant=False, enhancement=min(body.enhancement, 0.6)),
        scanner=replace(
            scanner,
            suppression_failure=min(scanner.suppression_failure, 0.1),
            noise=min(scanner.noise, 0.05),
            ghosts=min(scanner.ghosts, 0.03),
            motion=min(scanner.motion, 0.2),
            gain=min(scanner.gain, 0.05),
            clip=False,
        ),
        lesion=replace(lesion, diameter=max(lesion.diameter, SMALLEST_CLEAN_MM), foci=1),
    )


def _motion(draft: Draft, random: np.random.Generator) -> Draft:
    return replace(draft, scanner=replace(draft.scanner, motion=0.9, displacement=random.uniform(2, 4)))


def _fat(draft: Draft, random: np.random.Generator) -> Draft:
    failure, left = random.uniform(0.8, 1.0), random.uniform(0.3, 0.5)
    return replace(draft, scanner=replace(draft.scanner, suppression_failure=failure, fat_signal=left))


def _noise(draft: Draft, random: np.random.Generator) -> Draft:
    return replace(draft, scanner=replace(draft.scanner, noise=random.uniform(0.15, 0.25)))


def _background(draft: Draft, random: np.random.Generator) -> Draft:
    body = replace(draft.body, enhancement=random.uniform(1.2, 1.6), density=max(draft.body.density, 0.3))
    return replace(draft, body=body)


def _lost_phase(draft: Draft, _: np.random.Generator) -> Draft:
    """Without its first post-contrast phase, where another one is left."""
    times = draft.times
    return replace(draft, times=(times[0], *times[2:])) if len(times) > 2 else draft


def _implant(draft: Draft, _: np.random.Generator) -> Draft:
    return replace(draft, body=replace(draft.body, implant=True))


def _no_lesion(draft: Draft, _: np.random.Generator) -> Draft:
    return replace(draft, lesion=None)


def _small(draft: Draft, random: np.random.Generator) -> Draft:
    return replace(draft, lesion=LesionPlan("lobulated", random.uniform(5, 8), "malignant"))


CONDITIONS: dict[str, Callable[[Draft, np.random.Generator], Draft]] = {
    "clean": lambda draft, _: draft,
    "motion": _motion,
    "fat suppression failure": _fat,
    "low signal": _noise,
    "strong background": _background,
    "phase missing": _lost_phase,
    "implant": _implant,
    "no lesion": _no_lesion,
    "lesion under 8 mm": _small,
}
"""What each condition changes of a clean exam."""
