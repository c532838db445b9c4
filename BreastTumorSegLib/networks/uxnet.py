"""3D UX-Net: Lee et al., "3D UX-Net: a large kernel volumetric ConvNet modernizing hierarchical transformer for medical
image segmentation", arXiv 2209.15076."""

from __future__ import annotations

from typing import Literal

from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock
from pydantic import model_validator
from torch import Tensor, nn

from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths

EXPANSION = 4
"""So many times as many features has a block inside, as published."""


class UXNetConfig(NetworkSize):
    """Size of a UX-Net; without deep supervision.

    Attributes:
        features: A stage; the first has half the resolution of the image, each other one half that of the one before.
        depths: Blocks a stage; as many as `features`.
        kernel: Edge of the stem's and of the depthwise convolutions, in voxels of what they work on.
    """

    name: Literal["uxnet"] = "uxnet"
    features: Widths
    depths: Widths
    kernel: Literal[3, 5, 7] = 7

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return 2 ** len(self.features)

    @property
    def levels(self) -> Levels:
        """At full resolution the way up works on two sets of the first features; the bottom has twice the last."""
        stages = ((features, 2 << stage) for stage, features in enumerate(self.features))
        return ((2 * self.features[0], 1), *stages, (2 * self.features[-1], self.multiple))

    @model_validator(mode="after")
    def _stages_fit(self) -> UXNetConfig:
        if len(self.depths) != len(self.features):
            raise ValueError(f"features has {len(self.features)} stages, depths {len(self.depths)}")
        return self


PUBLISHED = UXNetConfig(in_channels=1, out_channels=12, features=(48, 96, 192, 384), depths=(2, 2, 2, 2))
"""The published size, 53.0 M parameters; its logits here are ten clusters, non-enhancing and background."""


class UXNet(nn.Module):
    """Stages of large-kernel blocks on the way down; residual convolutions on every skip and on the way up.

    Steps, skips and way up are UNETR's, with instance normalisation.
    """

    def __init__(self, config: UXNetConfig) -> None:
        super().__init__()
        ins, widths = (config.in_channels, *config.features), (*config.features, 2 * config.features[-1])
        steps = zip(ins, config.features, config.depths, strict=False)
        self.stages = nn.ModuleList(_stage(*step, config.kernel, first=not at) for at, step in enumerate(steps))
        self.skips = nn.ModuleList(_residual(*pair) for pair in zip(ins, widths, strict=True))
        pairs = reversed(list(zip(widths[1:], widths[:-1], strict=True)))
        self.ups = nn.ModuleList(UnetrUpBlock(3, *pair, 3, 2, "instance", res_block=True) for pair in pairs)
        self.last = _residual(widths[0], widths[0])
        self.logits = nn.Conv3d(widths[0], config.out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, out_channels, Z, Y, X) of (N, in_channels, Z, Y, X), each axis a multiple of `multiple`."""
        levels = [image]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        *skips, image = [block(level) for block, level in zip(self.skips, levels, strict=True)]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            image = up(image, skip)
        return self.logits(self.last(image))


class UXBlock(nn.Module):
    """A voxel's surroundings feature by feature, then a widening and narrowing of each feature by itself.

    x + narrow(GELU(widen(norm(around(x))))), of which `widen` makes four features of each and `narrow` one of these
    four: the published "depthwise scaling", without which the network would have 56 M parameters.
    """

    def __init__(self, features: int, kernel: int) -> None:
        super().__init__()
        self.around = nn.Conv3d(features, features, kernel, padding=kernel // 2, groups=features)
        self.norm = FeatureNorm(features)
        self.widen = nn.Conv3d(features, EXPANSION * features, 1, groups=features)
        self.narrow = nn.Conv3d(EXPANSION * features, features, 1, groups=features)

    def forward(self, image: Tensor) -> Tensor:
        """(N, features, Z, Y, X), as it comes in."""
        return image + self.narrow(nn.functional.gelu(self.widen(self.norm(self.around(image)))))


class FeatureNorm(nn.LayerNorm):
    """Layer normalisation over the features of each voxel of (N, C, Z, Y, X): the same in a window and in a volume."""

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, Z, Y, X)."""
        return super().forward(image.movedim(1, -1)).movedim(-1, 1)


def _stage(ins: int, features: int, depth: int, kernel: int, first: bool) -> nn.Sequential:
    """Half the resolution, then blocks. The last normalisation serves the skip and the next stage alike."""
    stem = [nn.Conv3d(ins, features, kernel, 2, kernel // 2), FeatureNorm(features)]
    step = stem if first else [nn.Conv3d(ins, features, 2, 2)]
    return nn.Sequential(*step, *(UXBlock(features, kernel) for _ in range(depth)), FeatureNorm(features))


def _residual(ins: int, outs: int) -> nn.Module:
    return UnetrBasicBlock(3, ins, outs, 3, 1, "instance", res_block=True)


def uxnet(config: UXNetConfig) -> nn.Module:
    """A `UXNet`: layer normalisation in the stages, instance normalisation in the convolutions beside them."""
    return UXNet(config)


def encoder(network: nn.Module) -> nn.ModuleList:
    """The stages. The convolutions on the skips belong to the way up, as those of the Swin UNETR."""
    assert isinstance(network, UXNet)
    return nn.ModuleList([network.stages])
