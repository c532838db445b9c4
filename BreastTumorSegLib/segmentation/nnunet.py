"""The tumour probability by an nnU-Net v2 that a user has trained or was given.

nnU-Net does its own preprocessing, windows and resampling, over the whole field of view as it was trained on; only the
breasts' part of its answer is kept. It is imported here alone, and only when such a model runs.
"""

from __future__ import annotations

import io
import pydoc
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from BreastTumorSegLib.core.errors import DependencyError, ModelError, OutOfMemoryError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import Exam
from BreastTumorSegLib.networks.nnunet import channel_images, joint_statistics
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.fallbacks import CPU, is_lack_of_memory, is_trouble_of_the_gpu
from BreastTumorSegLib.segmentation.nnunet_models import NnunetBundle, NnunetDescription

STEP = 0.5
"""Of a window, by which the next one is moved; nnU-Net's own."""

_ARCHITECTURES = re.compile(r"dynamic_network_architectures(\.\w+)+")
_PARTS = re.compile(r"torch\.nn(\.\w+)+")


@dataclass(frozen=True)
class Built:
    """A network and nnU-Net's own managers of what belongs to it."""

    network: nn.Module
    plans: Any
    configuration: Any


def require_nnunet() -> None:
    """Tell how to install nnU-Net where it is not.

    Raises:
        DependencyError: It is not installed.
    """
    if find_spec("nnunetv2") is None:
        raise DependencyError(
            "nnunetv2 is not installed, which this model needs.",
            "Install it with the constraints file, so that it does not replace PyTorch: "
            'pip install -c constraints.txt "BreastTumorSegLib[nnunet]".',
        )


def nnunet_probability(
    exam: Exam, breast: BreastMask, bundle: NnunetBundle, device: torch.device, events: Events, mirror: bool = False
) -> np.ndarray:
    """Tumour probability (Z, Y, X) float32 on the exam's grid, 0 outside the breasts.

    Args:
        mirror: The mean over mirror images, along the axes of its training; up to eight times as long.

    Raises:
        DependencyError: nnunetv2 is not installed.
        ModelError: The network can't be built or does not fit its weights.
        OutOfMemoryError: Memory ran out.
        Cancelled: On request.
    """
    require_nnunet()
    inside = breast.labels > 0
    if not inside.any():
        return np.zeros(exam.geometry.shape, np.float32)
    description = bundle.description
    scale = joint_statistics(exam.data) if description.joint_z_score else None
    image = np.stack(channel_images(exam.pre, exam.first_post, description.channels, scale)).astype(np.float32)
    probability = _on_any_device(image, exam.geometry.spacing_zyx, bundle, device, events, mirror)
    return np.where(inside, probability, 0).astype(np.float32)


def _on_any_device(
    image: np.ndarray,
    spacing: tuple[float, float, float],
    bundle: NnunetBundle,
    device: torch.device,
    events: Events,
    mirror: bool,
) -> np.ndarray:
    try:
        return _foreground(image, spacing, bundle, device, events, mirror)
    except (RuntimeError, MemoryError) as error:
        reason = error
    if device.type == "cuda" and (is_lack_of_memory(reason) or is_trouble_of_the_gpu(reason)):
        events.warning(
            f"The GPU can't run {bundle.description.name}, the CPU was used: {str(reason).partition(chr(10))[0]}."
        )
        return _on_any_device(image, spacing, bundle, CPU, events, mirror)
    if is_lack_of_memory(reason):
        raise OutOfMemoryError("There is not enough memory for this exam.", "Close other programs and try again.")
    raise reason


def _foreground(
    image: np.ndarray,
    spacing: tuple[float, float, float],
    bundle: NnunetBundle,
    device: torch.device,
    events: Events,
    mirror: bool,
) -> np.ndarray:
    """Probability (Z, Y, X) of anything but background, of an image (C, Z, Y, X) with spacing in array order."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    with redirect_stdout(io.StringIO()):  # nnU-Net prints what it does
        predictor = _predictor(bundle.weights, bundle.sha256, bundle.description.model_dump_json(), device)
        predictor.use_mirroring = mirror and predictor.allowed_mirroring_axes is not None
        plans, configuration = predictor.plans_manager, predictor.configuration_manager
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            image, None, {"spacing": list(spacing)}, plans, configuration, predictor.dataset_json
        )
        with _watched(predictor, data.shape[1:], events):
            logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
        _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties, True, torch.get_num_threads()
        )
    # With regions a voxel may belong to several, and there is no background among them.
    return probabilities.max(0) if predictor.label_manager.has_regions else 1 - probabilities[0]


@contextmanager
def _watched(predictor: Any, shape: tuple[int, ...], events: Events) -> Iterator[None]:
    """Tell of windows and heed a cancellation each time that the network is asked."""
    passes = 2 ** len(predictor.allowed_mirroring_axes) if predictor.use_mirroring else 1
    total = _windows(shape, predictor.configuration_manager.patch_size) * passes * len(predictor.list_of_parameters)
    done = iter(range(total))
    hook = predictor.network.register_forward_pre_hook(lambda *_: events.progress("tumor", next(done, total), total))
    try:
        yield
    finally:
        hook.remove()


def _windows(shape: tuple[int, ...], patch: list[int]) -> int:
    """How many windows nnU-Net cuts a volume into; a flat patch goes through slice by slice."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    flat = prod(shape[: len(shape) - len(patch)])
    padded = [max(size, edge) for size, edge in zip(shape[-len(patch) :], patch, strict=True)]
    return flat * prod(len(steps) for steps in compute_steps_for_sliding_window(padded, patch, STEP))


@lru_cache(maxsize=1)
def _predictor(weights: Path, sha256: str, described: str, device: torch.device) -> Any:
    """Kept for the exams that follow in the same process; `sha256` tells when the file has changed."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    description = NnunetDescription.model_validate_json(described)
    built = build_network(description)
    tensors = load_file(weights)
    names = one_name_each(built.network)
    try:
        folds = [{name: tensors[f"{fold}/{kept}"] for name, kept in names.items()} for fold in description.folds]
        built.network.load_state_dict(folds[0])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{weights} does not fit its plans.", "Add the model again.") from error
    predictor = nnUNetPredictor(
        STEP, use_mirroring=False, perform_everything_on_device=device.type == "cuda", device=device, allow_tqdm=False
    )
    predictor.manual_initialization(
        built.network,
        built.plans,
        built.configuration,
        folds,
        description.dataset,
        description.trainer,
        description.mirror_axes,
    )
    return predictor


def one_name_each(network: nn.Module) -> dict[str, str]:
    """For every name in a network's state, the first name of the same weights.

    nnU-Net's networks hold most of their layers under two names or four; a file needs them once.
    """
    first: dict[int, str] = {}
    return {name: first.setdefault(value.data_ptr(), name) for name, value in network.state_dict().items()}


def build_network(description: NnunetDescription) -> Built:
    """The network of a description, with new weights.

    Raises:
        ModelError: It names what nnU-Net does not have, or has more than one stage.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    name = description.name
    try:
        with redirect_stdout(io.StringIO()):
            plans = PlansManager(deepcopy(description.plans))
            configuration = plans.get_configuration(description.configuration)
            _refuse_foreign_code(configuration, name)
            trainer = recursive_find_trainer_class_by_name(description.trainer)
            channels = determine_num_input_channels(plans, configuration, description.dataset)
            heads = plans.get_label_manager(description.dataset).num_segmentation_heads
            network = trainer.build_network_architecture(
                plans, configuration, channels, heads, enable_deep_supervision=False
            )
    except (RuntimeError, KeyError, ValueError, TypeError, AssertionError, AttributeError, ImportError) as error:
        raise ModelError(
            f"{name}: nnU-Net can't build this network ({error}).",
            "It may need the version of nnU-Net, or the trainer, that it was trained with.",
        ) from error
    return Built(network.eval(), plans, configuration)


def _refuse_foreign_code(configuration: Any, name: str) -> None:
    """Refuse plans that name other code than network architectures, and cascades, whose first stage is another model.

    nnU-Net imports and calls whatever the plans name.
    """
    if configuration.previous_stage_name is not None:
        raise ModelError(f"{name} is the second stage of a cascade.", "Use a configuration such as 3d_fullres.")
    architecture = configuration.network_arch_class_name
    known = _ARCHITECTURES.fullmatch(architecture) is not None
    found = pydoc.locate(architecture) if known else None  # where it has moved, nnU-Net looks among architectures
    arguments = configuration.network_arch_init_kwargs
    parts = [arguments[key] for key in configuration.network_arch_init_kwargs_req_import if arguments[key] is not None]
    foreign = [part for part in parts if not _PARTS.fullmatch(str(part))]
    is_network = found is None or (isinstance(found, type) and issubclass(found, nn.Module))
    if foreign or not (known and is_network):
        raise ModelError(
            f"{name}: its plans name {', '.join(foreign) or architecture}, which is no part of nnU-Net's networks.",
            "Only networks of dynamic_network_architectures are run.",
        )
