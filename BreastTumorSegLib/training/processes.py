"""The processes of a run: one, or several under `torchrun`, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def joined_processes(device: torch.device) -> Iterator[None]:
    """Within, processes that `torchrun` started know each other, over NCCL on GPUs and Gloo otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process, where GPUs are used."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


def shared(network: nn.Module) -> nn.Module:
    """The network as one whose gradients are the mean over all processes."""
    if not distributed.is_initialized():
        return network
    trained = any(parameter.requires_grad for parameter in network.parameters())
    return DistributedDataParallel(network) if trained else network


def local_process_count() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def extremes(value: int, device: torch.device) -> tuple[int, int]:
    """The lowest and the highest value that a process has."""
    both = torch.tensor([-value, value], device=device)
    if distributed.is_initialized():
        distributed.all_reduce(both, distributed.ReduceOp.MAX)
    return -int(both[0]), int(both[1])


def barrier() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        distributed.barrier()


def summed(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if distributed.is_initialized():
        distributed.all_reduce(values)
    return values


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether any process says so; all of them must ask."""
    if not distributed.is_initialized():
        return flag
    return bool(summed(torch.tensor(float(flag), device=device)) > 0)
