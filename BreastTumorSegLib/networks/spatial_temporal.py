"""A spatial-temporal transformer for any number of phases at any times.

After Zhang et al., "A robust and efficient AI assistant for breast tumor segmentation from DCE-MRI via a
spatial-temporal framework", Patterns 2023. As published: an encoder that all phases share, on [phase, phase minus
pre-contrast]; a transformer over each phase's tokens, and one over each token's phases, whose answers are added; a
decoder. Otherwise than published, whose code has six slots, lets missing phases take part, and takes its skips from one
phase: phases are a set that is told apart by seconds, missing ones are masked out of all attention and never encoded,
and skips and tokens of all phases are pooled by attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from BreastTumorSegLib.networks.batch_norm import MOMENTUM
from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths
from BreastTumorSegLib.networks.transformer import Transformer, from_blocks, in_blocks

POOL_HEADS = 4
"""Each takes its share of the features from phases of its own choice: one from early ones, one from late ones."""

SHARPNESS = 4.0
"""Bound of a pooling score, so that no phase counts over e^8 times as much as another, and weights can be added up
phase by phase without overflow."""

PERIODS_MIN = tuple(1.0 * 2**octave for octave in range(7))
"""Periods of the encoding of time in minutes: from one in which phases a quarter of a minute apart differ to one
longer than any exam."""

VOXELS_AT_ONCE = 1 << 21
"""Phases are encoded so many voxels at a time where nothing is trained: memory does not grow with their number."""

Encoder = Callable[[Tensor], Sequence[Tensor]]
"""Features of every level, from the finest, each (T, C, Z', Y', X'), of phases (T, 2, Z, Y, X)."""

Decoder = Callable[..., Tensor]
"""Logits (N, K, Z, Y, X) of the features of every level, from the finest, an argument each."""


class SpatialTemporalConfig(NetworkSize):
    """Size of a spatial-temporal network.

    Attributes:
        in_channels: Of the encoder: a phase, and the phase minus the pre-contrast one.
        channels: Features a level of encoder and decoder, from the finest; each level has half the resolution of the
            one before.
        width: Features of a token; a token is a voxel of the coarsest level.
        layers: Of each transformer.
        heads: Of their attention.
        hidden: Features inside their perceptrons.
        block: Tokens (z, y, x) that attend to each other in space. Larger volumes are cut into such blocks, so that a
            patch and a volume are treated alike.
        dropout: In the transformers.
        spatial, temporal: Which of the two transformers there are.
    """

    name: Literal["spatial_temporal"] = "spatial_temporal"
    in_channels: Literal[2] = 2
    out_channels: PositiveInt = 1
    channels: Widths
    width: int = Field(gt=0, multiple_of=POOL_HEADS)
    layers: PositiveInt
    heads: PositiveInt
    hidden: PositiveInt
    block: tuple[PositiveInt, PositiveInt, PositiveInt]
    dropout: float = Field(default=0.0, ge=0, lt=1)
    spatial: bool = True
    temporal: bool = True

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this: the edge of a token in voxels."""
        return 2 ** (len(self.channels) - 1)

    @property
    def alignment(self) -> int:
        """The edge of a block of tokens that attend to each other."""
        return math.lcm(*self.block) * self.multiple

    @property
    def levels(self) -> Levels:
        """Features of one phase, and those pooled over all of them."""
        return tuple((2 * features, 1 << level) for level, features in enumerate(self.channels))

    @model_validator(mode="after")
    def _heads_fit(self) -> SpatialTemporalConfig:
        if self.width % self.heads:
            raise ValueError(f"{self.width} features of a token can't be shared by {self.heads} heads")
        wrong = [features for features in self.channels if features % POOL_HEADS]
        if wrong:
            raise ValueError(f"channels {wrong} are no multiples of {POOL_HEADS}, the heads that pool phases")
        return self


PUBLISHED = SpatialTemporalConfig(
    channels=(16, 32, 64, 128, 256), width=768, layers=12, heads=12, hidden=2048, block=(3, 6, 6), dropout=0.1
)
"""The paper's size and patch, 48 x 96 x 96; heads, hidden features and dropout are those of its code."""


class SpatialTemporalNetwork(nn.Module):
    """Tumour logits of a set of phases.

    It is the same for any order of the phases, and phases that are not there have no part in it.
    """

    def __init__(self, config: SpatialTemporalConfig) -> None:
        super().__init__()
        self.encoder = _Encoder(config.in_channels, config.channels)
        self.fusion = _Fusion(config)
        self.decoder = _Decoder(config.channels, config.out_channels)

    def forward(self, phases: Tensor, times: Tensor) -> Tensor:
        """Logits (N, out_channels, Z, Y, X).

        Args:
            phases: (N, T, Z, Y, X), each axis a multiple of the config's `multiple`; whatever stands in the place of a
                missing phase is not looked at.
            times: (N, T) in seconds after injection, in any order; the earliest of a sample is its pre-contrast phase.
                NaN: a phase that is missing. Each sample has at least one phase.
        """
        return self.with_parts(self.encoder, self.decoder, phases, times)

    def with_parts(self, encoder: Encoder, decoder: Decoder, phases: Tensor, times: Tensor) -> Tensor:
        """What `forward` says, with encoder and decoder computed by something else that was made of them."""
        pooled = [self._pooled(encoder, *sample) for sample in zip(phases, times, strict=True)]
        return decoder(*[torch.cat(level) for level in zip(*pooled, strict=True)])

    def _pooled(self, encoder: Encoder, phases: Tensor, times: Tensor) -> list[Tensor]:
        """One sample's features of every level, (1, C, Z', Y', X'), with the phases pooled."""
        there = torch.isfinite(times)
        phases, times = phases[there], times[there].float()
        pre = phases[times.argmin()]
        seconds = self.fusion.encoded(times)
        skips = [_Sum() for _ in self.fusion.pools]
        deepest = []
        for some in self._groups(phases):
            *upper, features = encoder(torch.stack([phases[some], phases[some] - pre], 1))
            for pool, skip, values in zip(self.fusion.pools, skips, upper, strict=True):
                skip.add(values, pool(values, seconds[some]))
            deepest.append(features)
        return [*(skip.mean for skip in skips), self.fusion(torch.cat(deepest), seconds)]

    def _groups(self, phases: Tensor) -> Iterator[slice]:
        """Phases that are encoded at once: in training all of them, so that their batch normalisation sees them all."""
        step = len(phases) if self.training else max(VOXELS_AT_ONCE // phases[0].numel(), 1)
        return (slice(first, first + step) for first in range(0, len(phases), step))


class _Sum:
    """A weighted mean over phases, phase by phase."""

    def __init__(self) -> None:
        self._values: Tensor | None = None
        self._weights: Tensor | None = None

    def add(self, values: Tensor, weights: Tensor) -> None:
        """Values (T, C, Z, Y, X) and their weights (T, heads, Z, Y, X).

        At the finest level, making a tensor takes longer than computing it: so weights are not repeated for the
        features that share them, and values are added up in place.
        """
        for phase, weight in zip(values.unflatten(1, (POOL_HEADS, -1)), weights.unsqueeze(2), strict=True):
            if self._values is None or self._weights is None:
                self._values, self._weights = phase * weight, weight
            else:
                self._values.addcmul_(phase, weight)
                self._weights = self._weights + weight

    @property
    def mean(self) -> Tensor:
        """(1, C, Z, Y, X)."""
        assert self._values is not None and self._weights is not None
        return (self._values / self._weights).flatten(0, 1)[None]


class _Pool(nn.Module):
    """Attention over phases at every voxel: scores from a phase's features and from its time."""

    def __init__(self, features: int, time_features: int) -> None:
        super().__init__()
        self.of_features = nn.Conv3d(features, POOL_HEADS, 1)
        self.of_time = nn.Linear(time_features, POOL_HEADS)

    def forward(self, values: Tensor, seconds: Tensor) -> Tensor:
        """Weights (T, heads, Z, Y, X) of values (T, C, Z, Y, X)."""
        scores = self.of_features(values) + self.of_time(seconds)[:, :, None, None, None]
        return torch.exp(SHARPNESS * torch.tanh(scores / SHARPNESS))


class _Fusion(nn.Module):
    """What brings phases together: at the tokens the two transformers, everywhere attention pooling."""

    def __init__(self, config: SpatialTemporalConfig) -> None:
        super().__init__()
        *upper, deepest = config.channels
        width, size = config.width, (config.layers, config.width, config.heads, config.hidden, config.dropout)
        self.block = config.block
        self.time = nn.Sequential(nn.Linear(2 * len(PERIODS_MIN) + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.tokens = nn.Linear(deepest, width)
        edges = config.block if config.spatial else ()
        self.places = nn.ParameterList(nn.Parameter(torch.zeros(edge, width)) for edge in edges)
        self.spatial = Transformer(*size) if config.spatial else None
        self.temporal = Transformer(*size) if config.temporal else None
        self.pools = nn.ModuleList(_Pool(features, width) for features in upper)
        self.token_pool = _Pool(width, width)
        self.features = nn.Conv3d(width, deepest, 1)

    def encoded(self, times: Tensor) -> Tensor:
        """Times (T,) in seconds as features (T, width): waves of several periods, and the logarithm."""
        minutes = times.clamp_min(0) / 60
        angles = minutes[:, None] * (2 * math.pi / minutes.new_tensor(PERIODS_MIN))
        return self.time(torch.cat([angles.sin(), angles.cos(), torch.log1p(minutes)[:, None]], 1))

    def forward(self, features: Tensor, seconds: Tensor) -> Tensor:
        """Pooled features (1, C, Z, Y, X) of the coarsest level's (T, C, Z, Y, X)."""
        tokens = self.tokens(features.movedim(1, -1))
        answers = [tokens] if self.spatial is None and self.temporal is None else []
        if self.spatial is not None:
            answers.append(self._in_space(self.spatial, tokens))
        if self.temporal is not None:
            answers.append(_in_time(self.temporal, tokens + seconds[:, None, None, None]))
        pooled, values = _Sum(), sum(answers[1:], answers[0]).movedim(-1, 1)
        pooled.add(values, self.token_pool(values, seconds))
        return self.features(pooled.mean)

    def _in_space(self, transformer: nn.Module, tokens: Tensor) -> Tensor:
        _, z, y, x, _ = tokens.shape
        blocks, real = in_blocks(tokens, self.block)
        along_z, along_y, along_x = self.places
        places = (along_z[:, None, None] + along_y[:, None] + along_x).flatten(0, 2)
        return from_blocks(transformer(blocks + places, real), self.block, (z, y, x))


def _in_time(transformer: nn.Module, tokens: Tensor) -> Tensor:
    """Each token's phases attend to each other; (T, Z, Y, X, width). Missing ones are not among them any more."""
    count, *grid, width = tokens.shape
    return transformer(tokens.flatten(1, 3).transpose(0, 1)).transpose(0, 1).reshape(count, *grid, width)


class _Encoder(nn.Module):
    """Residual blocks with maximum pooling between them; phases go through it one by one, as a batch."""

    def __init__(self, in_channels: int, channels: Widths) -> None:
        super().__init__()
        ins = (in_channels, *channels[:-1])
        self.blocks = nn.ModuleList(_ResidualBlock(*pair) for pair in zip(ins, channels, strict=True))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of every level, from the finest, each (T, C, Z', Y', X')."""
        features = []
        for level, block in enumerate(self.blocks):
            image = block(nn.functional.max_pool3d(image, 2) if level else image)
            features.append(image)
        return tuple(features)


class _Decoder(nn.Module):
    """From the coarsest level up, with the skips of all others."""

    def __init__(self, channels: Widths, out_channels: int) -> None:
        super().__init__()
        steps = list(zip(channels[1:], channels[:-1], strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose3d(coarse, fine, 2, 2) for coarse, fine in steps)
        self.blocks = nn.ModuleList(_ResidualBlock(2 * fine, fine) for _, fine in steps)
        self.logits = nn.Conv3d(channels[0], out_channels, 1)

    def forward(self, *features: Tensor) -> Tensor:
        """Logits (N, out_channels, Z, Y, X) of the features of every level, from the finest."""
        *skips, image = features
        for up, block, skip in zip(reversed(self.ups), reversed(self.blocks), reversed(skips), strict=True):
            image = block(torch.cat([up(image), skip], 1))
        return self.logits(image)


class _ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation, which is the same map in a window and in a volume."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(ins, outs, 3, padding=1, bias=False),
            nn.BatchNorm3d(outs, momentum=MOMENTUM),
            nn.LeakyReLU(0.2),
            nn.Conv3d(outs, outs, 3, padding=1, bias=False),
            nn.BatchNorm3d(outs, momentum=MOMENTUM),
        )
        self.shortcut = nn.Conv3d(ins, outs, 1) if ins != outs else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """(N, outs, Z, Y, X) of (N, ins, Z, Y, X)."""
        return nn.functional.leaky_relu(self.body(image) + self.shortcut(image), 0.2)


class AtTimes(nn.Module):
    """A network that takes times as one that takes an image only: phases (N, T, Z, Y, X) of one exam.

    Args:
        network: Its weights are shared, not copied.
        times: (T,) in seconds after injection.
    """

    times: Tensor

    def __init__(self, network: nn.Module, times: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("times", times, persistent=False)

    def forward(self, phases: Tensor) -> Tensor:
        """Logits (N, K, Z, Y, X)."""
        return self.network(phases, self.times.expand(len(phases), -1))


def spatial_temporal(config: SpatialTemporalConfig) -> nn.Module:
    """A `SpatialTemporalNetwork`; beside the image it takes the times of the phases."""
    return SpatialTemporalNetwork(config)


def encoder(network: nn.Module) -> nn.ModuleList:
    """The convolutional encoder that all phases share."""
    assert isinstance(network, SpatialTemporalNetwork)
    return nn.ModuleList([network.encoder])
