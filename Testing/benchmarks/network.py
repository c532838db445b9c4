"""The network stage: the engine against MONAI's sliding window over the whole field of view.

`python Testing/benchmarks/network.py [--repeats 5] [--cases 2] [--published]` prints Markdown tables. Both run in
turns, in one process, with the same weights and threads; times are medians. In every run an engine is made anew,
reads the converted model and compiles it; only the conversion itself, once for each network, is left out.
"""

import argparse
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch.utils.flop_counter import FlopCounterMode

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.machine import memory_mb, worker_threads
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import Bundle, load_bundle
from BreastTumorSegLib.networks.inputs import bounding_box, normalised, pad_to_multiple
from BreastTumorSegLib.networks.resunet import PUBLISHED, resunet
from BreastTumorSegLib.phantom.simulate import simulate_exam
from BreastTumorSegLib.phantom.sites import TRAINING_SITES
from BreastTumorSegLib.segmentation.engine import Engine
from BreastTumorSegLib.segmentation.inference import limit_threads
from BreastTumorSegLib.segmentation.memory import bytes_per_voxel
from BreastTumorSegLib.segmentation.openvino_models import has_bfloat16, openvino

CPU = torch.device("cpu")
ROI = 96
FIRST_SEED = 100


def say(text: str = "") -> None:
    """A line of the tables."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def box_of(breast: torch.Tensor) -> tuple[slice, slice, slice]:
    """The breasts' box with 10 mm around at 2 mm, as the pipeline has it."""
    return bounding_box(breast, 5)


def engine_answer(bundle: Bundle, phases: torch.Tensor, breast: torch.Tensor) -> torch.Tensor:
    """Probability (Z, Y, X) over the field of view, by the engine inside the breasts' box."""
    box = box_of(breast)
    logits = Engine(bundle, CPU, Events()).predict(
        normalised(phases[(slice(None), *box)], "joint-z-score"), breast[box]
    )
    answer = torch.zeros(breast.shape)
    answer[box] = bundle.description.probability(logits[0])
    return answer


@torch.inference_mode()
def sliding_answer(bundle: Bundle, phases: torch.Tensor, roi: int = ROI) -> torch.Tensor:
    """The same by MONAI's sliding window over everything: overlap of a half, eager, float32."""
    image = normalised(phases, "joint-z-score")[None]
    logits = sliding_window_inference(image, roi, 1, bundle.network, overlap=0.5)
    return bundle.description.probability(logits[0, 0])


def in_turns(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Median seconds of each, one of each in turn, after one that does not count."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for run, spent in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                spent.append(time.perf_counter() - start)
    return [statistics.median(spent) for spent in seconds]


def machine() -> None:
    """What was measured on, without its name."""
    table = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", table.read_text(), re.MULTILINE) if table.exists() else []
    cpu = names[0] if names else platform.processor()
    packages = [f"{name} {version(name)}" for name in ("torch", "monai", "numpy")]
    packages += [f"openvino {version('openvino')}"] if openvino() else ["no openvino"]
    say(f"{cpu}, {worker_threads()} threads, {(memory_mb()[0] or 0) / 1024:.0f} GiB; {', '.join(packages)}\n")


def shipped(bundle: Bundle, repeats: int) -> None:
    """The shipped tumour network on one exam's field of view."""
    exam = simulate_exam("DUKE", FIRST_SEED, bundle.description.spacing_mm, phases=2)
    breast = exam.breast > 0
    ours, theirs = in_turns(
        repeats,
        lambda: engine_answer(bundle, exam.data, breast),
        lambda: sliding_answer(bundle, exam.data),
    )
    shape = " x ".join(map(str, reversed(breast.shape)))
    inside = " x ".join(str(part.stop - part.start) for part in reversed(box_of(breast)))
    say("| tumour network, one DUKE exam at 2 mm | voxels | seconds |\n|---|---|---|")
    say(f"| sliding window, whole field of view | {shape} | {theirs:.2f} |")
    say(f"| engine, breasts' box | {inside} | {ours:.3f} |\n\n{theirs / ours:.1f} times faster, {repeats} runs.\n")


def accuracy(bundle: Bundle, cases: int) -> None:
    """Tumour Dice of both inside the breasts, on held-out exams; and of float32 against what the engine uses."""
    single = replace(bundle, description=bundle.description.model_copy(update={"bfloat16_dice_change": None}))
    half = replace(bundle, description=bundle.description.model_copy(update={"bfloat16_dice_change": 0.0}))
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + cases):
        for site in TRAINING_SITES:
            exam = simulate_exam(site, seed, bundle.description.spacing_mm, phases=2)
            breast, tumor = exam.breast > 0, exam.tumor.numpy()
            answers = [engine_answer(kind, exam.data, breast) for kind in (single, half)]
            answers.append(sliding_answer(bundle, exam.data))
            masks = [((answer >= bundle.description.threshold) & breast).numpy() for answer in answers]
            rows.append(
                [dice(mask, tumor, empty=float("nan")) for mask in masks] + [dice(masks[0], masks[1], empty=1.0)]
            )
    mean = np.nanmean(rows, axis=0)
    say(f"| {len(rows)} held-out exams, at 2 mm, in the breasts | mean Dice |\n|---|---|")
    for name, value in zip(("engine, float32", "engine, bfloat16", "sliding window, float32"), mean, strict=False):
        say(f"| {name} | {value:.4f} |")
    changes = np.abs(np.diff(np.array(rows)[:, :2], axis=1))
    lowest = np.min(rows, axis=0)[3]
    say(f"\nbfloat16 against float32: Dice of the masks {mean[3]:.4f} in the mean, {lowest:.4f} at least;")
    say(f"tumour Dice changes by {np.nanmean(changes):.4f} in the mean, {np.nanmax(changes):.4f} at most.\n")


def published(repeats: int) -> None:
    """The published widths with random weights at 1 mm, where the engine looks at candidates first."""
    torch.manual_seed(0)
    template = load_bundle("tumor-resunet", "tumor").description
    description = template.model_copy(
        update={"name": "published", "network": PUBLISHED, "spacing_mm": 1.0, "bfloat16_dice_change": 0.0}
    )
    bundle = Bundle(description, "random-published-widths", resunet(PUBLISHED).eval())
    phases, breast = torch.randn(2, 160, 320, 320), torch.zeros(160, 320, 320, dtype=torch.bool)
    breast[10:150, 20:150, 10:310] = True
    lesions = torch.zeros_like(breast)
    for z, y, x in ((60, 70, 80), (90, 80, 240), (100, 60, 100)):
        lesions[z : z + 20, y : y + 20, x : x + 20] = True
    inside = (slice(5, 155), slice(15, 155), slice(5, 315))
    runs = {
        "sliding window, whole field of view, roi 128": lambda: sliding_answer(bundle, phases, 128),
        "engine, breasts' box in one pass": lambda: _answer(bundle, phases, breast, inside),
        "engine, as with too little memory: coarse pass, windows around three lesions": lambda: _three_lesions(
            bundle, phases, lesions, inside
        ),
    }
    seconds = in_turns(repeats, *runs.values())
    say("| published widths, random weights, 320 x 320 x 160 at 1 mm | seconds | times faster |\n|---|---|---|")
    for name, spent in zip(runs, seconds, strict=True):
        say(f"| {name} | {spent:.2f} | {seconds[0] / spent:.1f} |")
    say()


def _answer(
    bundle: Bundle, phases: torch.Tensor, wanted: torch.Tensor, box: tuple[slice, slice, slice]
) -> torch.Tensor:
    return Engine(bundle, CPU, Events()).predict(phases[(slice(None), *box)], wanted[box])


def _three_lesions(
    bundle: Bundle, phases: torch.Tensor, lesions: torch.Tensor, box: tuple[slice, slice, slice]
) -> torch.Tensor:
    """Random weights find nothing or everything: three lesions are asked for, and the coarse pass takes all of them."""
    from BreastTumorSegLib.segmentation import engine

    usual = engine.CANDIDATE_PROBABILITY, engine.budget
    engine.CANDIDATE_PROBABILITY = 0.0
    engine.budget = lambda _device: int(1.5e6 * bytes_per_voxel(bundle.description.network))
    try:
        return _answer(bundle, phases, lesions, box)
    finally:
        engine.CANDIDATE_PROBABILITY, engine.budget = usual


def growth(bundle: Bundle, repeats: int) -> float:
    """Seconds for 1, 2, 4 and 8 times the voxels; returns the largest one's floating point operations a second."""
    shapes = [(56, 64, 80), (56, 64, 160), (56, 128, 160), (112, 128, 160)]
    images = [torch.randn(2, *shape) for shape in shapes]

    def run(image: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: Engine(bundle, CPU, Events()).predict(image, torch.ones(image.shape[1:], dtype=torch.bool))

    seconds = in_turns(repeats, *map(run, images))
    exponent = np.polyfit(np.log([image[0].numel() for image in images]), np.log(seconds), 1)[0]
    say("| voxels | seconds |\n|---|---|")
    for shape, spent in zip(shapes, seconds, strict=True):
        say(f"| {' x '.join(map(str, reversed(shape)))} | {spent:.3f} |")
    say(f"\nTime grows as voxels to the power of {exponent:.2f}.\n")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        bundle.network(pad_to_multiple(images[0], 8)[None])
    return counter.get_total_flops() * images[-1][0].numel() / images[0][0].numel() / seconds[-1]


def limit(rate: float) -> None:
    """The network's rate against the best matrix product."""
    say("| | GFLOP/s | share |\n|---|---|---|")
    for kind in (torch.float32, torch.bfloat16):
        matrix = torch.randn(3072, 3072).to(kind)
        best = min(_timed(lambda matrix=matrix: matrix @ matrix) for _ in range(7))
        product = 2 * 3072**3 / best
        say(f"| matrix product, {str(kind)[6:]} | {product / 1e9:.0f} | network at {rate / product:.0%} |")
    say(f"| tumour network in the engine | {rate / 1e9:.0f} | |\n")


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Everything, to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", type=int, default=2, help="held-out exams a site")
    parser.add_argument("--published", action="store_true", help="only the published widths: minutes")
    arguments = parser.parse_args()
    limit_threads()
    machine()
    if arguments.published:
        published(arguments.repeats)
        return
    bundle = load_bundle("tumor-resunet", "tumor")
    say(f"The engine computes in {'bfloat16' if openvino() and has_bfloat16() else 'float32'} where that is allowed.\n")
    shipped(bundle, arguments.repeats)
    limit(growth(bundle, arguments.repeats))
    accuracy(bundle, arguments.cases)


if __name__ == "__main__":
    main()
