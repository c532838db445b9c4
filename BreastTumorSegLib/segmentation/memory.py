"""How much memory there is, and how much a network needs."""

from __future__ import annotations

import torch

from BreastTumorSegLib.core.machine import memory_mb
from BreastTumorSegLib.networks.catalogue import NetworkConfig
from BreastTumorSegLib.networks.resunet import ResUNetConfig

SHARE_OF_FREE = 0.7
"""Of the free memory, what a pass may take: others need some too, and the estimate is one."""

CPU_LIMIT_BYTES = 2 << 30
"""A pass on the CPU takes no more, however much there is, so that a job stays within the exam plus 2.5 GB."""

UNKNOWN_FREE_BYTES = 4 << 30
"""Assumed free on a CPU whose system does not tell."""

LIVE_TENSORS = 4
"""Full sets of features that are alive at once: skip, a unit's input, what it computes, and the library's scratch."""


def budget(device: torch.device) -> int:
    """Bytes that a pass may take on a device now."""
    if device.type == "cuda":
        return int(SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0])
    free = memory_mb()[1]
    return min(int(SHARE_OF_FREE * (free << 20 if free else UNKNOWN_FREE_BYTES)), CPU_LIMIT_BYTES)


def bytes_per_voxel(config: NetworkConfig, item: int = 4) -> float:
    """Peak bytes a voxel of the input that a pass takes, with `item` bytes a value; an estimate from the widths."""
    head = config.head if isinstance(config, ResUNetConfig) else 0
    features = sum(values / edge**3 for values, edge in config.levels)
    return item * (config.in_channels + (head or config.out_channels) + LIVE_TENSORS * features)
