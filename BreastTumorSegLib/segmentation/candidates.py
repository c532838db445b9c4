"""What a tumour network draws is a candidate; how likely each is a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from BreastTumorSegLib.core.boxes import Box, bounding_box
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.networks.bundle import LesionWeights

LEAST_SURE = 0.3
"""Where features tell lesions: what is less sure is no candidate, and does not count among the others."""

LOGIT_LIMIT = 1e-4
"""Probabilities are told no closer to 0 and 1 than this: beyond it the logit would tell nothing but rounding."""

FEATURES = tuple(name for name in LesionWeights.model_fields if name != "bias")
"""What `features` tells, in order."""


@dataclass(frozen=True)
class Candidate:
    """A component of the tumour probability, grown.

    Attributes:
        sure: How sure the network is of it (`segmentation.tumor.SURE_MM`).
        box: Of the volume.
        mask: Its voxels in the box, bool.
        likely: How likely it is a lesion, by `judged`; else None.
    """

    sure: float
    box: Box
    mask: np.ndarray
    likely: float | None = None

    @property
    def standing(self) -> float:
        """What is compared with a model's peak."""
        return self.sure if self.likely is None else self.likely


def judged(
    candidates: Sequence[Candidate], probability: np.ndarray, geometry: Geometry, weights: LesionWeights
) -> list[Candidate]:
    """All candidates of an exam, as likely as a logistic regression of their `features` makes them."""
    by_feature = np.array([getattr(weights, name) for name in FEATURES])
    told = expit(weights.bias + features(candidates, probability, geometry) @ by_feature)
    return [replace(each, likely=float(likely)) for each, likely in zip(candidates, told, strict=True)]


def features(candidates: Sequence[Candidate], probability: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The `FEATURES` of all candidates of an exam, float (N, 5).

    Logits of how sure the network is and of the mean probability; logarithms of the volume in ml, of the longest extent
    along an axis of the grid in mm, and of how many candidates there are: where much looks like a lesion, each is less
    likely one.

    Args:
        candidates: None is empty.
        probability: (Z, Y, X).
    """
    told = [_features(each, probability[each.box], geometry) for each in candidates]
    return np.array([(*row, np.log(len(candidates))) for row in told], float).reshape(-1, len(FEATURES))


def _features(candidate: Candidate, probability: np.ndarray, geometry: Geometry) -> tuple[float, float, float, float]:
    """All but the number; probability of the candidate's box."""
    logits = logit(np.clip([candidate.sure, probability[candidate.mask].mean()], LOGIT_LIMIT, 1 - LOGIT_LIMIT))
    edges = [part.stop - part.start for part in bounding_box(candidate.mask)]
    extent = max(np.multiply(edges, geometry.spacing_zyx))
    return *logits, np.log(candidate.mask.sum() * geometry.voxel_ml), np.log(extent)
