"""The plain U-Net of nnU-Net: Isensee et al., "nnU-Net: a self-configuring method", Nature Methods 2021."""

from __future__ import annotations

import math
import operator
from itertools import accumulate
from typing import Literal

import torch
from monai.networks.nets import DynUNet
from pydantic import model_validator
from torch import Tensor, nn

from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths


class DynUNetConfig(NetworkSize):
    """Size of an nnU-Net.

    Attributes:
        channels: Features a level, from the finest, which has full resolution; three levels at least.
        strides: Between levels; one fewer than `channels`.
        residual: Residual units instead of plain ones.
    """

    name: Literal["dynunet"] = "dynunet"
    channels: Widths
    strides: tuple[int, ...]
    residual: bool = False

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return math.prod(self.strides)

    @property
    def levels(self) -> Levels:
        """The channels, of which the first have full resolution."""
        return tuple(zip(self.channels, accumulate((1, *self.strides), operator.mul), strict=True))

    @property
    def most_supervised(self) -> int:
        """All levels but the finest and the bottom."""
        return len(self.channels) - 2

    @model_validator(mode="after")
    def _levels_fit(self) -> DynUNetConfig:
        if len(self.channels) < 3 or len(self.strides) != len(self.channels) - 1:
            raise ValueError(
                f"three levels or more, with a stride between each two, are needed, not {len(self.channels)} channels "
                f"and {len(self.strides)} strides"
            )
        return self


class _DynUNet(DynUNet):
    """Keeps nothing of a pass: MONAI's class holds on to the coarser outputs, so that it can't be copied any more."""

    def forward(self, x: Tensor) -> Tensor:
        """One tensor (N, K, Z, Y, X); while supervised in depth (N, 1 + D, K, Z, Y, X), all at full size."""
        outputs: Tensor = super().forward(x)
        self.heads[:] = [torch.zeros(1)] * len(self.heads)
        return outputs


def dynunet(config: DynUNetConfig) -> nn.Module:
    """MONAI's DynUNet with instance normalisation and leaky ReLU.

    Takes (N, in_channels, Z, Y, X), gives logits (N, out_channels, Z, Y, X).
    """
    return _DynUNet(
        spatial_dims=3,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        kernel_size=[3] * len(config.channels),
        strides=(1, *config.strides),
        upsample_kernel_size=config.strides,
        filters=config.channels,
        res_block=config.residual,
        deep_supervision=config.deep_supervision > 0,
        deep_supr_num=max(config.deep_supervision, 1),
    )


def encoder(network: nn.Module) -> nn.ModuleList:
    """The block of every level on the way down, from the finest, and the one at the bottom."""
    assert isinstance(network, DynUNet)
    return nn.ModuleList([network.input_block, *network.downsamples, network.bottleneck])
