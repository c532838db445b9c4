"""The device, and the threads, that an exam is computed with."""

from __future__ import annotations

import warnings
from functools import lru_cache

import SimpleITK as sitk
import torch

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.machine import worker_threads


def choose_device(name: str, events: Events | None = None) -> torch.device:
    """The device for "auto", "cpu" or "cuda".

    With "auto" a GPU that can't be used is told as a warning, and the CPU is taken.

    Raises:
        InputError: CUDA was asked for and can't be used, or the name is another.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"There is no device {name!r}.", "Choose auto, cpu or cuda.")
    if name == "cpu":
        return torch.device("cpu")
    usable, reason = _try_gpu()
    if name == "cuda" and not usable:
        raise InputError(f"No CUDA device is available{_because(reason)}.", "Use --device cpu, or check the driver.")
    if reason and not usable and events:
        events.warning(f"No GPU can be used, the CPU was{_because(reason)}.")
    return torch.device("cuda" if usable else "cpu")


def limit_threads() -> None:
    """Keep PyTorch and SimpleITK to this worker's share of the cores; see `core.machine.worker_threads`."""
    threads = worker_threads()
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


@lru_cache(maxsize=1)
def _try_gpu() -> tuple[bool, str]:
    """Whether a GPU computes, and why not: no driver, an old one, in use by others. PyTorch says it once a process."""
    if torch.version.cuda is None and torch.version.hip is None:
        return False, ""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                torch.zeros(1, device="cuda")
                return True, ""
        except (RuntimeError, AssertionError) as error:
            return False, str(error)
    return False, str(said[0].message) if said else ""


def _because(reason: str) -> str:
    """The first sentence of what PyTorch says; the others are for programmers."""
    first = reason.partition("\n")[0].partition(". ")[0].rstrip(".")
    return f": {first}" if first else ""
