"""Segmentation of a pre-contrast image with maps of predicted curve clusters.

After KIS-Net of Xie et al., "Tumor segmentation with heterogeneity clustering in non-contrast breast MRI", section 2.3.
Its code is not public, and its text has neither equations of the fusion block nor widths: what it leaves open is the
simplest here.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from BreastTumorSegLib.networks import resunet
from BreastTumorSegLib.networks.batch_norm import slow_statistics
from BreastTumorSegLib.networks.resunet import ResUNetConfig
from BreastTumorSegLib.networks.size import Levels, NetworkSize, Widths


class KISNetConfig(NetworkSize):
    """Size of a KIS-Net; without deep supervision.

    Attributes:
        in_channels: The image, and a map of each label; without maps take a `ResUNetConfig`.
        channels, strides: Of the residual U-Net that sees the image, as in `ResUNetConfig`.
        features: That it hands to the fusion, at full resolution.
        embedding: Features of a label.
    """

    name: Literal["kisnet"] = "kisnet"
    in_channels: int = Field(ge=2)
    channels: Widths
    strides: tuple[int, ...]
    features: PositiveInt
    embedding: PositiveInt

    @property
    def structure(self) -> ResUNetConfig:
        """The residual U-Net that sees the image."""
        return ResUNetConfig(
            in_channels=1, out_channels=self.features, channels=self.channels, strides=self.strides, head=self.features
        )

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return self.structure.multiple

    @property
    def levels(self) -> Levels:
        """The residual U-Net's, and what the fusion works on at full resolution."""
        return ((self.features + self.embedding, 1), *self.structure.levels)


class KISNet(nn.Module):
    """A residual U-Net's features of the image, fused with the maps at full resolution, where they become the logits.

    The paper's fusion block ends in the segmentation, so that it lies behind the U-Net.
    """

    def __init__(self, config: KISNetConfig) -> None:
        super().__init__()
        self.structure = resunet.resunet(config.structure)
        self.fusion = KineticFusion(config.in_channels - 1, config.embedding, config.features, config.out_channels)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, out_channels, Z, Y, X).

        Args:
            image: (N, 1 + K, Z, Y, X): the pre-contrast image, then the probabilities of K labels, which are not
                normalised with it; each axis a multiple of the config's `multiple`. What the image was padded with is
                less than 0, and no probability of anything.
        """
        return self.fusion(self.structure(image[:, :1]), image[:, 1:].clamp(0, 1))


class KineticFusion(nn.Module):
    """The kinetic information fusion block.

    As in the paper: labels are embedded as vectors, which convolutions and a sigmoid make into features from 0 to 1;
    these are concatenated with the image's, and 3 x 3 x 3 convolutions and a batch normalisation follow. Its last
    sigmoid is the loss's or the inference's. Open there: two convolutions each, with PReLU; and the normalised are the
    features in front of a last 1 x 1 x 1 convolution, not the logits, whose scale is then free.
    """

    def __init__(self, labels: int, embedding: int, features: int, out_channels: int) -> None:
        super().__init__()
        self.embed = nn.Conv3d(labels, embedding, 1, bias=False)
        nn.init.normal_(self.embed.weight)  # as PyTorch's own embeddings
        self.kinetics = nn.Sequential(
            nn.Conv3d(embedding, embedding, 3, padding=1),
            nn.PReLU(),
            nn.Conv3d(embedding, embedding, 3, padding=1),
            nn.Sigmoid(),
        )
        self.fused = nn.Sequential(
            nn.Conv3d(features + embedding, features, 3, padding=1),
            nn.PReLU(),
            nn.Conv3d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm3d(features),
            nn.PReLU(),
            nn.Conv3d(features, out_channels, 1),
        )

    def forward(self, structure: Tensor, probabilities: Tensor) -> Tensor:
        """Logits (N, out_channels, Z, Y, X).

        Args:
            structure: Features of the image, (N, features, Z, Y, X).
            probabilities: Of the labels, (N, labels, Z, Y, X). The embedding is the mean of their vectors; with ones
                and zeros it is the look-up of a label.
        """
        return self.fused(torch.cat([structure, self.kinetics(self.embed(probabilities))], 1))


def kisnet(config: KISNetConfig) -> nn.Module:
    """A `KISNet`: instance normalisation in the residual U-Net, batch normalisation in the fusion."""
    return slow_statistics(KISNet(config))


def encoder(network: nn.Module) -> nn.ModuleList:
    """The residual U-Net's."""
    assert isinstance(network, KISNet)
    return resunet.encoder(network.structure)
