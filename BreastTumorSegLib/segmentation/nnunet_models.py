"""Trained nnU-Net v2 models as bundles: model.json, and the weights of all folds in weights.safetensors.

nnU-Net's checkpoints are pickles, and it loads them as such, which runs whatever is in them. Here they are read once,
as nothing but weights and plain values, and are not used after.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save_file

from BreastTumorSegLib.core.errors import InputError, ModelError, OutputError
from BreastTumorSegLib.core.models import REGISTRY, models_folder
from BreastTumorSegLib.networks.bundle import Bundle, RegistryEntry, load_bundle, registry, verify_bundle
from BreastTumorSegLib.networks.nnunet import CHANNELS, NOTE, Channel, parse_channels

CHECKPOINT = "checkpoint_final.pth"
_ADD_ANOTHER = "Give the folder of a trained nnU-Net v2 model, such as nnUNetTrainer__nnUNetPlans__3d_fullres."


class NnunetDescription(BaseModel):
    """What model.json holds of an nnU-Net.

    Attributes:
        runner: Tells it from the library's own networks.
        channels: What goes in, in order.
        joint_z_score: Whether phases are normalised together before nnU-Net's own preprocessing.
        threshold: Probability from which a voxel counts.
        trainer: nnU-Net's class that trained it, which knows its network.
        configuration: Such as 3d_fullres.
        folds: Whose mean is taken.
        mirror_axes: Along which it was trained to be mirrored.
        plans: Contents of plans.json.
        dataset: Contents of dataset.json.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runner: Literal["nnunet"] = "nnunet"
    name: str
    task: Literal["tumor"] = "tumor"
    version: str = "1"
    channels: tuple[Channel, ...] = Field(min_length=1)
    joint_z_score: bool = False
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    trainer: str
    configuration: str
    folds: tuple[str, ...] = Field(min_length=1)
    mirror_axes: tuple[int, ...] | None = None
    plans: dict[str, Any]
    dataset: dict[str, Any]


@dataclass(frozen=True)
class NnunetBundle:
    """An nnU-Net that is there and is what the registry says; nothing of nnU-Net is imported for it.

    Attributes:
        weights: File with the weights of every fold, as `FOLD/NAME`, each once; see `nnunet.one_name_each`.
    """

    description: NnunetDescription
    sha256: str
    weights: Path

    def runtime(self, device: torch.device) -> str:
        """What it runs with, in words."""
        return f"nnU-Net v2, PyTorch, float{16 if device.type == 'cuda' else 32}"


def load_tumor_model(name: str, folder: Path | None = None) -> Bundle | NnunetBundle:
    """A tumour model, whatever runs it; raises as `load_bundle`."""
    folder = folder or models_folder()
    if not is_nnunet(folder / name):
        return load_bundle(name, "tumor", folder)
    sha256 = verify_bundle(name, folder)
    try:
        description = NnunetDescription.model_validate_json((folder / name / "model.json").read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{folder / name}: not a usable model bundle ({reason}).", "Add it again.") from error
    return NnunetBundle(description, sha256, folder / name / "weights.safetensors")


def without_contrast(bundle: Bundle | NnunetBundle) -> TypeGuard[Bundle]:
    """Whether a tumour model is used on the pre-contrast phase alone; an nnU-Net's results always have kinetics."""
    return isinstance(bundle, Bundle) and not bundle.description.needs_contrast


def is_nnunet(bundle: Path) -> bool:
    """Whether a bundle's folder holds an nnU-Net."""
    with suppress(OSError, ValueError):
        described = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
        return isinstance(described, dict) and described.get("runner") == "nnunet"
    return False


def add_nnunet(
    trained: Path,
    name: str,
    channels: Sequence[str] = (),
    joint_z_score: bool | None = None,
    folds: Sequence[str] = (),
    models: Path | None = None,
) -> NnunetDescription:
    """Make a bundle of a folder that nnU-Net v2 trained, with dataset.json, plans.json, fold_K/checkpoint_final.pth.

    Args:
        channels: What the model's channels are; by its dataset.json where it knows.
        joint_z_score: As in the description; by its dataset.json where it knows, else not.
        folds: Which, such as "0" or "all"; every numbered one that is there without them, else "all".
        models: Folder of bundles.

    Raises:
        InputError: The folder is no trained model, or its channels are not known; a fold or channel does not exist.
        ModelError: A checkpoint is damaged, holds more than weights, or its network can't be built.
        OutputError: There is a bundle of this name, or it can't be written.
        DependencyError: nnunetv2 is not installed.
    """
    from BreastTumorSegLib.segmentation.nnunet import build_network, one_name_each, require_nnunet

    require_nnunet()
    models = models or models_folder()
    _refuse_name(name, models)
    plans, dataset = _read(trained / "plans.json"), _read(trained / "dataset.json")
    found = _folds(trained, folds)
    checkpoints = {fold: load_checkpoint(trained / fold / CHECKPOINT) for fold in found}
    first = checkpoints[found[0]]
    chosen = _channels(dataset, channels)
    joint = bool(_noted(dataset).get("joint_z_score")) if joint_z_score is None else joint_z_score
    description = NnunetDescription(
        name=name,
        channels=chosen,
        joint_z_score=joint,
        trainer=first["trainer_name"],
        configuration=first["init_args"]["configuration"],
        folds=tuple(found),
        mirror_axes=first.get("inference_allowed_mirroring_axes"),
        plans=plans,
        dataset=dataset,
    )
    network = build_network(description).network
    for fold, checkpoint in checkpoints.items():
        try:
            network.load_state_dict(checkpoint["network_weights"])
        except RuntimeError as error:
            raise ModelError(f"{trained / fold / CHECKPOINT} does not fit plans.json.", _ADD_ANOTHER) from error
    weights = {
        f"{fold}/{key}": checkpoint["network_weights"][key].contiguous().clone()
        for fold, checkpoint in checkpoints.items()
        for key in sorted(set(one_name_each(network).values()))
    }
    _write(description, weights, models)
    return description


def load_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint of nnU-Net: its weights and plain values. Nothing in it is run.

    Beside what PyTorch takes for harmless, numbers of numpy are let through, which nnU-Net logs.

    Raises:
        ModelError: It is damaged, holds anything else, or is no checkpoint of nnU-Net.
    """
    number = np.float64(0).__reduce__()[0]
    numbers = [getattr(np.dtypes, name) for name in ("Float16DType", "Float32DType", "Float64DType", "Int64DType")]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    harmless = [np.dtype, *numbers, *((number, f"{module}.scalar") for module in modules)]
    try:
        with torch.serialization.safe_globals(harmless):
            checkpoint = torch.load(str(file), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{file} is damaged, or holds more than weights and plain values; it was not loaded.",
            "Ask whoever trained the model for a checkpoint as nnU-Net v2 writes it.",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{file} can't be read as a checkpoint.", "Copy it again.") from error
    try:
        kinds = (checkpoint["trainer_name"], checkpoint["init_args"]["configuration"], checkpoint["network_weights"])
    except (KeyError, TypeError, IndexError):
        kinds = (None, None, None)
    if not all(isinstance(value, kind) for value, kind in zip(kinds, (str, str, dict), strict=True)):
        raise ModelError(f"{file} is no checkpoint of nnU-Net v2.", _ADD_ANOTHER)
    return checkpoint


def _read(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is missing or no json.", _ADD_ANOTHER) from error
    if not isinstance(read, dict):
        raise InputError(f"{file} is no object.", _ADD_ANOTHER)
    return read


def _folds(trained: Path, wanted: Sequence[str]) -> list[str]:
    there = sorted(file.parent.name for file in trained.glob(f"fold_*/{CHECKPOINT}"))
    if not there:
        raise InputError(f"{trained} has no fold_K/{CHECKPOINT}.", _ADD_ANOTHER)
    if missing := [fold for fold in wanted if f"fold_{fold}" not in there]:
        raise InputError(f"{trained} has no fold {', '.join(missing)}.", f"It has {', '.join(there)}.")
    return [f"fold_{fold}" for fold in wanted] or [fold for fold in there if fold != "fold_all"] or there


def _channels(dataset: dict[str, Any], wanted: Sequence[str]) -> tuple[Channel, ...]:
    """What was asked for, else what the export noted, else the channels' own names."""
    names = dataset.get("channel_names") or dataset.get("modality") or {}
    own = [str(names[key]) for key in sorted(names)]
    known = wanted or _noted(dataset).get("channels") or own
    if not wanted and not set(known) <= set(CHANNELS):
        raise InputError(
            f"The model's channels are named {', '.join(own)}, which says not what they are.",
            f"Name them with --channels, of {', '.join(CHANNELS)}.",
        )
    if len(known) != len(own):
        raise InputError(f"The model has {len(own)} channels, not {len(known)}.", "Name as many with --channels.")
    return parse_channels(known)


def _noted(dataset: dict[str, Any]) -> dict[str, Any]:
    note = dataset.get(NOTE)
    return note if isinstance(note, dict) else {}


def _refuse_name(name: str, models: Path) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"{name!r} is no name for a model.", "Use letters, digits, dots and dashes.")
    if name in registry(models) or (models / name).exists():
        raise OutputError(f"There is a model {name!r} in {models}.", "Choose another name.")


def _write(description: NnunetDescription, weights: dict[str, torch.Tensor], models: Path) -> None:
    """The bundle beside its place, then in it, then the registry."""
    partial = models / f".{description.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file(weights, partial / "weights.safetensors")
        (partial / "model.json").write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
        # safetensors lets nobody else read its files.
        (partial / "weights.safetensors").chmod((partial / "model.json").stat().st_mode)
        sha256 = hashlib.sha256((partial / "weights.safetensors").read_bytes()).hexdigest()
        entries = registry(models) | {description.name: RegistryEntry(task="tumor", sha256=sha256)}
        listed = {name: entry.model_dump() for name, entry in sorted(entries.items())}
        (models / f"{REGISTRY}.partial").write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
        partial.rename(models / description.name)
        (models / f"{REGISTRY}.partial").replace(models / REGISTRY)
    except OSError as error:
        raise OutputError(
            f"{models / description.name} can't be written: {error.strerror}.",
            "Check the disk's space, or name another folder of models in BREASTTUMORSEG_MODELS.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
