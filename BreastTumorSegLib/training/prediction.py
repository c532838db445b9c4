"""Whole exams through a network that is trained, or was."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.nn import functional

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import first_post_index
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.networks.catalogue import NetworkConfig, at_times
from BreastTumorSegLib.networks.inputs import intensity_scale, pad_to_multiple, seconds_after_injection
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.tumor import field_of, shown
from BreastTumorSegLib.training.samples import Box, thinned
from BreastTumorSegLib.training.volumes import TrainingVolume

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (K, Z, Y, X) on the CPU of an image (C, Z, Y, X) with times (C,), right where wanted, bool (Z, Y, X)."""

WINDOW_OVERLAP = 0.5


def sliding_windows(
    network: nn.Module, config: NetworkConfig, patch: tuple[int, int, int], device: torch.device
) -> Predictor:
    """Windows of the size of a patch, half of it overlapping, blended by a Gaussian; each normalises for itself."""

    def predict(image: Tensor, times: Tensor, wanted: Tensor) -> Tensor:
        bound = at_times(network, config, times.to(device))
        lacking = [max(size - have, 0) for size, have in zip(patch, image.shape[1:], strict=True)]
        z, y, x = lacking
        padded = functional.pad(image, (0, x, 0, y, 0, z), value=float(image.min()))[None]
        logits = sliding_window_inference(
            padded, patch, 4, bound, WINDOW_OVERLAP, mode="gaussian", sw_device=device, device=torch.device("cpu")
        )
        assert isinstance(logits, Tensor)
        return logits[0, :, : wanted.shape[0], : wanted.shape[1], : wanted.shape[2]]

    return predict


def one_pass(network: nn.Module, config: NetworkConfig, device: torch.device) -> Predictor:
    """The whole image at once."""

    def predict(image: Tensor, times: Tensor, wanted: Tensor) -> Tensor:
        bound = at_times(network, config, times.to(device))
        logits = bound(pad_to_multiple(image, config.multiple)[None].to(device))[0].float().cpu()
        return logits[:, : wanted.shape[0], : wanted.shape[1], : wanted.shape[2]]

    return predict


def by_engine(bundle: Bundle, device: torch.device, events: Events) -> Predictor:
    """As `segment` does it."""
    engine = Engine(bundle, device, events)
    return lambda image, times, wanted: engine.predict(image, wanted, times)


@torch.inference_mode()
def predict_probability(volume: TrainingVolume, description: ModelDescription, predict: Predictor) -> Tensor:
    """Probability (Z, Y, X) float32 on a volume's grid; 0 outside the field that the model sees."""
    field, logits = _field_logits(volume, description, predict)
    probability = torch.zeros(volume.label.shape)
    probability[field] = description.probability(logits[0])
    return probability


@torch.inference_mode()
def predict_classes(volume: TrainingVolume, description: ModelDescription, predict: Predictor) -> Tensor:
    """The most probable class of clusters, uint8 (Z, Y, X) on a volume's grid; 0 outside the field."""
    field, logits = _field_logits(volume, description, predict)
    classes = torch.zeros(volume.label.shape, dtype=torch.uint8)
    classes[field] = logits.argmax(0).to(torch.uint8)
    return classes


def _field_logits(volume: TrainingVolume, description: ModelDescription, predict: Predictor) -> tuple[Box, Tensor]:
    """What the model sees of a volume, and its logits (K, Z, Y, X) there."""
    field = field_of(description, volume.breast)
    chosen = description.phases_of(volume.times)
    phases, times = volume.phases[chosen][(slice(None), *field)].float(), tuple(volume.times[i] for i in chosen)
    phases = shown(description, phases, volume.breast[field])
    image = intensity_scale(thinned(phases), description.normalisation, first_post_index(times))(phases)
    if volume.maps is not None:
        image = torch.cat([image, volume.maps[(slice(None), *field)] / 255])
    everywhere = torch.ones(image.shape[1:], dtype=torch.bool)
    return field, predict(image, seconds_after_injection(times), everywhere)
