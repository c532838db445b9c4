"""Training samples cut from exams that are simulated on the fly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from BreastTumorSegLib.networks.inputs import bounding_box, joint_z_score
from BreastTumorSegLib.phantom.grid import shifted
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.training.config import TRAINING_SEEDS, TrainingConfig


def samples(config: TrainingConfig, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless samples of new exams from number `first` on: input (C, Z, Y, X) float32 and labels (Z, Y, X) int64."""
    number = first
    while True:
        seed = TRAINING_SEEDS + config.seed * 100_000 + number
        site = config.sites[number % len(config.sites)]
        exam = simulate_exam(site, seed, config.model.spacing_mm, phases=2, spread=config.spread)
        random = np.random.default_rng([seed, 1])
        for _ in range(config.patches_per_exam):
            yield _sample(config, exam, random)
        number += 1


def _sample(config: TrainingConfig, exam: SimulatedExam, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    data = degrade(exam.data, random)
    if config.model.task == "breast":
        image, label = joint_z_score(data[:1]), exam.breast > 0
        return cut(image, label, None, config.patch or _fitting(config, label), random)
    # The pipeline hands the tumour network the breast's box, whose edges depend on the breast network.
    box = bounding_box(exam.breast > 0, int(random.integers(2, 10)))
    image = joint_z_score(data[(slice(None), *box)])
    label = exam.tumor[box]
    image, label = cut(image, label, label, config.patch or _fitting(config, label), random)
    if random.random() < 0.5:
        image, label = image.flip(-1), label.flip(-1)
    return image, label


def _fitting(config: TrainingConfig, volume: Tensor) -> tuple[int, int, int]:
    """The volume's shape, rounded up to what the network takes."""
    multiple = config.model.network.multiple
    z, y, x = (size + -size % multiple for size in volume.shape)
    return z, y, x


def degrade(data: Tensor, random: np.random.Generator) -> Tensor:
    """What real exams have beyond the simulated scanner: gain between phases, blur along an axis, contrast.

    A gain of -10 to +46 % that varies in space was, beside background enhancement, what mattered most on real exams.
    """
    data = data.clone()
    if random.random() < 0.5:
        coarse = torch.from_numpy(random.normal(random.uniform(-0.1, 0.46), 0.08, (1, 1, 4, 4, 4))).float()
        data[1:] *= 1 + functional.interpolate(coarse, size=data.shape[1:], mode="trilinear")[0]
    if random.random() < 0.3:
        dim = int(random.integers(1, 4))
        data = 0.5 * data + 0.25 * (shifted(data, 1, dim) + shifted(data, -1, dim))
    if random.random() < 0.5:
        top = data.max()
        data = (data / top) ** random.uniform(0.75, 1.3) * top
    return data


def cut(
    image: Tensor, label: Tensor, aim: Tensor | None, patch: tuple[int, int, int], random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A random patch, padded where the volume is smaller; two thirds of them contain a voxel of `aim` if it has any."""
    targets = torch.nonzero(aim) if aim is not None else torch.empty(0, 3)
    focus = targets[int(random.integers(len(targets)))] if len(targets) and random.random() < 0.67 else None
    slices: list[slice] = []
    pads: list[tuple[int, int]] = []
    for dim, (size, want) in enumerate(zip(label.shape, patch, strict=True)):
        low, high = 0, max(size - want, 0)
        if focus is not None:
            low, high = max(int(focus[dim]) - want + 1, 0), min(int(focus[dim]), high)
            low = min(low, high)
        start = int(random.integers(low, high + 1))
        slices.append(slice(start, start + want))
        pads.insert(0, (0, max(want - size, 0)))
    flat = [value for pair in pads for value in pair]
    image = functional.pad(image[(slice(None), *slices)], flat, value=float(image.min()))
    return image, functional.pad(label[tuple(slices)].to(torch.int64), flat)
