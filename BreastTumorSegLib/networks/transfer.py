"""Starting from another bundle's encoder, and keeping it as it is."""

from __future__ import annotations

from torch import nn

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.networks.bundle import Bundle
from BreastTumorSegLib.networks.catalogue import NetworkConfig, encoder

SHOWN = 3
"""At most so many weights that don't fit are named."""


def load_encoder(network: nn.Module, config: NetworkConfig, bundle: Bundle) -> int:
    """Copy the encoder's weights from a bundle; returns how many numbers that were.

    `catalogue.encoder` says which modules these are. All else of the network stays as it is.

    Raises:
        ModelError: The bundle has another network, or one whose encoder has other shapes. Nothing is copied then.
    """
    theirs = bundle.description.network
    if theirs.name != config.name:
        raise _misfit(bundle, f"it has a {theirs.name}, and a {config.name} is wanted")
    source, target = (encoder(*pair).state_dict() for pair in ((bundle.network, theirs), (network, config)))
    shapes = [{name: tuple(value.shape) for name, value in weights.items()} for weights in (source, target)]
    wrong = [name for name in {**shapes[1], **shapes[0]} if shapes[0].get(name) != shapes[1].get(name)]
    if wrong:
        found = [f"{name} {shapes[0].get(name, 'missing')}, wanted {shapes[1].get(name, 'none')}" for name in wrong]
        raise _misfit(bundle, "; ".join(found[:SHOWN]) + ("" if len(found) <= SHOWN else f"; {len(found)} in all"))
    encoder(network, config).load_state_dict(source)
    return sum(value.numel() for value in source.values())


def freeze_encoder(network: nn.Module, config: NetworkConfig) -> None:
    """Keep the encoder's weights from being trained.

    Batch normalisations have running statistics beside: see `train_mode`.
    """
    encoder(network, config).requires_grad_(False)


def train_mode(network: nn.Module, keep_statistics: bool = False) -> None:
    """Put a network into training mode, but for batch normalisations that keep their statistics and use them.

    Args:
        keep_statistics: All of them do, not only those that are not trained.
    """
    for layer in network.train().modules():
        if isinstance(layer, nn.BatchNorm3d) and (keep_statistics or not layer.weight.requires_grad):
            layer.eval()


def _misfit(bundle: Bundle, what: str) -> ModelError:
    return ModelError(
        f"The encoder of {bundle.description.name!r} does not fit: {what}.",
        "Name a bundle with the same network, phases and size of the encoder.",
    )
