"""MedNeXt: Roy et al., "MedNeXt: transformer-driven scaling of ConvNets for medical image segmentation"."""

from __future__ import annotations

from typing import Literal

from monai.networks.nets import MedNeXt
from pydantic import model_validator
from torch import nn

from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths


class MedNeXtConfig(NetworkSize):
    """Size of a MedNeXt. The way up mirrors the way down.

    The published sizes have 32 features; blocks and expansion are, for S: 2-2-2-2-2 and 2-2-2-2-2; B: 2-2-2-2-2 and
    2-3-4-4-4; M: 3-4-4-4-4 and 2-3-4-4-4; L: 3-4-8-8-8 and 3-4-8-8-8.

    Attributes:
        features: At the finest level, which has full resolution; each coarser level has twice as many.
        blocks: Blocks a level, from the finest to the bottom.
        expansion: By how much each level's blocks widen inside; as many as `blocks`.
        kernel: Edge of the depthwise convolutions in voxels.
    """

    name: Literal["mednext"] = "mednext"
    features: int
    blocks: Widths
    expansion: Widths
    kernel: Literal[3, 5, 7] = 3

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return 2 ** (len(self.blocks) - 1)

    @property
    def levels(self) -> Levels:
        """Features double as voxels' edges do; what a block widens to inside comes on top."""
        return tuple((self.features * (1 + wider) << level, 1 << level) for level, wider in enumerate(self.expansion))

    @property
    def most_supervised(self) -> int:
        """All levels but the finest."""
        return len(self.blocks) - 1

    @model_validator(mode="after")
    def _levels_fit(self) -> MedNeXtConfig:
        if len(self.expansion) != len(self.blocks):
            raise ValueError(f"blocks has {len(self.blocks)} levels, expansion {len(self.expansion)}")
        if self.deep_supervision not in (0, self.most_supervised):
            raise ValueError(
                f"deep_supervision is {self.deep_supervision}, but MedNeXt has coarser outputs at no or all of "
                f"{self.most_supervised} levels"
            )
        return self


def mednext(config: MedNeXtConfig) -> nn.Module:
    """MONAI's MedNeXt with residual connections and group normalisation, a group a feature.

    Takes (N, in_channels, Z, Y, X), gives logits (N, out_channels, Z, Y, X); a tuple of them, each half the size of
    the one before, while supervised in depth.
    """
    *blocks, bottom_blocks = config.blocks
    *expansion, bottom_expansion = config.expansion
    return MedNeXt(
        spatial_dims=3,
        init_filters=config.features,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        encoder_expansion_ratio=expansion,
        decoder_expansion_ratio=expansion[::-1],
        bottleneck_expansion_ratio=bottom_expansion,
        kernel_size=config.kernel,
        deep_supervision=config.deep_supervision > 0,
        use_residual_connection=True,
        blocks_down=blocks,
        blocks_bottleneck=bottom_blocks,
        blocks_up=blocks[::-1],
    )


def encoder(network: nn.Module) -> nn.ModuleList:
    """Stem, stages and steps of the way down, and the bottom."""
    assert isinstance(network, MedNeXt)
    return nn.ModuleList([network.stem, network.enc_stages, network.down_blocks, network.bottleneck])
