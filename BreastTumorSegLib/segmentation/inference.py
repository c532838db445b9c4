"""Running a network over a volume."""

from __future__ import annotations

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from BreastTumorSegLib.core.errors import InputError, OutOfMemoryError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.inputs import pad_to_multiple

WHOLE_UP_TO_VOXELS = 8_000_000
"""Larger inputs are cut into windows. A bilateral breast at 2 mm has about a million voxels."""

WINDOW = 160
"""Edge of a window in voxels."""


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda".

    Raises:
        InputError: CUDA was asked for and is not there, or the name is another.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"There is no device {name!r}.", "Choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("No CUDA device is available.", "Use --device cpu, or check the driver.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def predict(network: nn.Module, image: Tensor, multiple: int, device: torch.device, events: Events) -> Tensor:
    """Logits (K, Z, Y, X) of a volume (C, Z, Y, X), float32 on the CPU.

    Whole volumes where possible: instance normalisation makes a window's answer differ from the volume's.

    Raises:
        OutOfMemoryError: Not even the CPU has enough memory.
    """
    padded = pad_to_multiple(image, multiple)[None]
    try:
        logits = _run(network, padded, device)
    except torch.cuda.OutOfMemoryError:
        events.warning("The GPU's memory is too small for this exam; the CPU was used.")
        torch.cuda.empty_cache()
        logits = _run_on_cpu(network, padded)
    except (RuntimeError, MemoryError) as error:
        raise _memory_error(error) from error
    _, z, y, x = image.shape
    return logits[0, :, :z, :y, :x]


def _run_on_cpu(network: nn.Module, padded: Tensor) -> Tensor:
    try:
        return _run(network, padded, torch.device("cpu"))
    except (RuntimeError, MemoryError) as error:
        raise _memory_error(error) from error


def _memory_error(error: Exception) -> Exception:
    """torch tells of a lack of memory on the CPU by a RuntimeError; every other one is a bug and stays what it is."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return OutOfMemoryError("There is not enough memory for this exam.", "Close other programs and try again.")
    return error


def _run(network: nn.Module, padded: Tensor, device: torch.device) -> Tensor:
    network = network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    half = device.type == "cuda"
    with torch.autocast(device.type, dtype=torch.float16, enabled=half):
        if padded[0, 0].numel() <= WHOLE_UP_TO_VOXELS:
            logits = network(padded.to(device, memory_format=torch.channels_last_3d))
        else:
            logits = sliding_window_inference(
                padded, WINDOW, 1, network, overlap=0.5, mode="gaussian", sw_device=device, device=torch.device("cpu")
            )
    return logits.float().cpu()
