"""One engine for every network: a volume in, logits out, by the best way that memory allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from BreastTumorSegLib.core.errors import OutOfMemoryError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.networks.bundle import Bundle
from BreastTumorSegLib.networks.catalogue import at_times, takes_times
from BreastTumorSegLib.networks.inputs import pad_to_multiple
from BreastTumorSegLib.segmentation.fallbacks import (
    CPU,
    EDGES,
    Plan,
    is_lack_of_memory,
    is_trouble_of_the_gpu,
    step_down,
)
from BreastTumorSegLib.segmentation.memory import budget, bytes_per_voxel
from BreastTumorSegLib.segmentation.runtimes import OpenVinoRuntime, Runtime, TorchRuntime, choose_runtime
from BreastTumorSegLib.segmentation.windows import Blend, Start, batches, plan_windows

COARSE_MM = 2.0
"""Spacing of the pass that picks candidates. Networks that see this spacing or a wider one need no other pass."""

CANDIDATE_PROBABILITY = 0.1
"""From this coarse probability on a voxel is looked at closely; far under any threshold, so that none is lost."""

CANDIDATE_MARGIN_MM = 6.0
"""Around them: a lesion's edge is blurred in the coarse pass."""

CANDIDATE_EDGE = 96
"""Window around candidates: most lesions and their surroundings fit into one."""

HALO_SHARE = 0.25
"""The outer quarter of a window, along each edge, lacks its surroundings and is taken from its neighbour."""

GPU_BATCH = 4

REFERENCE_WINDOWS = 4
"""The volume whose statistics are measured has at most so many times the voxels of a window."""

NEVER = -20.0
"""Logit of what nobody asked for."""


@dataclass(frozen=True)
class EngineOptions:
    """How a network is used beyond the usual.

    Attributes:
        whole_breast: Full resolution everywhere, not around candidates only, where one pass does not fit into memory;
            no difference for networks at 2 mm.
        mirror: The mean over all eight mirror images; eight times as long.
    """

    whole_breast: bool = False
    mirror: bool = False


class Engine:
    """Runs one network on one exam.

    Args:
        device: Where to begin; the CPU is used where a GPU fails.
        events: Told of every fallback, and asked between windows whether to go on.
        runtime_of: Makes what computes on a device.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device,
        events: Events,
        options: EngineOptions | None = None,
        runtime_of: Callable[[Bundle, torch.device], Runtime] = choose_runtime,
    ) -> None:
        self._bundle = bundle
        self._device = device
        self._events = events
        self._options = options or EngineOptions()
        self._runtime_of = runtime_of
        self._config = bundle.description.network
        self._runtime: Runtime | None = None
        self._times = torch.zeros(0)

    def predict(self, image: Tensor, wanted: Tensor, times: Tensor | None = None) -> Tensor:
        """Logits (K, Z, Y, X) float32 on the CPU of an image (C, Z, Y, X), right where `wanted`, bool (Z, Y, X).

        Args:
            times: Seconds after injection of the image's phases (C,), which networks that take times need.

        Raises:
            OutOfMemoryError: Memory ran out after every fallback.
            Cancelled: On request.
        """
        if takes_times(self._config):
            if times is None:
                raise ValueError(f"{self._bundle.description.name} takes times of the phases, and there are none")
            if not torch.equal(times, self._times):
                self._times, self._runtime = times, None
        inside = tuple(slice(0, n) for n in wanted.shape)
        padded = pad_to_multiple(image, self._config.multiple)
        mask = torch.zeros(padded.shape[1:], dtype=torch.bool)
        mask[inside] = wanted
        plan = self._first_plan(self._device, padded)
        while True:
            try:
                return self._run(plan, padded, mask)[(slice(None), *inside)]
            except (RuntimeError, MemoryError) as error:
                plan = self._next_plan(plan, padded, error)
            if torch.cuda.is_available():  # here the error is gone, and what it held can be freed
                torch.cuda.empty_cache()

    def _first_plan(self, device: torch.device, padded: Tensor) -> Plan:
        """What the free memory allows, by an estimate."""
        gpu = device.type == "cuda"
        room = budget(device) / bytes_per_voxel(self._config, 2 if gpu else 4)
        voxels = padded[0].numel()
        if voxels <= room:
            return Plan(device, None)
        edges = [CANDIDATE_EDGE, *EDGES[-1:]] if self._coarse_first else EDGES
        edge = next((edge for edge in edges if edge**3 <= room), EDGES[-1])
        if not self._coarse_first:
            self._events.warning(f"Little memory is free: the exam was cut into windows of {edge} voxels.")
        batch = min(max(int(room / edge**3), 1), GPU_BATCH) if gpu else 1
        values = len(padded) + self._config.out_channels + 1
        return Plan(device, edge, batch, on_device=4 * values * voxels <= budget(device) / 2)

    def _next_plan(self, plan: Plan, padded: Tensor, error: RuntimeError | MemoryError) -> Plan:
        """What to try after an error; raises it where it is none of the memory, the GPU or OpenVINO."""
        reason = str(error).partition("\n")[0]
        if is_lack_of_memory(error):
            step = step_down(plan)
            if step is None:
                raise OutOfMemoryError(
                    "There is not enough memory for this exam.", "Close other programs and try again."
                ) from error
            following, message = step
        elif plan.device.type == "cuda" and is_trouble_of_the_gpu(error):
            following, message = Plan(CPU, None), f"The GPU can't be used, the CPU was: {reason}."
        elif isinstance(self._runtime, OpenVinoRuntime):
            self._runtime, self._runtime_of = None, TorchRuntime
            following, message = (
                plan,
                f"OpenVINO can't run {self._bundle.description.name}, PyTorch was used: {reason}.",
            )
        else:
            raise error
        self._events.warning(message)
        return following if following.device == plan.device else self._first_plan(following.device, padded)

    @property
    def _coarse_first(self) -> bool:
        """Classes have no candidates: every voxel has one."""
        described = self._bundle.description
        fine = described.spacing_mm < COARSE_MM - 1e-6
        return fine and described.task != "clusters" and not self._options.whole_breast

    def _run(self, plan: Plan, padded: Tensor, mask: Tensor) -> Tensor:
        if self._runtime is None or self._runtime.device != plan.device:
            network = at_times(self._bundle.network, self._config, self._times)
            self._runtime = self._runtime_of(replace(self._bundle, network=network), plan.device)
        if plan.edge is None:
            return self._logits(padded[None], None)[0].cpu()
        if self._coarse_first:
            return self._around_candidates(plan, padded, mask)
        _, statistics = self._measure(shrunk(padded, self._reference_scale(plan, padded)))
        background = torch.full((self._config.out_channels, *mask.shape), NEVER)
        return self._windows(plan, padded, mask, statistics, background)

    def _around_candidates(self, plan: Plan, padded: Tensor, mask: Tensor) -> Tensor:
        """A coarse pass over the whole; full resolution where it finds anything, and its own answer elsewhere."""
        scale = min(self._bundle.description.spacing_mm / COARSE_MM, self._reference_scale(plan, padded))
        small = shrunk(padded, scale)
        logits, statistics = self._measure(small)
        coarse = logits[:, : small.shape[1], : small.shape[2], : small.shape[3]]
        reach = round(CANDIDATE_MARGIN_MM * scale / self._bundle.description.spacing_mm)
        found = ndimage.maximum_filter(
            (self._bundle.description.probability(coarse).amax(0) >= CANDIDATE_PROBABILITY).numpy(), 2 * reach + 1
        )
        near = functional.interpolate(torch.from_numpy(found)[None, None].float(), mask.shape)[0, 0] > 0
        background = functional.interpolate(coarse[None], mask.shape, mode="trilinear")[0]
        return self._windows(plan, padded, mask & near, statistics, background)

    def _reference_scale(self, plan: Plan, padded: Tensor) -> float:
        """How much smaller a volume must be, an axis, to go through in one pass."""
        room = budget(plan.device) / bytes_per_voxel(self._config, 2 if plan.device.type == "cuda" else 4)
        if plan.edge is not None:
            room = min(room, REFERENCE_WINDOWS * plan.edge**3)
        return min((room / padded[0].numel()) ** (1 / 3), 1.0)

    def _windows(self, plan: Plan, padded: Tensor, mask: Tensor, statistics: Tensor, background: Tensor) -> Tensor:
        """Windows where the mask is, all with the same statistics, blended into the background's logits."""
        wished, step = plan.edge or EDGES[0], self._config.alignment
        if wished < 2 * step:  # memory comes first: attention then sees other blocks than in the volume
            step = self._config.multiple
        edge = wished // step * step
        depth, height, width = (min(edge, n) for n in mask.shape)
        place = plan.device if plan.on_device else CPU
        halo = int(HALO_SHARE * edge)
        image, blend = padded.to(place), Blend(mask.shape, place, halo)
        starts = plan_windows(mask.numpy(), (depth, height, width), halo, step)
        cuts = [(start, _window(image, start, (depth, height, width))) for start in starts]
        for group in batches(cuts, plan.batch):
            self._events.check()
            images = torch.stack([cut for _, cut in group])
            for (start, _), logits in zip(group, self._logits(images, statistics), strict=True):
                blend.add(start, logits)
        return blend.into(background, mask)

    def _measure(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (K, Z, Y, X) and statistics of a volume (C, Z, Y, X) of any size, on the CPU."""
        assert self._runtime is not None
        logits, statistics = self._runtime.measure(pad_to_multiple(image, self._config.multiple)[None], self._events)
        return logits[0].cpu(), statistics.cpu()

    def _logits(self, images: Tensor, statistics: Tensor | None) -> Tensor:
        """Logits (N, K, Z, Y, X), the mean over mirror images where that is asked for."""
        assert self._runtime is not None
        axes = [(), *(flip for n in (1, 2, 3) for flip in combinations((2, 3, 4), n))] if self._options.mirror else [()]
        passes = [self._runtime.logits(images.flip(flip), statistics, self._events).flip(flip) for flip in axes]
        return torch.stack(passes).mean(0) if len(passes) > 1 else passes[0]


def _window(image: Tensor, start: Start, edges: Start) -> Tensor:
    """A view of an image (C, Z, Y, X); shorter where it would stick out."""
    z, y, x = (slice(at, at + edge) for at, edge in zip(start, edges, strict=True))
    return image[:, z, y, x]


def shrunk(image: Tensor, scale: float) -> Tensor:
    """An image (C, Z, Y, X) at `scale` times its size, each voxel the mean of what it covers."""
    size = [max(round(n * scale), 1) for n in image.shape[1:]]
    return image if scale >= 1 else functional.interpolate(image[None], size, mode="area")[0]
