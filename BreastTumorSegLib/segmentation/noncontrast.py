"""Lesions and predicted clusters from the pre-contrast phase alone, for patients who can't have a contrast agent.

After Xie et al., "Tumor segmentation with heterogeneity clustering in non-contrast breast MRI", sections 2.2 and 2.3: a
network predicts the clusters that curves would have, and a second one segments with the image and that prediction.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.special import entr

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.core.result import NonContrastResult
from BreastTumorSegLib.networks.bundle import Bundle, load_bundle
from BreastTumorSegLib.networks.inputs import normalised
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.clusters import class_probabilities, predicted_clusters, require_fit
from BreastTumorSegLib.segmentation.engine import Engine, EngineOptions
from BreastTumorSegLib.segmentation.lesions import label_lesions, measure_noncontrast_lesions
from BreastTumorSegLib.segmentation.resample import resample
from BreastTumorSegLib.segmentation.stopwatch import Stopwatch
from BreastTumorSegLib.segmentation.tumor import seen_by, within_breasts


def load_clusters_model(tumor: Bundle, folder: Path | None = None) -> Bundle:
    """The model for clusters whose probabilities a tumour model without contrast takes.

    Raises:
        ModelError: None is named; it is missing or damaged; or the two don't fit together.
    """
    described = tumor.description
    if described.maps is None:
        raise ModelError(
            f"{described.name!r} sees the pre-contrast phase alone, and names no model that predicts clusters.",
            "Choose a model with maps in its model.json.",
        )
    clusters = load_bundle(described.maps, "clusters", folder)
    require_fit(described, clusters)
    return clusters


def segment_noncontrast(
    exam: Exam,
    breast: BreastMask,
    clusters_bundle: Bundle,
    tumor_bundle: Bundle,
    device: torch.device,
    options: EngineOptions | None,
    events: Events,
    watch: Stopwatch,
) -> NonContrastResult:
    """Clusters, lesions, and where the networks are unsure, from the first phase alone, whatever else the exam has.

    A lesion is what the tumour network draws at its threshold: growing it would need enhancement.

    Args:
        breast: The whole-breast mask.
        clusters_bundle, tumor_bundle: Two that fit together, see `load_clusters_model`.
        watch: Times the stages "clusters", "tumor" and "lesions".
    """
    described = tumor_bundle.description
    count = clusters_bundle.description.network.out_channels - 2
    if not breast.labels.any():
        none, nowhere = np.zeros(exam.geometry.shape, np.uint8), np.zeros(exam.geometry.shape, np.float32)
        return NonContrastResult(exam, breast.labels, none, nowhere, none, count, nowhere, ())
    grid, inside = seen_by(described, breast, exam.geometry)
    phase = torch.from_numpy(resample(exam.pre, exam.geometry, grid))[None]
    with watch.stage("clusters"):
        # The second network looks at a breast's surroundings, too.
        classes = class_probabilities(clusters_bundle, phase, torch.ones_like(inside), device, events)
        predicted, unsure = predicted_clusters(classes.numpy(), grid, breast.labels, exam.geometry)
    with watch.stage("tumor"):
        image = torch.cat([normalised(phase, described.normalisation), classes])
        logits = Engine(tumor_bundle, device, events, options).predict(image, inside)
        probability = within_breasts(described.probability(logits[0]).numpy(), grid, breast.labels, exam.geometry)
        tumor = label_lesions(probability >= described.threshold, exam.geometry)
    with watch.stage("lesions"):
        lesions = measure_noncontrast_lesions(tumor, probability, breast.labels, exam.geometry, predicted, count)
    uncertainty = np.maximum(unsure, binary_entropy(probability))
    return NonContrastResult(exam, breast.labels, tumor, probability, predicted, count, uncertainty, lesions)


def binary_entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of a probability of one thing or its opposite, in bits: 0 where it is 0 or 1, and 1 where it is 0.5."""
    return (entr(probability) + entr(1 - probability)) / np.float32(np.log(2))
