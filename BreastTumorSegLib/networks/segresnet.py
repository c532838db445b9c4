"""SegResNet: Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization", without the autoencoder."""

from __future__ import annotations

from typing import Literal

from monai.networks.nets import SegResNetDS
from pydantic import Field
from torch import nn

from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths

GROUPS = 8
"""Of the group normalisations, as published."""


class SegResNetConfig(NetworkSize):
    """Size of a SegResNet.

    Attributes:
        features: At the finest level, which has full resolution; each coarser level has twice as many.
        blocks: Residual blocks a level on the way down, from the finest; the way up has one a level.
    """

    name: Literal["segresnet"] = "segresnet"
    features: int = Field(gt=0, multiple_of=GROUPS)
    blocks: Widths

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return 2 ** (len(self.blocks) - 1)

    @property
    def levels(self) -> Levels:
        """Features double as voxels' edges do."""
        return tuple((self.features << level, 1 << level) for level in range(len(self.blocks)))

    @property
    def most_supervised(self) -> int:
        """All levels but the finest and the bottom."""
        return len(self.blocks) - 2


def segresnet(config: SegResNetConfig) -> nn.Module:
    """MONAI's SegResNetDS with group normalisation.

    Takes (N, in_channels, Z, Y, X), gives logits (N, out_channels, Z, Y, X); a list of them, each half the size of
    the one before, while supervised in depth.
    """
    return SegResNetDS(
        spatial_dims=3,
        init_filters=config.features,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        norm=("group", {"num_groups": GROUPS}),
        blocks_down=config.blocks,
        dsdepth=1 + config.deep_supervision,
    )


def encoder(network: nn.Module) -> nn.ModuleList:
    """MONAI's `encoder`: the way down, with the bottom."""
    assert isinstance(network, SegResNetDS)
    return nn.ModuleList([network.encoder])
