"""Swin UNETR: Hatamizadeh et al., "Swin transformers for semantic segmentation of brain tumors in MRI images"."""

from __future__ import annotations

from typing import Literal

from monai.networks.nets import SwinUNETR, swin_unetr
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from BreastTumorSegLib.networks.size import Levels, NetworkSize

Stages = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class SwinUNETRConfig(NetworkSize):
    """Size of a Swin UNETR; without deep supervision, as MONAI has it.

    Attributes:
        features: At full resolution; each of the five coarser levels but the first has twice as many as the one before.
        depths: Transformer blocks a stage.
        heads: Attention heads a stage; the stage's features, `features` times 1, 2, 4 and 8, must be a multiple.
        window: Edge of the attention windows in tokens. A token of the last stage is 16 voxels wide: patches should
            be multiples of 16 x `window` voxels along each axis, see docs/inference.md.
    """

    name: Literal["swinunetr"] = "swinunetr"
    features: int = Field(gt=0, multiple_of=12)
    depths: Stages = (2, 2, 2, 2)
    heads: Stages = (3, 6, 12, 24)
    window: int = Field(7, gt=1)

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return 32

    @property
    def levels(self) -> Levels:
        """At full resolution the last block works on two sets of features, or the first stage on its attention.

        Attention has a value for each head, token and other token of a window; a token is 2 x 2 x 2 voxels. The two
        are not alive at once.
        """
        attention = self.heads[0] * self.window**3 / 8
        coarser = ((self.features << level, 2 << level) for level in range(5))
        return ((max(2 * self.features, attention), 1), *coarser)

    @model_validator(mode="after")
    def _heads_fit(self) -> SwinUNETRConfig:
        for stage, heads in enumerate(self.heads):
            if (self.features << stage) % heads:
                raise ValueError(f"{self.features << stage} features of stage {stage} can't be shared by {heads} heads")
        return self


def _rearrange(values: Tensor, pattern: str) -> Tensor:
    """Axes in another order, such as "b c d h w -> b d h w c"."""
    before, after = (side.split() for side in pattern.split("->"))
    return values.permute([before.index(axis) for axis in after])


swin_unetr.rearrange = _rearrange  # all that MONAI's class needs of einops, which is one package less this way


def swinunetr(config: SwinUNETRConfig) -> nn.Module:
    """MONAI's SwinUNETR: layer normalisation in the transformer, instance normalisation in the convolutions.

    Takes (N, in_channels, Z, Y, X), gives logits (N, out_channels, Z, Y, X).
    """
    network = SwinUNETR(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        feature_size=config.features,
        depths=config.depths,
        num_heads=config.heads,
        window_size=config.window,
    )
    for module in network.modules():
        if hasattr(module, "relative_position_index"):  # follows from the window; as weights it would be megabytes
            module.register_buffer("relative_position_index", module.relative_position_index, persistent=False)
    return network


def encoder(network: nn.Module) -> nn.ModuleList:
    """The transformer, `swinViT`. MONAI's `encoder1` to `encoder10` work on its outputs and belong to the way up."""
    assert isinstance(network, SwinUNETR)
    return nn.ModuleList([network.swinViT])
