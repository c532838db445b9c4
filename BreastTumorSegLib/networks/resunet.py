"""The residual U-Net of Abdikenov and Suvorov, "Challenges in generalizing breast MRI tumor segmentation"."""

from __future__ import annotations

import math
import operator
from itertools import accumulate
from typing import Literal

from monai.networks.nets import UNet
from torch import nn

from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths


class ResUNetConfig(NetworkSize):
    """Size of a residual U-Net. It has no deep supervision: MONAI's class gives its last output only.

    Attributes:
        channels: Features a level, from the finest.
        strides: Between levels; one fewer than `channels`. A first stride of 1 keeps features at full resolution.
        head: Features at full resolution in front of a last 1 x 1 x 1 convolution. 0 is the published form, whose last
            block works on the logits themselves; its instance normalisation there blows up the noise of a volume
            without lesion, and on simulated exams it learned far slower.
    """

    name: Literal["resunet"] = "resunet"
    channels: Widths
    strides: tuple[int, ...]
    head: int = 0

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return math.prod(self.strides)

    @property
    def levels(self) -> Levels:
        """The channels; the first stride lies in front of the first level, the last level keeps the size."""
        edges = accumulate(self.strides, operator.mul)
        return (*zip(self.channels, edges, strict=False), (self.channels[-1], self.multiple))


PUBLISHED = ResUNetConfig(in_channels=2, out_channels=1, channels=(32, 64, 128, 256, 380, 380), strides=(2, 2, 2, 2, 2))
"""The paper's widths. Its "six downsampling" and "four upsampling" stages can't both hold; with these channels five
and five is the only reading that MONAI's class has. 31.6 M parameters."""


def resunet(config: ResUNetConfig) -> nn.Module:
    """MONAI's U-Net with two residual units a level, instance normalisation and PReLU, as the paper has it.

    Takes (N, in_channels, Z, Y, X), gives logits (N, out_channels, Z, Y, X). Instance normalisation sees the whole
    input: a window of a volume gets another answer than the volume itself.
    """
    body = UNet(
        spatial_dims=3,
        in_channels=config.in_channels,
        out_channels=config.head or config.out_channels,
        channels=config.channels,
        strides=config.strides,
        num_res_units=2,
        norm="instance",
    )
    if not config.head:
        return body
    return nn.Sequential(body, nn.PReLU(), nn.Conv3d(config.head, config.out_channels, 1))


def encoder(network: nn.Module) -> nn.ModuleList:
    """The unit on the way down of every level, from the finest, and the unit at the bottom."""
    body = network[0] if isinstance(network, nn.Sequential) else network
    assert isinstance(body, UNet)
    level, units = body.model, nn.ModuleList()
    while isinstance(level, nn.Sequential):  # what goes down, what lies deeper, what goes up
        units.append(level[0])
        level = level[1].submodule
    return units.append(level)
