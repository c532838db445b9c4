"""Samples for training: a part of an exam, as the network would see it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from BreastTumorSegLib.core.exam import first_post_index
from BreastTumorSegLib.networks.bundle import ModelDescription
from BreastTumorSegLib.networks.inputs import breast_only, intensity_scale, seconds_after_injection
from BreastTumorSegLib.segmentation.tumor import field_of
from BreastTumorSegLib.training.augmentation import augment
from BreastTumorSegLib.training.config import SampleConfig
from BreastTumorSegLib.training.volumes import MARKED, Source, TrainingVolume

Box = tuple[slice, slice, slice]

STATISTICS_VOXELS = 100_000
"""A field's intensities are told from about so many of its voxels, evenly spread."""

SMALLEST_FIELD = 0.5
"""A cropped field keeps at least this share of each edge."""

MOST_SEEN_MM = 12.0
"""So far around the breasts a network sees at most that sees them only."""

TRIES = 100
"""To hit the breasts by chance; then any voxel will do."""


class Samples(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Samples by number: the same number gives the same sample, whoever asks and whenever.

    So a run that was stopped goes on with the samples that it would have had, and processes share them out by number.

    Args:
        source: Of volumes.
        description: The model to be trained.
        config: How samples are cut.
        soft: Labels are shares, not a majority's 0 or 1.
        seed: Of everything random.
    """

    def __init__(
        self, source: Source, description: ModelDescription, config: SampleConfig, soft: bool, seed: int
    ) -> None:
        self._source = source
        self._description = description
        self._config = config
        self._soft = soft
        self._seed = seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Input (C, Z, Y, X), its phases' seconds after injection (C,), and target (1, Z, Y, X); float32.

        The target is from 0 to 1, and NaN where it is not learned from.

        For a model that takes all phases C is `most_phases`; those that an exam lacks have NaN for their time.
        """
        random = np.random.default_rng([self._seed, 1, number])
        volume = self._source.volume(number)
        field = self._field(volume, random)
        phases, seconds = self._phases(volume, random)
        if self._description.field == "breast-only":
            phases = self._dark_far_away(phases, volume.breast, field, random)
        early = first_post_index(tuple(seconds.tolist()))
        scale = intensity_scale(thinned([phase[field] for phase in phases]), self._description.normalisation, early)
        box = self._box(volume, field, random)
        image = scale(torch.stack([_cut(phase, box, field) for phase in phases]))
        # Maps lie where the label lies: flips move them, and nothing else changes them.
        still = torch.stack([*self._maps(volume, box, field), self._target(volume, box, field)])
        image, still = augment(image, still, self._config.augmentation, random, scale.zero)
        image, label = torch.cat([image, still[:-1]]), still[-1]
        if self._description.phases == "all":
            lacking = self._config.most_phases - len(image)
            image = functional.pad(image, (0, 0, 0, 0, 0, 0, 0, lacking))
            seconds = functional.pad(self._jittered(seconds, random), (0, lacking), value=float("nan"))
        return image, seconds, label[None]

    def _maps(self, volume: TrainingVolume, box: Box, field: Box) -> list[Tensor]:
        """Probabilities of the classes, each (Z, Y, X), 0 beyond the field, as in padding; none for most models."""
        maps = () if volume.maps is None else volume.maps
        return [_cut(each, box, field, 0.0) / 255 for each in maps]

    def _target(self, volume: TrainingVolume, box: Box, field: Box) -> Tensor:
        if self._description.task == "breast":
            return _cut(volume.breast, box, field, 0.0)
        shares = _cut(volume.label, box, field, 0.0)
        if self._description.task == "clusters":
            return shares
        target = shares / 255 if self._soft else (shares >= MARKED).float()
        if volume.unknown is not None:
            target[_cut(volume.unknown, box, field, 0.0) > 0.5] = float("nan")
        return target

    def _phases(self, volume: TrainingVolume, random: np.random.Generator) -> tuple[list[Tensor], Tensor]:
        """The phases that the network takes, each (Z, Y, X), and their seconds after injection, told by all phases."""
        if self._description.phases == "all":
            chosen = self._kept(len(volume.phases), random)
        else:
            post = 2 if len(volume.phases) > 2 and random.random() < self._config.later_phase else 1
            chosen = [{"pre": 0, "first_post": post}[name] for name in self._description.phases]
        return [volume.phases[index] for index in chosen], seconds_after_injection(volume.times)[chosen]

    def _dark_far_away(
        self, phases: list[Tensor], breast: Tensor, field: Box, random: np.random.Generator
    ) -> list[Tensor]:
        """Phases (Z, Y, X) that are dark far from the breasts, here more, there less: masks found are never right."""
        margin = int(random.integers(1, round(MOST_SEEN_MM / self._description.spacing_mm) + 1))
        seen = [phase.clone() for phase in phases]
        for phase, part in zip(
            seen, breast_only(torch.stack([p[field] for p in phases]), breast[field], margin), strict=True
        ):
            phase[field] = part
        return seen

    def _kept(self, count: int, random: np.random.Generator) -> list[int]:
        """Which of an exam's phases are left: the pre-contrast phase, and others; half the time the first ones."""
        most = min(count, self._config.most_phases)
        if count > 2 and random.random() < self._config.phase_dropout:
            most = int(random.integers(2, most + 1))
        if most == count or random.random() < 0.5:
            return list(range(most))
        return [0, *sorted((1 + random.permutation(count - 1)[: most - 1]).tolist())]

    def _jittered(self, seconds: Tensor, random: np.random.Generator) -> Tensor:
        """Post-contrast times moved at random, never to before the injection."""
        noise = torch.from_numpy(random.normal(0, 1, len(seconds))).float() * self._config.time_jitter
        return torch.where(seconds > 0, (seconds + noise).clamp_min(1.0), seconds)

    def _field(self, volume: TrainingVolume, random: np.random.Generator) -> Box:
        """What the network sees of the exam, sometimes cropped at random around a voxel of tumour or breast."""
        field = field_of(self._description, volume.breast)
        if random.random() >= self._config.field_of_view:
            return field
        focus = self._focus(volume, field, random, 0.8)
        return tuple(_cropped(part, at, random) for part, at in zip(field, focus, strict=True))  # type: ignore[return-value]

    def _box(self, volume: TrainingVolume, field: Box, random: np.random.Generator) -> Box:
        """A patch within the field, which sticks out where the field is smaller; the whole field without a patch."""
        if self._config.patch is None:
            multiple = self._description.network.multiple
            return tuple(slice(s.start, s.stop + -(s.stop - s.start) % multiple) for s in field)  # type: ignore[return-value]
        focus = self._focus(volume, field, random, self._config.tumor_share)
        box = []
        for part, at, size in zip(field, focus, self._config.patch, strict=True):
            # Anywhere in the patch's inner half, so that the network can't learn that tumours are in the middle.
            start = at - int(random.integers(size // 4, size - size // 4))
            box.append(slice(first := max(min(start, part.stop - size), part.start), first + size))
        return tuple(box)  # type: ignore[return-value]

    def _focus(self, volume: TrainingVolume, field: Box, random: np.random.Generator, share: float) -> tuple[int, ...]:
        """A voxel of the tumour, at this share, else of the breasts or of the field, (z, y, x)."""
        shape = volume.label.shape
        if len(volume.tumor_voxels) and random.random() < share:
            flat = int(volume.tumor_voxels[int(random.integers(len(volume.tumor_voxels)))])
            at = tuple(int(i) for i in np.unravel_index(flat, shape))
            if all(part.start <= i < part.stop for part, i in zip(field, at, strict=True)):
                return at
        for _ in range(TRIES):
            at = tuple(int(random.integers(part.start, part.stop)) for part in field)
            if not self._config.inside_breast or volume.breast[at]:
                break
        return at


def thinned(phases: Sequence[Tensor] | Tensor) -> Tensor:
    """About `STATISTICS_VOXELS` evenly spread voxels of phases that are (Z, Y, X) each, (C, Z, Y, X) float32."""
    step = max(int((phases[0].numel() / STATISTICS_VOXELS) ** (1 / 3)), 1)
    return torch.stack([phase[::step, ::step, ::step].float() for phase in phases])


def _cropped(part: slice, at: int, random: np.random.Generator) -> slice:
    """A random part of an edge that holds `at`."""
    size = part.stop - part.start
    kept = int(np.ceil(size * random.uniform(SMALLEST_FIELD, 1.0)))
    low, high = max(part.start, at - kept + 1), min(at, part.stop - kept)
    start = int(random.integers(low, high + 1))
    return slice(start, start + kept)


def _cut(volume: Tensor, box: Box, field: Box, fill: float | None = None) -> Tensor:
    """A box out of (Z, Y, X), float32, filled up where it leaves the field; with the part's minimum without `fill`."""
    inner = tuple(slice(b.start, min(b.stop, f.stop)) for b, f in zip(box, field, strict=True))
    part = volume[inner].float()
    z, y, x = (b.stop - i.stop for b, i in zip(box, inner, strict=True))
    return functional.pad(part, (0, x, 0, y, 0, z), value=float(part.min()) if fill is None else fill)
