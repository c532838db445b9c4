"""Four sites that imitate the collections of MAMA-MIA: field of view, spacing, phases and their times.

Figures are those of tables 2 and 3 of the MAMA-MIA data descriptor (Garrucho et al., Sci. Data 12:453, 2025). A fifth
site, TCGA, has the grid of a sagittal GE exam of TCGA-BRCA, whose times are not recorded, and is in no training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Site:
    """How one site acquires.

    Attributes:
        plane: "axial" or "sagittal".
        bilateral: Share of exams that show both breasts; the others are cropped to one.
        in_plane: Range of the pixel spacing, mm.
        slice: Range of the slice spacing, mm.
        phases: Range of the number of phases, pre-contrast included.
        first_post: Mean of the first post-contrast phase's time, seconds after the pre-contrast phase, as recorded.
        interval: Mean time between post-contrast phases, seconds.
        noise: Range of the noise's standard deviation, as a share of the gland's signal.
        flip: Range of the flip angle, degrees.
        tr: Range of the repetition time, seconds.
    """

    plane: str
    bilateral: float
    in_plane: tuple[float, float]
    slice: tuple[float, float]
    phases: tuple[int, int]
    first_post: float
    interval: float
    noise: tuple[float, float]
    flip: tuple[float, float] = (10.0, 14.0)
    tr: tuple[float, float] = (0.004, 0.006)


SITES = {
    "DUKE": Site("axial", 1.0, (0.70, 0.85), (1.0, 1.2), (4, 6), 241, 118, (0.02, 0.07)),
    "ISPY1": Site("sagittal", 0.0, (0.70, 0.90), (2.1, 2.6), (3, 3), 390, 300, (0.03, 0.11), (18, 24), (0.008, 0.012)),
    "ISPY2": Site("axial", 0.17, (0.65, 0.85), (1.8, 2.2), (6, 8), 145, 92, (0.02, 0.07)),
    "NACT": Site("sagittal", 0.0, (0.65, 0.80), (2.0, 2.2), (3, 3), 442, 340, (0.03, 0.11), (18, 24), (0.008, 0.012)),
    "TCGA": Site("sagittal", 0.0, (0.80, 0.90), (2.8, 3.2), (5, 7), 110, 95, (0.02, 0.09), (10, 20), (0.005, 0.009)),
}
LEFT_OUT = "TCGA"
"""No network learns from this site, so that it tells how one does at a new one."""
TRAINING_SITES = tuple(name for name in SITES if name != LEFT_OUT)


LONGEST_DELAY_S = 45.0
"""From the injection to the start of the first post-contrast scan; an assumption."""


def draw_injection(site: Site, times: tuple[float, ...], random: np.random.Generator) -> float:
    """Time of the injection, in seconds after the pre-contrast phase.

    A model of ours: scans follow each other without a pause, so that one takes an interval, and shows the contrast of
    its middle. It gives 150 to 195 s for I-SPY1, whose files have 390 s between the first two phases; UCSF's software
    for its functional tumour volume takes the early phase for one of about 150 s.
    """
    middle = site.interval / 2 + random.uniform(0, LONGEST_DELAY_S)
    return round(max(times[1] - middle, 0.0), 1) if len(times) > 1 else 0.0


def draw_times(site: Site, random: np.random.Generator) -> tuple[float, ...]:
    """Times of the phases in seconds after the pre-contrast phase."""
    count = int(random.integers(site.phases[0], site.phases[1] + 1))
    first = float(np.clip(site.first_post * random.lognormal(-0.016, 0.18), 60, 900))
    step = site.interval * random.lognormal(0, 0.1)
    return (0.0, *(round(first + i * step, 1) for i in range(count - 1)))
