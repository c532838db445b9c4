"""An exam before anything is painted: what is drawn of it once, and what conditions and variations change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from BreastTumorSegLib.phantom.anatomy import Body, draw_body
from BreastTumorSegLib.phantom.decoys import Decoy
from BreastTumorSegLib.phantom.lesions import LesionPlan, draw_lesion
from BreastTumorSegLib.phantom.scanner import Scanner
from BreastTumorSegLib.phantom.sites import Site, draw_injection, draw_times
from BreastTumorSegLib.phantom.tofts import Sequence


@dataclass(frozen=True)
class Draft:
    """What an exam is made of.

    Attributes:
        body: The patient.
        side: -1 right or 1 left for an exam of one breast, 0 for both.
        times: Of the phases, seconds after the pre-contrast phase.
        injection: Of the contrast agent, in the same seconds.
        scanner: How it acquires.
        sequence: Its pulse sequence.
        lesion: What grows in the breast; None for nothing.
        decoys: What looks like a lesion and is none.
        spread: Extra variation of the tissues beyond physics, see `tissues.draw`.
    """

    body: Body
    side: int
    times: tuple[float, ...]
    injection: float
    scanner: Scanner
    sequence: Sequence
    lesion: LesionPlan | None
    decoys: tuple[Decoy, ...] = ()
    spread: float = 0.0


def draw_draft(site: Site, random: np.random.Generator, spread: float = 0.0) -> Draft:
    """A random exam of a site."""
    body = draw_body(random)
    side = _imaged_side(site, body, random)
    times = draw_times(site, random)
    injection = draw_injection(site, times, random.spawn(1)[0])
    scanner = Scanner.draw(random, site)
    sequence = Sequence(random.uniform(*site.tr), random.uniform(*site.flip))
    return Draft(body, side, times, injection, scanner, sequence, draw_lesion(random), spread=spread)


def _imaged_side(site: Site, body: Body, random: np.random.Generator) -> int:
    if random.random() < site.bilateral:
        return 0
    return int(random.choice([breast.side for breast in body.breasts]))
