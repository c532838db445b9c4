"""Model bundles: a folder with model.json, weights.safetensors and CARD.md, listed with checksums in registry.json."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.networks.resunet import ResUNetConfig, resunet

Task = Literal["breast", "tumor"]


class ModelDescription(BaseModel):
    """What model.json holds.

    Attributes:
        name: Folder's name.
        task: "breast" or "tumor"; both have one logit.
        version: Of the weights.
        network: Which network, and its size.
        phases: What goes in, in order: "pre", "first_post".
        spacing_mm: Isotropic spacing that the network sees.
        threshold: Probability from which a voxel counts.
        trained_on: One sentence.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    task: Task
    version: str
    network: ResUNetConfig
    phases: tuple[Literal["pre", "first_post"], ...]
    spacing_mm: float
    threshold: float = 0.5
    trained_on: str = "simulated exams only"


@dataclass(frozen=True)
class Bundle:
    """A loaded model, ready for inference.

    Attributes:
        description: Contents of model.json.
        sha256: Of the weights file.
        network: In evaluation mode, on the CPU.
    """

    description: ModelDescription
    sha256: str
    network: nn.Module


def models_folder() -> Path:
    """The folder of bundles: `BREASTTUMORSEG_MODELS` if set, else `models` beside the package."""
    return Path(os.environ.get("BREASTTUMORSEG_MODELS") or Path(__file__).parents[2] / "models")


def registry(folder: Path | None = None) -> dict[str, dict[str, str]]:
    """Bundles by name: task, sha256 of the weights, and whether it is its task's default.

    Raises:
        ModelError: registry.json is missing or unreadable.
    """
    path = (folder or models_folder()) / "registry.json"
    try:
        entries: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))["models"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: no readable model registry ({error}).", "Install the models again.") from error
    return entries


def default_model(task: Task, folder: Path | None = None) -> str:
    """Name of a task's default bundle.

    Raises:
        ModelError: The registry names none.
    """
    for name, entry in registry(folder).items():
        if entry["task"] == task and entry.get("default") == "yes":
            return name
    raise ModelError(f"The registry names no default model for {task!r}.", "Name one with --model.")


def load_bundle(name: str, folder: Path | None = None) -> Bundle:
    """Load a bundle after checking its checksum.

    Raises:
        ModelError: The bundle is missing, incomplete, or its weights are not what the registry says.
    """
    folder = folder or models_folder()
    sha256 = verify_bundle(name, folder)
    try:
        description = ModelDescription.model_validate_json((folder / name / "model.json").read_text("utf-8"))
        network = resunet(description.network)
        network.load_state_dict({key: value.float() for key, value in load_file(_weights(folder, name)).items()})
    except (OSError, ValidationError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder / name}: not a usable model bundle ({error}).", "Install it again.") from error
    return Bundle(description, sha256, network.eval())


def verify_bundle(name: str, folder: Path | None = None) -> str:
    """Check a bundle's weights against the registry; returns their sha256.

    Raises:
        ModelError: There is no such bundle, no weights, or another checksum.
    """
    folder = folder or models_folder()
    entries = registry(folder)
    if name not in entries:
        raise ModelError(f"There is no model {name!r} in {folder}.", f"Choose one of: {', '.join(sorted(entries))}.")
    weights = _weights(folder, name)
    if not weights.is_file():
        raise ModelError(f"{weights}: the weights are missing.", "Install the model again.")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    if sha256 != entries[name]["sha256"]:
        raise ModelError(
            f"{weights}: checksum {sha256[:12]}, but the registry says {entries[name]['sha256'][:12]}.",
            "The file was changed or damaged: install the model again.",
        )
    return sha256


def save_bundle(network: nn.Module, description: ModelDescription, folder: Path) -> None:
    """Write model.json and half-precision weights into `folder`/NAME, and enter the checksum in the registry."""
    target = folder / description.name
    target.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().to(torch.float16).contiguous() for key, value in network.state_dict().items()}
    save_file(state, _weights(folder, description.name))
    (target / "model.json").write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    path = folder / "registry.json"
    entries = registry(folder) if path.is_file() else {}
    sha256 = hashlib.sha256(_weights(folder, description.name).read_bytes()).hexdigest()
    others = any(entry["task"] == description.task for name, entry in entries.items() if name != description.name)
    default = entries.get(description.name, {}).get("default", "no" if others else "yes")
    entries[description.name] = {"task": description.task, "sha256": sha256, "default": default}
    path.write_text(json.dumps({"models": entries}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _weights(folder: Path, name: str) -> Path:
    return folder / name / "weights.safetensors"
