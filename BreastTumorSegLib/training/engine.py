"""The training loop."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import PolynomialLR
from torch.optim.swa_utils import AveragedModel

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import load_bundle, save_bundle
from BreastTumorSegLib.networks.resunet import resunet
from BreastTumorSegLib.training.config import TrainingConfig
from BreastTumorSegLib.training.data import samples

CROSS_ENTROPY_WEIGHT = 5.0
Weights = tuple[Tensor, ...] | list[Tensor]


def train(config: TrainingConfig, device: str = "cpu", events: Events | None = None) -> None:
    """Train a bundle on simulated exams and save it, with averaged weights, into `config.out`.

    Raises:
        Cancelled: On request; the last saved bundle stays.
    """
    events = events or Events()
    torch.manual_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / f"{config.model.name}.training.json").write_text(config.model_dump_json(indent=2) + "\n")
    network = resunet(config.model.network)
    if config.start_from:
        network.load_state_dict(load_bundle(config.start_from, config.model.task).network.state_dict())
    network = network.to(device).train()
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=_running_average)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    schedule = PolynomialLR(optimizer, config.steps, power=1.5)
    recent, start = 0.0, time.monotonic()
    for step, (image, label) in zip(range(1, config.steps + 1), samples(config), strict=False):
        loss = _step(network, optimizer, image.to(device), label.to(device))
        schedule.step()
        average.update_parameters(network)
        recent = loss if step == 1 else 0.99 * recent + 0.01 * loss
        events.progress("train", step, config.steps)
        if step % 100 == 0:
            _note(config.out / f"{config.model.name}.training.csv", step, recent, (time.monotonic() - start) / step)
        if step % config.save_every == 0 or step == config.steps:
            save_bundle(average.module, config.model, config.out)


def _note(path: Path, step: int, loss: float, seconds: float) -> None:
    """Append a row of the run's progress: step, running mean of the loss, seconds a step so far."""
    with path.open("a", encoding="ascii") as file:
        file.write(f"{step},{loss:.4f},{seconds:.3f}\n")


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, label: Tensor) -> float:
    image = image[None].contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(image.device.type, dtype=torch.bfloat16):
        logits = network(image)
    loss = segmentation_loss(logits.float(), label[None])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def segmentation_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Dice plus five times the binary cross-entropy.

    Without foreground the Dice term is left out: it would say that one wrong voxel is as bad as a thousand, and hold
    back every prediction.

    Args:
        logits: (N, 1, Z, Y, X).
        label: (N, Z, Y, X), 0 or 1.
    """
    target = label[:, None].float()
    loss = CROSS_ENTROPY_WEIGHT * functional.binary_cross_entropy_with_logits(logits, target)
    return loss + DiceLoss()(torch.sigmoid(logits), target) if label.any() else loss


def _running_average(averaged: Weights, current: Weights, count: Tensor | int) -> None:
    """Exponential average over about 500 steps; over fewer at first, so that the first weights are soon forgotten."""
    decay = min(0.998, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(averaged, current, 1 - decay)
