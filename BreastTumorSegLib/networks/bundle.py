"""Model bundles: a folder with model.json, weights.safetensors and CARD.md, listed with checksums in registry.json."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_model, save
from torch import Tensor, nn

from BreastTumorSegLib.core.errors import ModelError
from BreastTumorSegLib.core.exam import first_post_index
from BreastTumorSegLib.core.models import DESCRIPTION, REGISTRY, models_folder
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.networks.catalogue import NetworkConfig, build_network, takes_maps, takes_times
from BreastTumorSegLib.networks.inputs import Normalisation

Task = Literal["breast", "tumor", "refinement", "clusters"]

WEIGHTS, CARD = "weights.safetensors", "CARD.md"
"""A bundle's files, beside its `DESCRIPTION`."""


class LesionWeights(BaseModel):
    """Of a logistic regression that tells how likely a candidate is a lesion.

    Behind the bias one for each feature, in the order in which `segmentation.candidates.features` tells them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: float
    sureness: float
    mean: float
    volume: float
    extent: float
    surroundings: float


class ModelDescription(BaseModel):
    """What model.json holds.

    Attributes:
        name: Folder's name: letters, digits, - _ and dots.
        task: "breast", "tumor" or "refinement", which have one logit; or "clusters", whose logits are of classes:
            outside the breasts, not enhancing, and the clusters of time-intensity curves from persistent to washout. A
            network for "refinement" takes the probability of a tumour model behind the phases.
        version: Of the weights.
        network: Which network, and its size.
        phases: What goes in, in order: "pre", "first_post"; or "all" phases of an exam with their times, for a network
            that takes them.
        spacing_mm: Isotropic spacing that the network sees.
        normalisation: Of the intensities, within what the network sees.
        maps: Name of the model for "clusters" whose probabilities go in behind the phases, for a network that takes
            them.
        maps_sha256: Of that model's weights when this one was trained; None where that is not known.
        averaged_with: Name of the tumour model that one with contrast is averaged with: the probability is that of the
            mean of both logits by `share`, with this one's temperature, threshold, peak and lesion_weights.
        averaged_with_sha256: Of that model's weights when these were chosen; None where they were not, together.
        share: Of this one's logits in that mean.
        refined_by: Name of the model for "refinement" that draws what a tumour model with contrast finds; without one,
            it is grown.
        field: What the network sees: the box of the breasts with a margin ("breast"), the same with everything dark
            that is far from the breasts ("breast-only", `networks.inputs.breast_only`), or the whole exam ("exam"). A
            network for the breasts sees the exam.
        temperature: What logits are divided by before they become probabilities, chosen on exams that no training used,
            so that of the voxels with 0.8 four in five are tumour (Guo et al. 2017, arXiv:1706.04599).
        threshold: Probability from which a voxel counts.
        peak: A lesion is reported if its probability, smoothed (`segmentation.tumor.SURE_MM`), is as high as this
            somewhere in it; may be under the threshold. With lesion_weights, if they make it at least this likely to be
            a lesion. Of tumour models with contrast.
        lesion_weights: By which candidates are told apart, fitted on exams that no training used. Of tumour models
            with contrast whose lesions are grown.
        trained_on: One sentence.
        bfloat16_dice_change: How far bfloat16 moves an exam's Dice, up or down, in the mean over held-out simulated
            exams; None where nobody has measured it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: Task
    version: str
    network: NetworkConfig
    phases: tuple[Literal["pre", "first_post"], ...] | Literal["all"]
    spacing_mm: float = Field(gt=0)
    normalisation: Normalisation = "joint-z-score"
    maps: str | None = None
    maps_sha256: str | None = None
    averaged_with: str | None = None
    averaged_with_sha256: str | None = None
    share: float = Field(0.5, gt=0, lt=1)
    refined_by: str | None = None
    field: Literal["breast", "breast-only", "exam"] = "breast"
    temperature: float = Field(1.0, gt=0)
    threshold: float = Field(0.5, gt=0, lt=1)
    peak: float = Field(0.85, gt=0, lt=1)
    lesion_weights: LesionWeights | None = None
    trained_on: str = "simulated exams only"
    bfloat16_dice_change: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _channels_fit(self) -> ModelDescription:
        if self.task == "clusters" and self.network.out_channels < 3:
            raise ValueError(f"three or more classes are needed, not {self.network.out_channels}")
        if self.task != "clusters" and self.network.out_channels != 1:
            raise ValueError(f"a network for one logit is needed, not {self.network}")
        if takes_maps(self.network) != (self.maps is not None):
            raise ValueError("maps and a network that takes them belong together")
        if self.maps and (self.task, self.phases) != ("tumor", ("pre",)):
            raise ValueError('maps are for the task "tumor" and the phases ["pre"]')
        if takes_times(self.network) != (self.phases == "all"):
            raise ValueError('phases: "all" and a network that takes times belong together')
        inputs = len(self.phases) + (self.task == "refinement")
        if self.phases != "all" and not self.maps and self.network.in_channels != inputs:
            raise ValueError(f"a network for {inputs} channels is needed, not {self.network}")
        if self.task == "refinement" and (self.phases == "all" or self.field != "breast"):
            raise ValueError("a network for refinement takes the first phases, not all of them, of the breasts")
        if self.field == "breast-only" and (self.task != "tumor" or self.maps):
            raise ValueError('the field "breast-only" is for tumour models without maps')
        return self

    @model_validator(mode="after")
    def _others_fit(self) -> ModelDescription:
        if (self.averaged_with or self.refined_by) and (self.task != "tumor" or not self.needs_contrast):
            raise ValueError("averaged_with and refined_by are for tumour models with contrast")
        if self.lesion_weights and (self.task != "tumor" or not self.needs_contrast or self.refined_by):
            raise ValueError("lesion_weights are for tumour models with contrast that nothing refines")
        if self.averaged_with == self.name:
            raise ValueError("a model can't be averaged with itself")
        return self

    def probability(self, logits: Tensor) -> Tensor:
        """Probabilities of one-logit tasks, of any shape."""
        return torch.sigmoid(logits / self.temperature)

    @property
    def needs_contrast(self) -> bool:
        """Whether it takes more than the pre-contrast phase."""
        return self.phases != ("pre",)

    @property
    def phase_names(self) -> tuple[str, ...]:
        """What goes in, for people to read."""
        return ("all phases with their times",) if self.phases == "all" else self.phases

    @property
    def field_name(self) -> str:
        """What the network sees, for people to read."""
        return {"exam": "the exam", "breast": "the box of the breasts", "breast-only": "the breasts only"}[self.field]

    def phases_of(self, times: tuple[float, ...]) -> list[int]:
        """Which phases of an exam go in, in this order, by their seconds after the pre-contrast phase."""
        if self.phases == "all":
            return list(range(len(times)))
        return [{"pre": 0, "first_post": first_post_index(times)}[name] for name in self.phases]


class RegistryEntry(BaseModel):
    """What registry.json holds of a bundle.

    Attributes:
        task: As in its description.
        sha256: Of its weights file.
        default: Whether it is taken for its task where no model is named.
    """

    task: Task
    sha256: str
    default: bool = False


_REGISTRY = TypeAdapter(dict[str, RegistryEntry])


@dataclass(frozen=True)
class Bundle:
    """A loaded model, ready for inference.

    Attributes:
        description: Contents of model.json.
        sha256: Of the weights file.
        network: In evaluation mode, and shared by all who load it: it may be moved between devices, not changed.
        partner: The model that this one is averaged with.
    """

    description: ModelDescription
    sha256: str
    network: nn.Module
    partner: Bundle | None = None

    @property
    def members(self) -> tuple[Bundle, ...]:
        """All that answer together, this one first."""
        return (self, self.partner) if self.partner else (self,)


def registry(folder: Path | None = None) -> dict[str, RegistryEntry]:
    """Bundles by name.

    Raises:
        ModelError: registry.json is missing or unreadable.
    """
    path = (folder or models_folder()) / REGISTRY
    try:
        return _REGISTRY.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"{path}: no readable model registry ({_brief(error)}).", "Install the models again."
        ) from error


def default_model(task: Task, folder: Path | None = None) -> str:
    """Name of a task's default bundle.

    Raises:
        ModelError: The registry names none.
    """
    for name, entry in registry(folder).items():
        if entry.task == task and entry.default:
            return name
    raise ModelError(f"The registry names no default model for {task!r}.", "Name one with --model.")


def load_bundle(name: str, task: Task, folder: Path | None = None) -> Bundle:
    """Load a bundle after checking its checksum and its task.

    Raises:
        ModelError: The bundle is missing, incomplete, for another task, or not what the registry's checksum says.
    """
    folder = folder or models_folder()
    verify_bundle(name, folder)
    bundle = read_bundle(folder / name, folder)
    if bundle.description.task != task:
        raise ModelError(f"{name!r} is a model for {bundle.description.task}, not for {task}.", "See `models list`.")
    return bundle


def find_bundle(named: str, task: Task) -> Bundle:
    """The bundle in a folder, or one of the models by name; raises as these do."""
    return read_bundle(Path(named)) if Path(named).is_dir() else load_bundle(named, task)


def read_bundle(path: Path, models: Path | None = None) -> Bundle:
    """Read a bundle's own folder, which no registry need know; what it is averaged with is one of the `models`.

    Raises:
        ModelError: It is incomplete, or its weights are not those of the network that it describes; or the model that
            it is averaged with is missing, damaged or does not fit.
    """
    bundle = _alone(path)
    other = bundle.description.averaged_with
    return replace(bundle, partner=_partner(bundle, other, models or models_folder())) if other else bundle


def _partner(bundle: Bundle, name: str, models: Path) -> Bundle:
    """The model that a bundle is averaged with."""
    verify_bundle(name, models)
    partner = _alone(models / name)
    mine, other = bundle.description, partner.description
    if mine.averaged_with_sha256 and mine.averaged_with_sha256 != partner.sha256:
        raise ModelError(
            f"{mine.name!r} was calibrated with other weights of {name!r} than those in {models}.",
            f"Put those with checksum {mine.averaged_with_sha256[:12]} back; or remove averaged_with_sha256 from its "
            f"{DESCRIPTION} and run `models calibrate FOLDER`.",
        )
    alike = (mine.task, mine.spacing_mm, mine.field == "exam") == (other.task, other.spacing_mm, other.field == "exam")
    if not alike or not other.needs_contrast or other.averaged_with:
        raise ModelError(
            f"{mine.name!r} can't be averaged with {name!r}.",
            "Name a tumour model with contrast that sees the same voxels and is averaged with none itself.",
        )
    return partner


def _alone(path: Path) -> Bundle:
    """A bundle without what it is averaged with."""
    try:
        sha256 = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
        description = ModelDescription.model_validate_json((path / DESCRIPTION).read_bytes())
        return Bundle(description, sha256, _network(path / WEIGHTS, sha256, description.network))
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path}: not a usable model bundle ({_brief(error)}).", "Install it again.") from error


@lru_cache(maxsize=4)
def _network(weights: Path, sha256: str, config: NetworkConfig) -> nn.Module:
    """Kept for the exams that follow in the same process; `sha256` tells when the file has changed."""
    network = build_network(config)
    load_model(network, weights)
    return network.eval()


def verify_bundle(name: str, folder: Path | None = None) -> str:
    """Check a bundle's weights against the registry; returns their sha256.

    Raises:
        ModelError: There is no such bundle, no weights, or another checksum.
    """
    folder = folder or models_folder()
    entries = registry(folder)
    if name not in entries:
        raise ModelError(f"There is no model {name!r} in {folder}.", f"Choose one of: {', '.join(sorted(entries))}.")
    weights = folder / name / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{weights}: the weights are missing.", "Install the model again.")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    if sha256 != entries[name].sha256:
        raise ModelError(
            f"{weights}: checksum {sha256[:12]}, but the registry says {entries[name].sha256[:12]}.",
            "The file was changed or damaged: install the model again.",
        )
    return sha256


def save_bundle(network: nn.Module, description: ModelDescription, folder: Path) -> None:
    """Write model.json and half-precision weights into `folder`/NAME, and enter the checksum in the registry.

    All files are complete before the first one takes its place, so that a bundle that was there stays usable. The first
    bundle of a task becomes its default.
    """
    name = description.name
    (folder / name).mkdir(parents=True, exist_ok=True)
    content = save(_half_precision(network))
    contents = {
        folder / name / WEIGHTS: content,
        folder / name / DESCRIPTION: _described(description),
        folder / REGISTRY: registry_with(folder, description, hashlib.sha256(content).hexdigest()),
    }
    _write_together(contents)


def write_description(description: ModelDescription, path: Path) -> None:
    """Write model.json of a bundle's own folder anew; the weights stay as they are.

    Raises:
        OutputError: It can't be written.
    """
    with output_errors(path):
        _write_together({path / DESCRIPTION: _described(description)})


def _described(description: ModelDescription) -> bytes:
    return description.model_dump_json(indent=2).encode() + b"\n"


def _write_together(contents: dict[Path, bytes]) -> None:
    for path, data in contents.items():
        path.with_name(path.name + ".partial").write_bytes(data)
    for path in contents:
        path.with_name(path.name + ".partial").replace(path)


def registry_with(folder: Path, description: ModelDescription, sha256: str, default: bool = False) -> bytes:
    """What registry.json of a folder says once a bundle is entered.

    With `default` the bundle becomes its task's; without, it stays so, or does where its task has none. A tumour model
    without contrast never does: it must be named.

    Raises:
        ModelError: `default` is asked for a tumour model without contrast.
    """
    name, task = description.name, description.task
    must_be_named = task == "tumor" and not description.needs_contrast
    if default and must_be_named:
        raise ModelError(
            f"{name!r} works without contrast, and is never chosen unless it is named.", "Add it without --default."
        )
    entries = registry(folder) if (folder / REGISTRY).is_file() else {}
    others = {other: entry for other, entry in entries.items() if other != name and entry.task == task}
    if default:
        entries.update({other: entry.model_copy(update={"default": False}) for other, entry in others.items()})
    elif name in entries:
        default = entries[name].default and not must_be_named
    else:
        default = not any(entry.default for entry in others.values()) and not must_be_named
    entries[name] = RegistryEntry(task=task, sha256=sha256, default=default)
    return _REGISTRY.dump_json(dict(sorted(entries.items())), indent=2) + b"\n"


def _half_precision(network: nn.Module) -> dict[str, Tensor]:
    """Weights by name, numbers other than floats as they are. DynUNet has each under two names; one of them is kept."""
    names = {name for name, _ in [*network.named_parameters(), *network.named_buffers()]}
    weights = {name: value.detach() for name, value in network.state_dict().items() if name in names}
    return {
        name: (value.to(torch.float16) if value.is_floating_point() else value).contiguous()
        for name, value in weights.items()
    }


def _brief(error: Exception) -> str:
    """The first line: what libraries add to it is for programmers."""
    return str(error).partition("\n")[0]
