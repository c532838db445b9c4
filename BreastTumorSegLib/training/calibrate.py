"""Temperature, threshold and peak of a tumour model, chosen on simulated exams that nothing else uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from typing import TypeVar

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from BreastTumorSegLib.core.boxes import bounding_box
from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.metrics.detection import match_lesions
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import Bundle, LesionWeights, ModelDescription
from BreastTumorSegLib.phantom.conditions import CONDITIONS, in_condition
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import TRAINING_SITES
from BreastTumorSegLib.phantom.variation import varied
from BreastTumorSegLib.phantom.visibility import faint
from BreastTumorSegLib.segmentation.breast import BreastMask, segment_breast
from BreastTumorSegLib.segmentation.candidates import FEATURES, LEAST_SURE, Candidate, features
from BreastTumorSegLib.segmentation.lesions import label_lesions
from BreastTumorSegLib.segmentation.resample import crop
from BreastTumorSegLib.segmentation.tumor import grown_candidates, tumor_probability

SEEDS = 720_000
"""Of the exams; `docs/weights.md` says which seeds are for what."""
VARIED_SEEDS = 5_000
"""From so many later on, those of varied exams."""
SPACING_MM = 2.0
MOST_FALSE = 0.5
"""False lesions an exam."""
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PEAKS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.91, 0.93, 0.95, 0.97, 0.98, 0.99)
FITTING_THRESHOLD = 0.4
"""Candidates that weights are fitted to are connected at it, whatever threshold is chosen later."""
FEWEST = 20
"""Lesions and other candidates that weights are fitted to; with fewer there are none."""
Figures = TypeVar("Figures")
SUREST = 1 - 2.0**-24
"""Probabilities are told in single precision, which knows none between this and 1."""


@dataclass(frozen=True)
class Calibration:
    """What was chosen, and how good it is on the exams that it was chosen on.

    Chosen is the best score among the choices with at most `MOST_FALSE` false lesions an exam; where none has so few,
    the one with the fewest.

    Attributes:
        temperature, threshold, peak, lesion_weights: As of `ModelDescription`.
        score: Mean over exams of the Dice of the whole tumour mask; in an exam without lesion 1 where nothing is found.
        false_positives: False lesions an exam.
        empty: Share of the exams without lesion in which nothing is found.
    """

    temperature: float
    threshold: float
    peak: float
    score: float
    false_positives: float
    empty: float
    lesion_weights: LesionWeights | None = None

    def of(self, bundle: Bundle) -> ModelDescription:
        """A bundle's description with what was chosen."""
        names = ("temperature", "threshold", "peak", "lesion_weights")
        chosen: dict[str, object] = {name: getattr(self, name) for name in names}
        chosen |= {"averaged_with_sha256": bundle.partner.sha256 if bundle.partner else None}
        return ModelDescription.model_validate(bundle.description.model_dump() | chosen)


@dataclass(frozen=True)
class Seen:
    """The box of an exam's breasts and tumour: what the network says there, and the truth; all (Z, Y, X).

    `visible` is the part of the tumour that can be told from its surroundings.
    """

    logits: np.ndarray
    gain: np.ndarray
    breast: np.ndarray
    tumor: np.ndarray
    visible: np.ndarray
    geometry: Geometry

    def probability(self, temperature: float) -> np.ndarray:
        """Of tumour, 0 outside the breasts."""
        return np.where(self.breast, expit(self.logits / temperature), 0)

    def candidates(
        self,
        temperature: float,
        threshold: float,
        peak: float = 0.0,
        weights: LesionWeights | None = None,
        events: Events | None = None,
    ) -> list[Candidate]:
        """Those of `grown_candidates`; its errors."""
        probability = self.probability(temperature)
        return grown_candidates(probability, self.gain, self.breast, self.geometry, threshold, peak, weights, events)


def _exams(patients: int, first_seed: int) -> Iterator[SimulatedExam]:
    """Of each site of the training so many patients, each in every condition, and as many varied ones.

    Conditions alone would be few patients, and all like those of a site.
    """
    conditions = [partial(in_condition, condition=name) for name in CONDITIONS]
    for site in TRAINING_SITES:
        for number in range(patients * len(conditions)):
            patient, condition = divmod(number, len(conditions))
            yield simulate_exam(site, first_seed + patient, SPACING_MM, change=conditions[condition])
            yield simulate_exam(site, first_seed + VARIED_SEEDS + number, SPACING_MM, change=varied)


def calibrate(
    bundle: Bundle, breast: Bundle, device: torch.device, events: Events, patients: int = 2, seeds: int = SEEDS
) -> Calibration:
    """Choose temperature, threshold and peak for a tumour model with contrast.

    The temperature has the least cross-entropy over the voxels of the breasts. Lesions are told among candidates by
    `fitting_weights`. Threshold and peak are the best ones for growing, also of a model that names a network for
    refinement.

    Args:
        breast: The model that finds the breasts.
        patients: Of each site, simulated in every condition; beside them come as many varied exams.

    Raises:
        ModelError: The model does not find tumours by contrast, or the breast model finds no breast.
        Cancelled: On request.
    """
    seen = look_at_exams(bundle, breast, device, events, patients, seeds)
    temperature = fitting_temperature(seen)
    weights = fitting_weights(bundle.description, seen, temperature, events)
    return best(choices(seen, temperature, weights, events))


def look_at_exams(
    bundle: Bundle, breast: Bundle, device: torch.device, events: Events, patients: int = 2, seeds: int = SEEDS
) -> list[Seen]:
    """What `calibrate` looks at; arguments and errors are its."""
    if bundle.description.task != "tumor" or not bundle.description.needs_contrast:
        raise ModelError(f"{bundle.description.name!r} does not find tumours by contrast.", "Name a model that does.")
    total = 2 * patients * len(TRAINING_SITES) * len(CONDITIONS)
    seen = []
    for number, truth in enumerate(_exams(patients, seeds)):
        events.progress("calibrate", number, total)
        seen.append(look_at(truth, bundle, breast, device))
    if not any(each.breast.any() for each in seen):
        raise ModelError(f"{breast.description.name!r} finds no breast.", "Install a whole-breast model.")
    return seen


def look_at(truth: SimulatedExam, bundle: Bundle, breast: Bundle, device: torch.device) -> Seen:
    """A simulated exam as `look` sees it, with the breasts that a model finds."""
    exam, tumor = truth.exam, truth.tumor.numpy()
    mask = segment_breast(exam.pre, exam.geometry, breast, device, Events())
    unseen = faint(exam.first_post - exam.pre, tumor, truth.breast.numpy() > 0, SPACING_MM)
    return look(exam, mask, tumor, tumor & ~unseen, bundle, device)


def look(
    exam: Exam, mask: BreastMask, tumor: np.ndarray, visible: np.ndarray, bundle: Bundle, device: torch.device
) -> Seen:
    """What `segment_exam` would see, up to the probability, with a temperature of 1; masks are bool (Z, Y, X)."""
    cold = replace(bundle, description=bundle.description.model_copy(update={"temperature": 1.0}))
    probability = tumor_probability(exam, mask, cold, device, Events())
    box = bounding_box((mask.labels > 0) | tumor)
    inside = np.clip(probability[box].astype(float), 1 - SUREST, SUREST)
    logits = np.log(inside / (1 - inside)).astype(np.float32)
    gain = exam.first_post[box] - exam.pre[box]
    return Seen(logits, gain, mask.labels[box] > 0, tumor[box], visible[box], crop(exam.geometry, box))


def choices(
    seen: Sequence[Seen], temperature: float, weights: LesionWeights | None, events: Events
) -> list[Calibration]:
    """Every threshold and peak, and how good they are on these exams.

    Raises:
        Cancelled: On request.
    """
    judged: dict[tuple[float, float], list[tuple[float, int]]] = {}
    lesion = np.array([each.tumor.any() for each in seen])
    for number, each in enumerate(seen):
        events.progress("choose", number, len(seen))
        for threshold in THRESHOLDS:
            for peak, figures in measured(each, temperature, threshold, weights, score_of):
                judged.setdefault((threshold, peak), []).append(figures)
    told = [_judged(temperature, *chosen, np.array(figures), lesion) for chosen, figures in judged.items()]
    return [replace(choice, lesion_weights=weights) for choice in told]


def _judged(temperature: float, threshold: float, peak: float, figures: np.ndarray, lesion: np.ndarray) -> Calibration:
    """A choice with its scores and false lesions, (N, 2), of exams of which some have a `lesion`, bool (N,)."""
    score, false = figures.mean(axis=0)
    empty = figures[~lesion, 0].mean()
    told = (round(float(score), 4), round(float(false), 3), round(float(empty), 3))
    return Calibration(round(temperature, 3), threshold, peak, *told)


def best(choices: Sequence[Calibration]) -> Calibration:
    """The one to take, see `Calibration`."""
    careful = [choice for choice in choices if choice.false_positives <= MOST_FALSE]
    if careful:
        return max(careful, key=lambda choice: choice.score)
    return min(choices, key=lambda choice: choice.false_positives)


def fitting_temperature(seen: Sequence[Seen]) -> float:
    """The temperature with the least cross-entropy over the voxels of the breasts."""
    logits = np.concatenate([each.logits[each.breast] for each in seen]).astype(float)
    signs = np.concatenate([np.where(each.tumor[each.breast], -1.0, 1.0) for each in seen])

    def cross_entropy(log_temperature: float) -> float:
        return float(np.logaddexp(0, signs * logits / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-2, 3), method="bounded").x))


def fitting_weights(
    described: ModelDescription, seen: Sequence[Seen], temperature: float, events: Events
) -> LesionWeights | None:
    """By which lesions are told among the candidates of these exams.

    A candidate that touches the tumour is a lesion, even where nobody can see it. None for a model that names a network
    for refinement, and with fewer than `FEWEST` candidates of either kind.

    Raises:
        Cancelled: On request.
    """
    if described.refined_by:
        return None
    told, lesion = [np.empty((0, len(FEATURES)))], [np.empty(0, bool)]
    for number, each in enumerate(seen):
        events.progress("weights", number, len(seen))
        grown = each.candidates(temperature, FITTING_THRESHOLD, LEAST_SURE)
        told.append(features(grown, each.probability(temperature), each.gain, each.breast, each.geometry))
        lesion.append(np.array([each.tumor[part.box][part.mask].any() for part in grown], bool))
    return _fitted(np.concatenate(told), np.concatenate(lesion))


def _fitted(rows: np.ndarray, lesion: np.ndarray) -> LesionWeights | None:
    """Weights for features (N, F) as they are, fitted to them at a standard deviation of 1."""
    if min(lesion.sum(), (~lesion).sum()) < FEWEST:
        return None
    scale = StandardScaler().fit(rows)
    fitted = LogisticRegression().fit(scale.transform(rows), lesion)
    weights = fitted.coef_[0] / scale.scale_
    bias = fitted.intercept_[0] - weights @ scale.mean_
    return LesionWeights(bias=round(bias, 4), **{name: round(w, 4) for name, w in zip(FEATURES, weights, strict=True)})


def measured(
    seen: Seen,
    temperature: float,
    threshold: float,
    weights: LesionWeights | None,
    measure: Callable[[np.ndarray, Seen], Figures],
) -> Iterator[tuple[float, Figures]]:
    """For every peak what `measure` says of the mask that is reported, bool (Z, Y, X).

    Growing and measuring take the time: each part is grown once, each set of parts is measured once.
    """
    parts = seen.candidates(temperature, threshold, weights=weights)
    standing = np.array([part.standing for part in parts])
    known: dict[int, Figures] = {}  # by how many parts are left: those of a higher peak are among those of a lower one
    for peak in PEAKS:
        kept = standing >= peak
        if kept.sum() not in known:
            known[kept.sum()] = measure(_reported(list(compress(parts, kept)), seen), seen)
        yield peak, known[kept.sum()]


def score_of(reported: np.ndarray, seen: Seen) -> tuple[float, int]:
    """Score and false lesions of an exam, see `Calibration`."""
    return dice(reported, seen.tumor, empty=1.0), match_lesions(reported, seen.tumor).false_positives


def _reported(parts: Sequence[Candidate], seen: Seen) -> np.ndarray:
    mask = np.zeros(seen.tumor.shape, bool)
    for part in parts:
        mask[part.box] |= part.mask
    return label_lesions(mask, seen.geometry) > 0
