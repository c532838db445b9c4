"""The main job: from the phases of an exam to breast mask, lesions, kinetics and clusters; see `noncontrast`, too."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from BreastTumorSegLib import __version__
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam, require_contrast
from BreastTumorSegLib.core.models import description_sha256
from BreastTumorSegLib.core.result import ExamResult, Lesion, NonContrastResult
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
from BreastTumorSegLib.segmentation.nnunet_models import NnunetBundle, load_tumor_model, without_contrast
from BreastTumorSegLib.segmentation.noncontrast import load_clusters_model, segment_noncontrast
from BreastTumorSegLib.segmentation.refinement import load_refinement, outlined
from BreastTumorSegLib.segmentation.runtimes import runtime_name
from BreastTumorSegLib.segmentation.stopwatch import Stopwatch
from BreastTumorSegLib.segmentation.tumor import tumor_probability


def segment_exam(
    exam: Exam,
    model: str | None = None,
    device: str = "auto",
    events: Events | None = None,
    kinetics: KineticOptions | None = None,
    inference: EngineOptions | None = None,
) -> ExamResult | NonContrastResult:
    """Segment one exam.

    Args:
        model: Name of the tumour model; the registry's default without one, which needs contrast. One that takes the
            pre-contrast phase alone gives a `NonContrastResult`, all others an `ExamResult`.
        device: "auto", "cpu" or "cuda".
        events: Gets progress and warnings.
        kinetics: Times and thresholds of the kinetic maps and the functional tumour volume; the usual ones without it.
        inference: How the tumour network is used beyond the usual.

    Raises:
        InputError: CUDA was asked for and can't be used; or the exam has one phase, and the model needs more.
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
    watch = Stopwatch(events)
    result: ExamResult | NonContrastResult
    bundles: list[Bundle | NnunetBundle]
    if without_contrast(tumor):
        clusters = load_clusters_model(tumor)
        events.progress("models", 1, 1)
        mask = _segment_breast(exam, breast, place, events, watch)
        result = segment_noncontrast(exam, mask, clusters, tumor, place, inference, events, watch)
        bundles, facts = [breast, clusters, tumor], _noncontrast_facts(result)
    else:
        require_contrast(exam, ", or name a model that works without contrast: --model NAME, see models list")
        if isinstance(tumor, NnunetBundle):
            require_nnunet()
        refinement = load_refinement(tumor) if isinstance(tumor, Bundle) else None
        events.progress("models", 1, 1)
        options = kinetics or KineticOptions()
        mask = _segment_breast(exam, breast, place, events, watch)
        result = _segment(exam, mask, tumor, refinement, place, options, inference, events, watch)
        bundles = [breast, *_members(tumor), *([refinement] if refinement else [])]
        facts = _contrast_facts(result, options)
    warnings = tuple(dict.fromkeys([*map(str, exam.table.problems), *events.warnings[said:]]))
    manifest = _manifest(result, bundles, place, watch.seconds, facts, warnings)
    return replace(result, warnings=warnings, manifest=manifest)


def _members(tumor: Bundle | NnunetBundle) -> tuple[Bundle | NnunetBundle, ...]:
    return tumor.members if isinstance(tumor, Bundle) else (tumor,)


def _segment_breast(exam: Exam, bundle: Bundle, device: torch.device, events: Events, watch: Stopwatch) -> BreastMask:
    with watch.stage("breast"):
        breast = segment_breast(exam.pre, exam.geometry, bundle, device, events)
        if not breast.labels.any():
            events.warning("No breast was found: is this a breast exam, and is its first phase the pre-contrast one?")
    return breast


def _segment(
    exam: Exam,
    breast: BreastMask,
    tumor_bundle: Bundle | NnunetBundle,
    refinement: Bundle | None,
    device: torch.device,
    options: KineticOptions,
    inference: EngineOptions | None,
    events: Events,
    watch: Stopwatch,
) -> ExamResult:
    with watch.stage("tumor"):
        probability, likely = _find_tumor(exam, breast, tumor_bundle, refinement, device, inference, events)
        tumor = label_lesions(likely > 0, exam.geometry)
    with watch.stage("kinetics"):
        maps = kinetic_maps(exam.data, exam.times, options)
        ftv, ftv_ml = breast_volumes(exam.data, exam.times, breast.labels, exam.geometry.voxel_ml, options)
    with watch.stage("clusters"):
        clusters = cluster_curves(exam.data, exam.times, breast.labels > 0)
    with watch.stage("lesions"):
        lesions = measure_lesions(tumor, likely, breast.labels, exam, maps.pe, maps.ser, maps.curve_type, options)
    return ExamResult(exam, breast.labels, tumor, probability, maps, ftv, ftv_ml, clusters, lesions)


def _find_tumor(
    exam: Exam,
    breast: BreastMask,
    bundle: Bundle | NnunetBundle,
    refinement: Bundle | None,
    device: torch.device,
    inference: EngineOptions | None,
    events: Events,
) -> tuple[np.ndarray, np.ndarray]:
    """Probability, and how likely lesions are, 0 outside of them, both (Z, Y, X).

    An nnU-Net draws a lesion's edge itself; the library's networks find candidates.
    """
    if isinstance(bundle, NnunetBundle):
        mirror = inference is not None and inference.mirror
        probability = nnunet_probability(exam, breast, bundle, device, events, mirror)
        return probability, np.where(probability >= bundle.description.threshold, probability, 0)
    probability = tumor_probability(exam, breast, bundle, device, events, inference)
    return probability, outlined(probability, exam, breast, bundle.description, refinement, device, events)


def _manifest(
    result: ExamResult | NonContrastResult,
    bundles: Sequence[Bundle | NnunetBundle],
    device: torch.device,
    seconds: dict[str, float],
    facts: dict[str, Any],
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    """What result.json holds; nothing of the patient. `facts` differ with and without contrast."""
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
                "description_sha256": description_sha256(b.description.name),
                "runtime": b.runtime(device) if isinstance(b, NnunetBundle) else runtime_name(b, device),
            }
            for b in bundles
        ],
        "geometry": vars(exam.geometry),
        "phases": [{"name": p.name, "time_s": p.time, "source": p.source.value} for p in exam.table.phases],
        **facts,
        "timings": seconds,
        "warnings": list(warnings),
    }


def _contrast_facts(result: ExamResult, options: KineticOptions) -> dict[str, Any]:
    return {
        "contrast": True,
        "heterogeneity": "measured",
        "clusters": {"method": DEFAULT_METHOD, "k": DEFAULT_K, "codebooks_sha256": codebooks_sha256()},
        "kinetics": told(result.maps, result.exam.times, options)
        | {"ftv_ml": {side: _or_null(volume) for side, volume in result.ftv_ml.items()}},
        "lesions": [_lesion_row(lesion) for lesion in result.lesions],
    }


def _noncontrast_facts(result: NonContrastResult) -> dict[str, Any]:
    return {
        "contrast": False,
        "heterogeneity": "predicted",
        "clusters": {"k": result.clusters},
        "lesions": [{**vars(lesion), "size_category": lesion.size_category} for lesion in result.lesions],
    }


def _lesion_row(lesion: Lesion) -> dict[str, Any]:
    """JSON has no NaN; what is not defined is null."""
    row = {**vars(lesion), "size_category": lesion.size_category, "curve_shares": list(lesion.curve_shares)}
    row["curve_shares"] = None if np.isnan(lesion.curve_shares).any() else row["curve_shares"]
    return row | {"ser": _or_null(lesion.ser), "ftv_ml": _or_null(lesion.ftv_ml)}


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else value
