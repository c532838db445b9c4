"""The networks by name: their configs, how each is built, and which of its modules are the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from BreastTumorSegLib.networks import (
    dynunet,
    kisnet,
    mednext,
    resunet,
    segresnet,
    spatial_temporal,
    swinunetr,
    uxnet,
    vnet,
)
from BreastTumorSegLib.networks.dynunet import DynUNetConfig
from BreastTumorSegLib.networks.kisnet import KISNetConfig
from BreastTumorSegLib.networks.mednext import MedNeXtConfig
from BreastTumorSegLib.networks.resunet import ResUNetConfig
from BreastTumorSegLib.networks.segresnet import SegResNetConfig
from BreastTumorSegLib.networks.small_images import sound_gradients
from BreastTumorSegLib.networks.spatial_temporal import AtTimes, SpatialTemporalConfig
from BreastTumorSegLib.networks.swinunetr import SwinUNETRConfig
from BreastTumorSegLib.networks.uxnet import UXNetConfig
from BreastTumorSegLib.networks.vnet import VNetConfig


def _named(values: Any) -> Any:
    """The first bundles name no network: they have the ResUNet."""
    return {"name": "resunet", **values} if isinstance(values, dict) else values


NetworkConfig = Annotated[
    ResUNetConfig
    | DynUNetConfig
    | SegResNetConfig
    | MedNeXtConfig
    | SwinUNETRConfig
    | SpatialTemporalConfig
    | UXNetConfig
    | VNetConfig
    | KISNetConfig,
    Field(discriminator="name"),
    BeforeValidator(_named),
]
"""One network and its size; `name` says which."""

_BUILDERS: dict[str, Callable[[Any], nn.Module]] = {
    "resunet": resunet.resunet,
    "dynunet": dynunet.dynunet,
    "segresnet": segresnet.segresnet,
    "mednext": mednext.mednext,
    "swinunetr": swinunetr.swinunetr,
    "spatial_temporal": spatial_temporal.spatial_temporal,
    "uxnet": uxnet.uxnet,
    "vnet": vnet.vnet,
    "kisnet": kisnet.kisnet,
}
_ENCODERS: dict[str, Callable[[nn.Module], nn.ModuleList]] = {
    "resunet": resunet.encoder,
    "dynunet": dynunet.encoder,
    "segresnet": segresnet.encoder,
    "mednext": mednext.encoder,
    "swinunetr": swinunetr.encoder,
    "spatial_temporal": spatial_temporal.encoder,
    "uxnet": uxnet.encoder,
    "vnet": vnet.encoder,
    "kisnet": kisnet.encoder,
}


def build_network(config: NetworkConfig) -> nn.Module:
    """A network with new weights.

    Takes (N, in_channels, Z, Y, X), each axis a multiple of `config.multiple`; a network that `takes_times` phases and
    times instead. In evaluation mode it gives logits (N, out_channels, Z, Y, X); for training see `supervised_logits`.
    """
    return sound_gradients(_BUILDERS[config.name](config))


def takes_times(config: NetworkConfig) -> bool:
    """Whether the network takes any number of phases (N, T, Z, Y, X), and their times (N, T)."""
    return isinstance(config, SpatialTemporalConfig)


def encoder(network: nn.Module, config: NetworkConfig) -> nn.ModuleList:
    """The network's own modules that are its encoder: all that lies before the first step up.

    Their names in the list depend on the encoder only, so that two networks' can be compared.
    """
    return _ENCODERS[config.name](network)


def takes_maps(config: NetworkConfig) -> bool:
    """Whether the network takes probabilities of clusters behind the phases."""
    return isinstance(config, KISNetConfig)


def at_times(network: nn.Module, config: NetworkConfig, times: Tensor) -> nn.Module:
    """The network for images (N, C, Z, Y, X) of one exam, whose phases have these times (C,), if it takes times."""
    return AtTimes(network, times) if takes_times(config) else network


def supervised_logits(network: nn.Module, image: Tensor, times: Tensor | None = None) -> tuple[Tensor, ...]:
    """All outputs for an image (N, C, Z, Y, X), the finest first; one unless the network trains with deep supervision.

    `times` (N, C) are for networks that take them, and only for those.

    Each is (N, K, Z', Y', X'): DynUNet's coarser outputs are brought to full size, those of the others are smaller by
    2, 4 and so on.
    """
    outputs = network(image) if times is None else network(image, times)
    if isinstance(outputs, Tensor):
        return outputs.unbind(1) if outputs.ndim == 6 else (outputs,)
    return tuple(outputs)
