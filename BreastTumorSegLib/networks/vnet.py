"""V-Net: Milletari et al., "V-Net: fully convolutional neural networks for volumetric medical image segmentation"."""

from __future__ import annotations

from typing import Literal

from monai.networks.nets import VNet
from torch import nn

from BreastTumorSegLib.networks.batch_norm import slow_statistics
from BreastTumorSegLib.networks.size import Levels, NetworkSize

FEATURES = (16, 32, 64, 128, 256)
"""A level on the way down, from the finest, which has full resolution; as published."""


class VNetConfig(NetworkSize):
    """Size of a V-Net, of which there is one; without deep supervision.

    Attributes:
        in_channels: 1, 2, 4, 8 or 16: the image is repeated to 16 features and added to the first ones.
    """

    name: Literal["vnet"] = "vnet"
    in_channels: Literal[1, 2, 4, 8, 16]

    @property
    def multiple(self) -> int:
        """Sizes along each axis must be a multiple of this."""
        return 2 ** (len(FEATURES) - 1)

    @property
    def levels(self) -> Levels:
        """The way up has twice the features of the way down at all levels but the bottom."""
        *upper, bottom = FEATURES
        return (*((2 * features, 1 << level) for level, features in enumerate(upper)), (bottom, self.multiple))


def vnet(config: VNetConfig) -> nn.Module:
    """MONAI's VNet with PReLU, and batch normalisation, which the paper lacks.

    As in the paper, and otherwise than in MONAI's class, nothing is dropped out, and the logits are a 1 x 1 x 1
    convolution of the last features: MONAI's would normalise the single logit.

    Takes (N, in_channels, Z, Y, X), gives logits (N, out_channels, Z, Y, X).
    """
    network = VNet(3, config.in_channels, config.out_channels, act="prelu")
    for layer in network.modules():
        if isinstance(layer, nn.Dropout3d):  # two of them no argument of MONAI's reaches
            layer.p = 0.0
    network.out_tr = nn.Conv3d(2 * FEATURES[0], config.out_channels, 1)
    return slow_statistics(network)


def encoder(network: nn.Module) -> nn.ModuleList:
    """The levels on the way down, from the finest, and the bottom."""
    assert isinstance(network, VNet)
    down = [network.down_tr32, network.down_tr64, network.down_tr128, network.down_tr256]
    return nn.ModuleList([network.in_tr, *down])
