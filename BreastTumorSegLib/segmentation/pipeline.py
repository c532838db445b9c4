"""The main job: from the phases of an exam to breast mask, lesions, kinetics and clusters."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from BreastTumorSegLib import __version__
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.core.result import ExamResult, Lesion
from BreastTumorSegLib.kinetics import KineticOptions, cluster_curves, kinetic_maps
from BreastTumorSegLib.kinetics.clusters import DEFAULT_K, DEFAULT_METHOD
from BreastTumorSegLib.kinetics.codebooks import codebooks_sha256
from BreastTumorSegLib.kinetics.ftv import breast_volumes
from BreastTumorSegLib.kinetics.maps import told
from BreastTumorSegLib.networks.bundle import Bundle, default_model, load_bundle
from BreastTumorSegLib.segmentation.breast import BreastMask, segment_breast
from BreastTumorSegLib.segmentation.engine import EngineOptions
from BreastTumorSegLib.segmentation.inference import choose_device, limit_threads
from BreastTumorSegLib.segmentation.lesions import label_lesions, measure_lesions
from BreastTumorSegLib.segmentation.nnunet import nnunet_probability, require_nnunet
from BreastTumorSegLib.segmentation.nnunet_models import NnunetBundle, load_tumor_model
from BreastTumorSegLib.segmentation.runtimes import runtime_name
from BreastTumorSegLib.segmentation.tumor import grow, tumor_probability


class Stopwatch:
    """Seconds a stage, and progress when it starts and ends."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; where it tells progress, a cancelled job ends."""
        self._events.progress(name, 0, 1)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 3)
        self._events.progress(name, 1, 1)


def segment_exam(
    exam: Exam,
    model: str | None = None,
    device: str = "auto",
    events: Events | None = None,
    kinetics: KineticOptions | None = None,
    inference: EngineOptions | None = None,
) -> ExamResult:
    """Segment one exam.

    Args:
        model: Name of the tumour model; the registry's default without one.
        device: "auto", "cpu" or "cuda".
        events: Gets progress and warnings.
        kinetics: Times and thresholds of the kinetic maps and the functional tumour volume; the usual ones without it.
        inference: How the tumour network is used beyond the usual.

    Raises:
        InputError: CUDA was asked for and can't be used.
        ModelError: A model is missing or damaged.
        DependencyError: The model is an nnU-Net, and nnunetv2 is not installed.
        OutOfMemoryError: Memory ran out after every fallback.
        Cancelled: On request.
    """
    events = events or Events()
    said = len(events.warnings)  # a caller may use the same events for many exams
    for problem in exam.table.problems:
        events.warning(str(problem))
    limit_threads()
    place = choose_device(device, events)
    breast, tumor = load_bundle(default_model("breast"), "breast"), load_tumor_model(model or default_model("tumor"))
    if isinstance(tumor, NnunetBundle):
        require_nnunet()
    events.progress("models", 1, 1)
    watch = Stopwatch(events)
    options = kinetics or KineticOptions()
    result = _segment(exam, breast, tumor, place, options, inference, events, watch)
    warnings = tuple(dict.fromkeys([*map(str, exam.table.problems), *events.warnings[said:]]))
    manifest = _manifest(result, [breast, tumor], place, watch.seconds, options, warnings)
    return replace(result, warnings=warnings, manifest=manifest)


def _segment(
    exam: Exam,
    breast_bundle: Bundle,
    tumor_bundle: Bundle | NnunetBundle,
    device: torch.device,
    options: KineticOptions,
    inference: EngineOptions | None,
    events: Events,
    watch: Stopwatch,
) -> ExamResult:
    with watch.stage("breast"):
        breast = segment_breast(exam.pre, exam.geometry, breast_bundle, device, events)
        if not breast.labels.any():
            events.warning("No breast was found: is this a breast exam, and is its first phase the pre-contrast one?")
    with watch.stage("tumor"):
        probability, mask = _find_tumor(exam, breast, tumor_bundle, device, inference, events)
        tumor = label_lesions(mask, exam.geometry)
    with watch.stage("kinetics"):
        maps = kinetic_maps(exam.data, exam.times, options)
        ftv, ftv_ml = breast_volumes(exam.data, exam.times, breast.labels, exam.geometry.voxel_ml, options)
    with watch.stage("clusters"):
        clusters = cluster_curves(exam.data, exam.times, breast.labels > 0)
    with watch.stage("lesions"):
        lesions = measure_lesions(tumor, probability, breast.labels, exam, maps.pe, maps.ser, maps.curve_type, options)
    return ExamResult(exam, breast.labels, tumor, probability, maps, ftv, ftv_ml, clusters, lesions)


def _find_tumor(
    exam: Exam,
    breast: BreastMask,
    bundle: Bundle | NnunetBundle,
    device: torch.device,
    inference: EngineOptions | None,
    events: Events,
) -> tuple[np.ndarray, np.ndarray]:
    """Probability, and mask. An nnU-Net draws a lesion's edge itself; the library's networks find seeds to grow."""
    threshold = bundle.description.threshold
    if isinstance(bundle, NnunetBundle):
        mirror = inference is not None and inference.mirror
        probability = nnunet_probability(exam, breast, bundle, device, events, mirror)
        return probability, probability >= threshold
    probability = tumor_probability(exam, breast, bundle, device, events, inference)
    gain = exam.first_post - exam.pre
    return probability, grow(probability, gain, breast.labels > 0, exam.geometry, threshold, events)


def _manifest(
    result: ExamResult,
    bundles: list[Bundle | NnunetBundle],
    device: torch.device,
    seconds: dict[str, float],
    options: KineticOptions,
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    """What result.json holds; nothing of the patient."""
    exam = result.exam
    packages = ("torch", "monai", "SimpleITK", "numpy", "scipy", "scikit-learn")
    return {
        "notice": "Research use only; not a medical device.",
        "versions": {"BreastTumorSeg": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "models": [
            {
                "name": b.description.name,
                "task": b.description.task,
                "version": b.description.version,
                "sha256": b.sha256,
                "runtime": b.runtime(device) if isinstance(b, NnunetBundle) else runtime_name(b, device),
            }
            for b in bundles
        ],
        "clusters": {"method": DEFAULT_METHOD, "k": DEFAULT_K, "codebooks_sha256": codebooks_sha256()},
        "geometry": vars(exam.geometry),
        "phases": [{"name": p.name, "time_s": p.time, "source": p.source.value} for p in exam.table.phases],
        "kinetics": told(result.maps, exam.times, options)
        | {"ftv_ml": {side: _or_null(volume) for side, volume in result.ftv_ml.items()}},
        "timings": seconds,
        "warnings": list(warnings),
        "lesions": [_lesion_row(lesion) for lesion in result.lesions],
    }


def _lesion_row(lesion: Lesion) -> dict[str, Any]:
    """JSON has no NaN; what is not defined is null."""
    row = {**vars(lesion), "size_category": lesion.size_category, "curve_shares": list(lesion.curve_shares)}
    row["curve_shares"] = None if np.isnan(lesion.curve_shares).any() else row["curve_shares"]
    return row | {"ser": _or_null(lesion.ser), "ftv_ml": _or_null(lesion.ftv_ml)}


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else value
