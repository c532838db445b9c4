"""What a tumour network draws is a candidate; how likely each is a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.special import expit, logit

from BreastTumorSegLib.core.boxes import Box, bounding_box, widened
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.networks.bundle import LesionWeights

LEAST_SURE = 0.3
"""Where features tell lesions: what is less sure is no candidate."""

LOGIT_LIMIT = 1e-4
"""Probabilities are told no closer to 0 and 1 than this: beyond it the logit would tell nothing but rounding."""

SURROUNDINGS_MM = (2.0, 8.0)
"""From a candidate: nearer than this is its own blurred edge."""

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
    candidates: Sequence[Candidate],
    probability: np.ndarray,
    enhancement: np.ndarray,
    breast: np.ndarray,
    geometry: Geometry,
    weights: LesionWeights,
) -> list[Candidate]:
    """The candidates of an exam, each as likely as a logistic regression of its `features` makes it."""
    by_feature = np.array([getattr(weights, name) for name in FEATURES])
    told = expit(weights.bias + features(candidates, probability, enhancement, breast, geometry) @ by_feature)
    return [replace(each, likely=float(likely)) for each, likely in zip(candidates, told, strict=True)]


def features(
    candidates: Sequence[Candidate],
    probability: np.ndarray,
    enhancement: np.ndarray,
    breast: np.ndarray,
    geometry: Geometry,
) -> np.ndarray:
    """The `FEATURES` of candidates, float (N, 5).

    Logits of how sure the network is and of the mean probability; logarithms of the volume in ml and of the longest
    extent along an axis of the grid in mm; and `surroundings`.

    Args:
        candidates: None is empty.
        probability: (Z, Y, X).
        enhancement: First post-contrast minus pre-contrast phase, (Z, Y, X).
        breast: bool (Z, Y, X).
    """
    told = [
        (*_own(each, probability[each.box], geometry), surroundings(each, enhancement, breast, geometry))
        for each in candidates
    ]
    return np.array(told, float).reshape(-1, len(FEATURES))


def _own(candidate: Candidate, probability: np.ndarray, geometry: Geometry) -> tuple[float, float, float, float]:
    """The features of a candidate itself, all but the last; probability of its box."""
    logits = logit(np.clip([candidate.sure, probability[candidate.mask].mean()], LOGIT_LIMIT, 1 - LOGIT_LIMIT))
    edges = [part.stop - part.start for part in bounding_box(candidate.mask)]
    extent = max(np.multiply(edges, geometry.spacing_zyx))
    return *logits, np.log(candidate.mask.sum() * geometry.voxel_ml), np.log(extent)


def surroundings(candidate: Candidate, enhancement: np.ndarray, breast: np.ndarray, geometry: Geometry) -> float:
    """How much the breast around a candidate enhances, as a share of its own mean enhancement, 0 to 1.

    Nodes, vessels and the nipple lie in fat, where it is little. 0 where the candidate does not enhance, or has no
    breast around it.
    """
    nearest, farthest = SURROUNDINGS_MM
    z, y, x = (int(np.ceil(farthest / step)) for step in geometry.spacing_zyx)
    box = widened(candidate.box, (z, y, x), breast.shape)
    margins = [(own.start - wide.start, wide.stop - own.stop) for own, wide in zip(candidate.box, box, strict=True)]
    away = distance_transform_edt(~np.pad(candidate.mask, margins), geometry.spacing_zyx)
    around = breast[box] & (away > nearest) & (away <= farthest)
    inside = enhancement[candidate.box][candidate.mask].mean()
    if inside <= 0 or not around.any():
        return 0.0
    return float(np.clip(enhancement[box][around].mean() / inside, 0, 1))
