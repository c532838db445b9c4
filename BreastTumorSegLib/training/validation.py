"""How a network is judged while it is trained: mean Dice over whole exams, on the network's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from BreastTumorSegLib.core.errors import Cancelled
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.segmentation.clusters import NOT_ENHANCING
from BreastTumorSegLib.training.config import TrainingConfig
from BreastTumorSegLib.training.prediction import (
    Predictor,
    one_pass,
    predict_classes,
    predict_probability,
    sliding_windows,
)
from BreastTumorSegLib.training.processes import any_process, process_count, rank, summed
from BreastTumorSegLib.training.volumes import MARKED, TrainingVolume

SiteVolume = tuple[str, TrainingVolume]


class Validation:
    """Judges networks on the same cases, which the processes share out.

    Args:
        config: Of the run.
        cases: Site and volume of each.
        device: Where to compute.
        events: Told of the progress, and asked between cases whether to go on.
    """

    def __init__(
        self, config: TrainingConfig, cases: Sequence[SiteVolume], device: torch.device, events: Events
    ) -> None:
        self._config = config
        self._cases = cases
        self._device = device
        self._events = events

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Mean Dice over all cases ("all") and over each site's; NaN where none has tumour or none is found.

        Raises:
            Cancelled: On request of any process, in all of them.
        """
        sites = sorted({site for site, _ in self._cases})
        sums = torch.zeros(len(sites), 2, dtype=torch.float64, device=self._device)
        for first in range(0, len(self._cases), process_count()):
            if any_process(self._events.cancelled, self._device):
                raise Cancelled
            for site, volume in self._cases[first : first + process_count()][rank() : rank() + 1]:
                score = self._dice(network.eval(), volume)
                if np.isfinite(score):
                    sums[sites.index(site)] += torch.tensor([score, 1.0], device=self._device)
            self._events.show({"event": "progress", "stage": "validate", "done": first, "total": len(self._cases)})
        sums = summed(sums).cpu()
        means = {site: float(total / count) for site, (total, count) in zip(sites, sums, strict=True)}
        return {"all": float(sums[:, 0].sum() / sums[:, 1].sum()), **means}

    def rehearse(self, network: nn.Module) -> None:
        """Judge the largest cases: what would fail after an epoch, fails now."""
        largest = sorted(self._cases, key=lambda case: -case[1].label.numel())[: process_count()]
        Validation(self._config, largest, self._device, self._events)(network)

    def _dice(self, network: nn.Module, volume: TrainingVolume) -> float:
        model = self._config.model
        if model.task == "clusters":
            return self._classes_dice(network, volume)
        found = predict_probability(volume, model, self._predictor(network)) >= model.threshold
        if model.task == "breast":
            return dice(found.numpy(), volume.breast.numpy(), empty=float("nan"))
        if model.field != "exam":
            found &= volume.breast
        tumor = volume.label >= MARKED
        if volume.unknown is not None:
            found, tumor = found & ~volume.unknown, tumor & ~volume.unknown
        return dice(found.numpy(), tumor.numpy(), empty=float("nan"))

    def _classes_dice(self, network: nn.Module, volume: TrainingVolume) -> float:
        """The mean over the clusters that the exam has, inside the breasts."""
        found = predict_classes(volume, self._config.model, self._predictor(network))
        pairs = [
            (found == number, volume.label == number) for number in volume.label.unique() if number > NOT_ENHANCING
        ]
        return (
            float(np.mean([dice((a & volume.breast).numpy(), b.numpy(), empty=1.0) for a, b in pairs]))
            if pairs
            else np.nan
        )

    def _predictor(self, network: nn.Module) -> Predictor:
        patch = self._config.samples.patch
        if self._config.validation.windows == "patch" and patch:
            return sliding_windows(network, self._config.model.network, patch, self._device)
        return one_pass(network, self._config.model.network, self._device)
