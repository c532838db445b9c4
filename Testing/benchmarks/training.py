"""Training: samples per second of this library against a plain MONAI loop, same network, patch and exams, one run.

    python Testing/benchmarks/training.py [--steps 60] [--rounds 3]

Both prepare the exams before the clock starts: the plain loop keeps them in memory (CacheDataset), ours maps its cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.transforms import (
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    NormalizeIntensityd,
    RandCropByPosNegLabeld,
    RandFlipd,
    SelectItemsd,
    SpatialPadd,
)

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.io.cohort import Cohort, read_cohort
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.phantom.simulate import simulate_cohort
from BreastTumorSegLib.training.config import TrainingConfig
from BreastTumorSegLib.training.run import train

CPU = torch.device("cpu")
PATCH = (64, 64, 64)
SPACING_MM = 2.0
BATCH = 2
NETWORK = {"name": "resunet", "in_channels": 2, "out_channels": 1, "channels": [16, 32, 64, 128], "strides": [2, 2, 2]}


def configuration(folder: Path, steps: int, out: str) -> TrainingConfig:
    """Ours, in float32 as the plain loop, without validation."""
    description = {"name": "bench", "task": "tumor", "version": "0", "phases": ["pre", "first_post"]}
    return TrainingConfig.model_validate(
        {
            "out": folder / out,
            "model": {**description, "network": NETWORK, "spacing_mm": SPACING_MM, "field": "exam"},
            "data": {"kind": "cohort", "path": folder / "cohort", "breast": "reference", "cache": folder / "cache"},
            "samples": {"patch": PATCH, "batch": BATCH, "augmentation": {"flip": 0.5}},
            "loss": {"name": "dice_ce"},
            "validation": {"share": 0.0},
            "epochs": 1,
            "steps_per_epoch": steps,
            "checkpoint_steps": steps,
        }
    )


class Clock(Events):
    """Notes when the first and the last step ended."""

    def show(self, event: dict) -> None:
        """Look at the clock after a step."""
        if event.get("stage") == "train":
            if event["done"] == 1:
                self.first = time.perf_counter()
            self.last = time.perf_counter()


def ours(folder: Path, steps: int, out: str) -> float:
    """Samples a second."""
    clock = Clock()
    train(configuration(folder, steps, out), CPU, clock)
    return BATCH * (steps - 1) / (clock.last - clock.first)


def plain_data(cohort: Cohort) -> CacheDataset:
    """The exams as MONAI's tutorials prepare them, cached in memory; they have the network's grid already."""
    exams = []
    for case in cohort:
        names = {"pre": case.phases[0], "post": case.phases[1], "label": case.tumors[0]}
        exams.append({name: read_volume(file)[0].astype("float32") for name, file in names.items()})
    transform = Compose(
        [
            EnsureChannelFirstd(["pre", "post", "label"], channel_dim="no_channel"),
            ConcatItemsd(["pre", "post"], "image"),
            SelectItemsd(["image", "label"]),
            NormalizeIntensityd("image"),
            SpatialPadd(["image", "label"], PATCH),
            RandCropByPosNegLabeld(["image", "label"], "label", PATCH, num_samples=1),
            *(RandFlipd(["image", "label"], 0.5, axis) for axis in range(3)),
        ]
    )
    return CacheDataset(exams, transform, progress=False)


def plain(data: CacheDataset, steps: int) -> float:
    """Samples a second of the usual loop."""
    network = build_network(configuration(Path(), steps, "").model.network).train()
    optimizer, loss_of = torch.optim.Adam(network.parameters(), 0.001), DiceCELoss(sigmoid=True)
    done = 0
    while True:
        # Each exam's samples are a list of one, which MONAI's loader flattens.
        for batch in DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            loss_of(network(batch["image"]), batch["label"]).backward()
            optimizer.step()
            done += 1
            if done == 1:
                first = time.perf_counter()
            if done == steps:
                return BATCH * (steps - 1) / (time.perf_counter() - first)


def main() -> None:
    """Print samples a second and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for site in ("DUKE", "ISPY2"):
            simulate_cohort(folder / "cohort", site, 4, 100, spacing=SPACING_MM)
        data = plain_data(read_cohort(folder / "cohort"))
        pairs = [
            (plain(data, asked.steps), ours(folder, asked.steps, f"run-{number}")) for number in range(asked.rounds)
        ]
    medians = [statistics.median(values) for values in zip(*pairs, strict=True)]
    sys.stdout.write(
        f"plain MONAI loop {medians[0]:.2f} samples/s, ours {medians[1]:.2f}, ratio {medians[1] / medians[0]:.2f}\n"
    )


if __name__ == "__main__":
    main()
