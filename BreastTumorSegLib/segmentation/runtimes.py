"""What computes a network's answer: PyTorch anywhere, OpenVINO on the CPU where it is installed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.machine import worker_threads
from BreastTumorSegLib.networks.bundle import Bundle
from BreastTumorSegLib.networks.catalogue import takes_times
from BreastTumorSegLib.networks.spatial_temporal import AtTimes, SpatialTemporalNetwork
from BreastTumorSegLib.segmentation.normalisation import ExamNetwork
from BreastTumorSegLib.segmentation.openvino_models import Form, core, has_bfloat16, load_converted, openvino

BFLOAT16_DICE_LIMIT = 0.001
"""A network whose Dice bfloat16 moves by more, or of which it is not known, computes in float32."""

POLL_MS = 50
"""How often a running pass looks whether its job is cancelled."""

Shapes = tuple[tuple[int, ...], ...]
"""Of a model's inputs."""


class Runtime(Protocol):
    """Computes logits in float32, of inputs on the CPU; the logits are on `device`."""

    device: torch.device

    def logits(self, images: Tensor, statistics: Tensor | None, events: Events) -> Tensor:
        """Logits (N, K, Z, Y, X) of (N, C, Z, Y, X), with the input's own statistics or those given, (2, F)."""

    def measure(self, image: Tensor, events: Events) -> tuple[Tensor, Tensor]:
        """Logits of one volume (1, C, Z, Y, X), and its statistics."""


class TorchRuntime:
    """PyTorch as it is; on a GPU in half precision with channels last."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.device = device
        self._network = ExamNetwork(bundle.network).to(device)
        if device.type == "cuda":
            self._network = self._network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @torch.inference_mode()
    def logits(self, images: Tensor, statistics: Tensor | None, events: Events) -> Tensor:
        """See `Runtime`."""
        given = None if statistics is None else statistics.to(self.device)
        with self._precision():
            return self._network(self._there(images), given).float()

    @torch.inference_mode()
    def measure(self, image: Tensor, events: Events) -> tuple[Tensor, Tensor]:
        """See `Runtime`."""
        with self._precision():
            logits, statistics = self._network.measure(self._there(image))
        return logits.float(), statistics.float()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.float16, enabled=self.device.type == "cuda")

    def _there(self, images: Tensor) -> Tensor:
        """On the device. From pinned memory a copy runs beside what is computed."""
        if self.device.type != "cuda":
            return images
        there = images if images.is_cuda else images.pin_memory().to(self.device, non_blocking=True)
        return there.contiguous(memory_format=torch.channels_last_3d)


class OpenVinoRuntime:
    """OpenVINO on the CPU, compiled for each shape that comes: that takes a tenth of a second and saves more."""

    device = torch.device("cpu")

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._compiled: dict[tuple[Form, Shapes], Any] = {}

    def logits(self, images: Tensor, statistics: Tensor | None, events: Events) -> Tensor:
        """See `Runtime`."""
        if statistics is None:
            return self._infer("live", [images], events)[0]
        return self._infer("fixed", [images, statistics], events)[0]

    def measure(self, image: Tensor, events: Events) -> tuple[Tensor, Tensor]:
        """See `Runtime`."""
        logits, statistics = self._infer("measuring", [image], events)
        return logits, statistics

    def _infer(self, form: Form, inputs: list[Tensor], events: Events) -> list[Tensor]:
        request = self._model(form, tuple(tuple(values.shape) for values in inputs)).create_infer_request()
        events.check()  # compiling took a while
        arrays = {number: np.ascontiguousarray(values.numpy()) for number, values in enumerate(inputs)}
        request.start_async(arrays, share_inputs=True)
        while not request.wait_for(POLL_MS):
            try:
                events.check()
            except BaseException:
                request.cancel()
                with suppress(RuntimeError):  # says that it was cancelled; without this the request's end waits for all
                    request.wait()
                raise
        return [torch.from_numpy(output.data.copy()) for output in request.output_tensors]

    def _model(self, form: Form, shapes: Shapes) -> Any:
        """Compiled for one shape of each input. Threads are not pinned: two workers' would share cores."""
        if (form, shapes) not in self._compiled:
            model = load_converted(self._bundle, form)
            model.reshape({number: list(shape) for number, shape in enumerate(shapes)})
            given = form in ("measuring", "fixed")  # with given statistics bfloat16's rounding weighs more
            half = not given and uses_bfloat16(self._bundle)
            options = {
                "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
                "INFERENCE_NUM_THREADS": worker_threads(),
                "ENABLE_CPU_PINNING": False,
            }
            self._compiled[form, shapes] = core().compile_model(model, "CPU", options)
        return self._compiled[form, shapes]


class PhasesRuntime(OpenVinoRuntime):
    """OpenVINO for the encoder and the decoder of a network that takes times.

    What joins the phases stays with PyTorch: its graph is another one for each number of phases.
    """

    def __init__(self, bundle: Bundle) -> None:
        bound = bundle.network
        assert isinstance(bound, AtTimes) and isinstance(bound.network, SpatialTemporalNetwork)
        bound.network.cpu()  # where a GPU failed, the weights are still there
        super().__init__(replace(bundle, network=bound.network))
        self._network, self._times = bound.network, bound.times

    @torch.inference_mode()
    def logits(self, images: Tensor, statistics: Tensor | None, events: Events) -> Tensor:
        """See `Runtime`. The network's normalisations have learned statistics, so that there are none of an input."""

        def encoder(phases: Tensor) -> list[Tensor]:
            return self._infer("encoder", [phases], events)

        def decoder(*features: Tensor) -> Tensor:
            return self._infer("decoder", list(features), events)[0]

        return self._network.with_parts(encoder, decoder, images, self._times.expand(len(images), -1))

    def measure(self, image: Tensor, events: Events) -> tuple[Tensor, Tensor]:
        """See `Runtime`."""
        return self.logits(image, None, events), torch.zeros(2, 0)


def uses_bfloat16(bundle: Bundle) -> bool:
    """Whether OpenVINO computes this network in bfloat16 on this processor."""
    change = bundle.description.bfloat16_dice_change
    return change is not None and change <= BFLOAT16_DICE_LIMIT and has_bfloat16()


def choose_runtime(bundle: Bundle, device: torch.device) -> Runtime:
    """OpenVINO on a CPU that has it, PyTorch otherwise."""
    if device.type != "cpu" or openvino() is None:
        return TorchRuntime(bundle, device)
    return PhasesRuntime(bundle) if takes_times(bundle.description.network) else OpenVinoRuntime(bundle)


def runtime_name(bundle: Bundle, device: torch.device) -> str:
    """What a bundle begins with on a device, in words; a fallback from it is told as a warning."""
    library = openvino() if device.type == "cpu" else None
    if library is None:
        return f"PyTorch, float{16 if device.type == 'cuda' else 32}"
    rest = "; between encoder and decoder PyTorch, float32" if takes_times(bundle.description.network) else ""
    precision = "bfloat16" if uses_bfloat16(bundle) else "float32"
    return f"OpenVINO {library.get_version().split('-')[0]}, {precision}{rest}"
