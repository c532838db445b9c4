"""Batch normalisation for small batches of patches."""

from __future__ import annotations

from torch import nn

MOMENTUM = 0.02
"""Of the batch normalisations' running statistics, which are the mean over some fifty patches then: a batch is few."""


def slow_statistics(network: nn.Module) -> nn.Module:
    """The network itself, its batch normalisations with `MOMENTUM`."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.momentum = MOMENTUM
    return network
