"""What to try where memory runs out, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

CPU = torch.device("cpu")

EDGES = (160, 128, 96, 64)
"""Edges of windows in voxels, from the largest that is tried."""


@dataclass(frozen=True)
class Plan:
    """How a volume goes through a network.

    Attributes:
        device: What computes.
        edge: Of the windows, in voxels; None where the whole volume goes in one pass.
        batch: Windows at once.
        on_device: Whether the volume and the sums of the windows are on the device too.
    """

    device: torch.device
    edge: int | None
    batch: int = 1
    on_device: bool = True


def step_down(plan: Plan) -> tuple[Plan, str] | None:
    """The next plan, which needs less memory, and what to tell of it; None after the last one."""
    return next(_steps(plan), None)


def _steps(plan: Plan) -> Iterator[tuple[Plan, str]]:
    name = "GPU's memory" if plan.device.type == "cuda" else "memory"
    start = f"The {name} is too small for this exam: "
    if plan.batch > 1:
        yield replace(plan, batch=plan.batch // 2), f"{start}windows went through in batches of {plan.batch // 2}."
    for edge in EDGES:
        if plan.edge is None or edge < plan.edge:
            yield replace(plan, edge=edge), f"{start}it was cut into windows of {edge} voxels."
    if plan.device.type == "cuda":
        if plan.on_device:
            yield replace(plan, on_device=False), f"{start}its answer was put together in the computer's memory."
        yield Plan(CPU, None), f"{start}the CPU was used."


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says so. Libraries tell of a lack of memory on the CPU by a RuntimeError."""
    words = ("allocate memory", "bad_alloc", "out of memory", "ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(word in str(error) for word in words)


def is_trouble_of_the_gpu(error: BaseException) -> bool:
    """Whether an error comes from a GPU that is in use, lost, or does not fit the driver."""
    return any(word in str(error) for word in ("CUDA error", "CUDA driver", "cuDNN", "CUDNN", "CUBLAS"))
