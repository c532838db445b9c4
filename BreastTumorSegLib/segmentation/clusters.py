"""Clusters of time-intensity curves that a network predicts from what is there before contrast."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.kinetics import cluster_curves
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.networks.inputs import normalised
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.tumor import field_of, within_breasts

OUTSIDE, NOT_ENHANCING = 0, 1
"""Classes of a network for clusters; cluster n is the class 1 + n."""


def require_fit(tumor: ModelDescription, bundle: Bundle) -> None:
    """Both must see the same voxels, and the one take as many classes as the other gives.

    Args:
        tumor: Of a model that takes maps.
        bundle: The one for "clusters" that they come from.

    Raises:
        ModelError: They don't fit together.
    """
    clusters = bundle.description
    pairs = {
        "name of the maps' model": (tumor.maps, clusters.name),
        "spacing_mm": (tumor.spacing_mm, clusters.spacing_mm),
        "field": (tumor.field, clusters.field),
        "phases": (tumor.phases, clusters.phases),
        "number of classes": (tumor.network.in_channels - 1, clusters.network.out_channels),
        "checksum of the maps' model": (tumor.maps_sha256 or bundle.sha256, bundle.sha256),
    }
    for what, (wanted, there) in pairs.items():
        if wanted != there:
            raise ModelError(
                f"{tumor.name!r} and its model for clusters {clusters.name!r} don't fit together: {what} is {wanted} "
                f"and {there}.",
                "Take the two that were trained together.",
            )


def true_classes(data: np.ndarray, times: tuple[float, ...], breast: np.ndarray, classes: int) -> np.ndarray:
    """Class of each voxel, uint8 (Z, Y, X), as the curves of a whole exam tell them.

    Args:
        data: (T, Z, Y, X), pre-contrast phase first.
        times: Seconds after the pre-contrast phase.
        breast: bool (Z, Y, X).
        classes: How many there are; two more than clusters.

    Raises:
        InputError: No codebook is shipped for so many clusters, or their number is out of range.
    """
    clusters = cluster_curves(data, times, breast, classes - 2, fit="population").labels
    return np.where(clusters > 0, clusters + 1, np.where(breast, NOT_ENHANCING, OUTSIDE)).astype(np.uint8)


def class_probabilities(bundle: Bundle, phases: Tensor, wanted: Tensor, device: torch.device, events: Events) -> Tensor:
    """Probabilities of the classes (K, Z, Y, X) float32 on the CPU.

    Args:
        bundle: For "clusters".
        phases: What the network sees, (C, Z, Y, X) on its grid, in the scanner's intensities.
        wanted: Where answers are wanted, bool (Z, Y, X).
    """
    image = normalised(phases, bundle.description.normalisation)
    return Engine(bundle, device, events).predict(image, wanted).softmax(0)


def class_maps(bundle: Bundle, phases: Tensor, breast: Tensor, device: torch.device, events: Events) -> Tensor:
    """Probabilities of the classes (K, Z, Y, X) on a whole grid; beyond the field that the model sees all is outside.

    Args:
        bundle: For "clusters".
        phases: (C, Z, Y, X) on its grid, in the scanner's intensities.
        breast: bool (Z, Y, X).
    """
    field = field_of(bundle.description, breast)
    maps = torch.zeros(bundle.description.network.out_channels, *breast.shape)
    maps[OUTSIDE] = 1
    inside = (slice(None), *field)
    everywhere = torch.ones_like(breast[field])  # who takes the maps looks at a breast's surroundings, too
    maps[inside] = class_probabilities(bundle, phases[inside], everywhere, device, events)
    return maps


def predicted_clusters(
    probabilities: np.ndarray, grid: Geometry, breast: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable cluster on the exam's grid, uint8 (Z, Y, X), and how unsure that is, float32, 0 to 1.

    The cluster is 0 where no enhancement is more probable, and outside the breasts. Unsure is the entropy of the
    classes as a share of its maximum, at which all classes are equally probable.

    Args:
        probabilities: Of the classes, (K, Z, Y, X) on `grid`.
        breast: Whole-breast mask (Z, Y, X) on `geometry`, the exam's grid.
    """
    labels = np.zeros(geometry.shape, np.uint8)
    most, entropy = np.zeros((2, *geometry.shape), np.float32)
    for number, values in enumerate(probabilities):  # one by one, as all of them are gigabytes
        share = within_breasts(values, grid, breast, geometry)
        labels[share > most] = max(number - NOT_ENHANCING, 0)
        np.maximum(most, share, out=most)
        entropy += entr(share)
    return labels, np.clip(entropy / np.float32(np.log(len(probabilities))), 0, 1)
