"""The training loop."""

from __future__ import annotations

import logging
import time

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.optim.lr_scheduler import PolynomialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import save_bundle
from BreastTumorSegLib.networks.resunet import resunet
from BreastTumorSegLib.training.config import TrainingConfig
from BreastTumorSegLib.training.data import samples

log = logging.getLogger(__name__)


def train(config: TrainingConfig, device: str = "cpu", events: Events | None = None) -> None:
    """Train a bundle on simulated exams and save it, with averaged weights, into `config.out`.

    Raises:
        Cancelled: On request; the last saved bundle stays.
    """
    events = events or Events()
    torch.manual_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / f"{config.model.name}.training.json").write_text(config.model_dump_json(indent=2) + "\n")
    network = resunet(config.model.network).to(device, memory_format=torch.channels_last_3d)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    schedule = PolynomialLR(optimizer, config.steps, power=1.5)
    loss_of = _loss(config)
    recent, start = 0.0, time.monotonic()
    for step, (image, label) in zip(range(1, config.steps + 1), samples(config), strict=False):
        loss = _step(network, optimizer, loss_of, image.to(device), label.to(device))
        schedule.step()
        average.update_parameters(network)
        recent = loss if step == 1 else 0.99 * recent + 0.01 * loss
        events.progress("train", step, config.steps)
        if step % 100 == 0:
            log.info("step %d: loss %.3f, %.2f s a step", step, recent, (time.monotonic() - start) / step)
        if step % config.save_every == 0 or step == config.steps:
            save_bundle(average.module, config.model, config.out)


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss_of: nn.Module, image: Tensor, label: Tensor
) -> float:
    image = image[None].contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(image.device.type, dtype=torch.bfloat16):
        logits = network(image)
    loss = loss_of(logits.float(), label[None, None])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def _loss(config: TrainingConfig) -> nn.Module:
    """Dice plus cross-entropy; the Dice term alone, as in the paper, gives no gradient in lesion-free patches."""
    if config.model.network.out_channels == 1:
        return DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    return DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, smooth_nr=1.0, smooth_dr=1.0)
