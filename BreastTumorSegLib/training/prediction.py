"""Whole exams through a network that is trained, or was."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.nn import functional

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription
from BreastTumorSegLib.networks.inputs import intensity_scale, pad_to_multiple
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.tumor import field_of
from BreastTumorSegLib.training.samples import thinned
from BreastTumorSegLib.training.volumes import TrainingVolume

Predictor = Callable[[Tensor, Tensor], Tensor]
"""Logits (Z, Y, X) on the CPU of an image (C, Z, Y, X), right where wanted, bool (Z, Y, X)."""

WINDOW_OVERLAP = 0.5


def sliding_windows(network: nn.Module, patch: tuple[int, int, int], device: torch.device) -> Predictor:
    """Windows of the size of a patch, half of it overlapping, blended by a Gaussian; each normalises for itself."""

    def predict(image: Tensor, wanted: Tensor) -> Tensor:
        lacking = [max(size - have, 0) for size, have in zip(patch, image.shape[1:], strict=True)]
        z, y, x = lacking
        padded = functional.pad(image, (0, x, 0, y, 0, z), value=float(image.min()))[None]
        logits = sliding_window_inference(
            padded, patch, 4, network, WINDOW_OVERLAP, mode="gaussian", sw_device=device, device=torch.device("cpu")
        )
        assert isinstance(logits, Tensor)
        return logits[0, 0, : wanted.shape[0], : wanted.shape[1], : wanted.shape[2]]

    return predict


def one_pass(network: nn.Module, multiple: int, device: torch.device) -> Predictor:
    """The whole image at once."""

    def predict(image: Tensor, wanted: Tensor) -> Tensor:
        logits = network(pad_to_multiple(image, multiple)[None].to(device))[0, 0].float().cpu()
        return logits[: wanted.shape[0], : wanted.shape[1], : wanted.shape[2]]

    return predict


def by_engine(bundle: Bundle, device: torch.device, events: Events) -> Predictor:
    """As `segment` does it."""
    engine = Engine(bundle, device, events)
    return lambda image, wanted: engine.predict(image, wanted)[0]


@torch.inference_mode()
def predict_probability(volume: TrainingVolume, description: ModelDescription, predict: Predictor) -> Tensor:
    """Probability (Z, Y, X) float32 on a volume's grid; 0 outside the field that the model sees."""
    field = field_of(description, volume.breast)
    phases = [volume.phases[{"pre": 0, "first_post": 1}[name]] for name in description.phases]
    scale = intensity_scale(thinned(phases, field), description.normalisation)
    image = scale(torch.stack([phase[field].float() for phase in phases]))
    probability = torch.zeros(volume.label.shape)
    probability[field] = torch.sigmoid(predict(image, torch.ones(image.shape[1:], dtype=torch.bool)))
    return probability
