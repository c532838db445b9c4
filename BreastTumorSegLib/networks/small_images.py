"""Convolutions whose gradients are right where the image is smaller than the kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sound_gradients(network: nn.Module) -> nn.Module:
    """The network itself, which trains soundly on small images, too.

    In bfloat16 on a CPU PyTorch 2.13 gives a kernel that is larger than the image a wrong gradient, in part of memory
    that was never written. Such layers compute in float32 while training.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv3d and max(layer.kernel_size) > 1:
            layer.__class__ = _SoundConv3d  # whoever made it, with its weights and their names
    return network


class _SoundConv3d(nn.Conv3d):
    """A convolution with the same weights and answers."""

    def _conv_forward(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        small = any(size < edge for size, edge in zip(image.shape[2:], self.kernel_size, strict=True))
        if not (self.training and small and image.device.type == "cpu"):
            return super()._conv_forward(image, weight, bias)
        with torch.autocast("cpu", enabled=False):
            return super()._conv_forward(image.float(), weight, bias)
