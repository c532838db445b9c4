"""Configurations of training runs: YAML files, checked before anything is computed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from BreastTumorSegLib.core.errors import InputError
from BreastTumorSegLib.networks.bundle import ModelDescription
from BreastTumorSegLib.phantom.sites import TRAINING_SITES
from BreastTumorSegLib.phantom.variation import Ingredient
from BreastTumorSegLib.training.augmentation import AugmentationConfig
from BreastTumorSegLib.training.losses import DiceBCEConfig, LossConfig

REFERENCE = "reference"
"""In place of a model's name: the cohort's own masks."""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CohortData(_Config):
    """Exams on disk.

    Attributes:
        kind: "cohort".
        path: A folder in the layout of MAMA-MIA, which `simulate` writes too, or a CSV; see `io.cohort`.
        labels: Which of MAMA-MIA's masks.
        breast: "reference" takes the whole-breast masks of the cohort; another name is the model that makes them.
        soft_labels: Keep the share of a voxel that annotators marked, instead of the majority.
        maps_from: The model, by name or folder, whose maps a model that takes them learns with, instead of the one
            that its description names; "reference" for the true clusters, which tell the ceiling.
        cache: Where preprocessed exams are kept; the user's cache folder without it.
    """

    kind: Literal["cohort"]
    path: Path
    labels: Literal["expert", "automatic"] = "expert"
    breast: str = "breast-unet"
    soft_labels: bool = False
    maps_from: str | None = None
    cache: Path | None = None


class SimulatedData(_Config):
    """Exams that are simulated while training goes on, on its device; none is used twice, but for a bank's.

    Attributes:
        kind: "simulated".
        sites: Where the exams come from, evenly.
        varied: Exams that differ more than those of any site, see `phantom.variation`; lesions that nobody could see
            are not learned from.
        without: The ingredient of that variation to leave out.
        spread: Extra variation of tissues; `varied` exams have their own. See `phantom.tissues.draw`.
        patches_per_exam: Samples in a row from one exam.
        bank: So many exams are simulated once, kept in the cache, and used in turn: a CPU can't simulate as fast as it
            trains.
        cache: Where the bank is kept; the user's cache folder without it.
        coarse: Tumour models, by name or folder, taken in turn, whose probability a model for refinement learns with.
        validation: Exams for validation, with seeds of their own.
    """

    kind: Literal["simulated"]
    sites: tuple[str, ...] = Field(default=TRAINING_SITES, min_length=1)
    varied: bool = False
    without: Ingredient | None = None
    spread: float = Field(default=0.25, ge=0)
    patches_per_exam: int = Field(default=2, gt=0)
    bank: int | None = Field(default=None, gt=0)
    cache: Path | None = None
    coarse: tuple[str, ...] = ()
    validation: int = Field(default=8, ge=0)

    @model_validator(mode="after")
    def _all_is_used(self) -> SimulatedData:
        if self.without and not self.varied:
            raise ValueError("without leaves something out of varied exams: varied must be true")
        if self.cache and not self.bank:
            raise ValueError("cache is for a bank of exams: say how many it has in bank")
        if self.coarse and not (self.varied and self.bank and self.validation == 0):
            raise ValueError("coarse models look at a bank of varied exams: varied must be true, validation 0")
        return self


class SampleConfig(_Config):
    """How samples are cut from exams.

    Attributes:
        patch: Size (Z, Y, X) in voxels; without one, a sample is the whole field that the model sees.
        batch: Samples a step, over all processes.
        tumor_share: Share of the patches around a random tumour voxel, where there is one.
        inside_breast: Centres of the other patches lie inside the breasts, not anywhere.
        field_of_view: Probability that the field is cropped at random before it is normalised, as sites crop theirs.
        later_phase: Probability that the phase after the first post-contrast one stands in for it, as if that one had
            come late or was dropped.
        most_phases: At most so many phases, for a model that takes all of them; of more, some are left out at random.
        phase_dropout: Probability that such a model gets a random number of an exam's phases, from 2 on; half the time
            the first ones, as where a scan ends early, else any.
        time_jitter: Standard deviation in seconds of what is added to the times of such a model's phases.
        augmentation: What is done to a patch.
    """

    patch: tuple[int, int, int] | None = (64, 64, 64)
    batch: int = Field(default=2, gt=0)
    tumor_share: float = Field(default=0.5, ge=0, le=1)
    inside_breast: bool = False
    field_of_view: float = Field(default=0.0, ge=0, le=1)
    later_phase: float = Field(default=0.0, ge=0, le=1)
    most_phases: int = Field(default=6, ge=2)
    phase_dropout: float = Field(default=0.0, ge=0, le=1)
    time_jitter: float = Field(default=0.0, ge=0)
    augmentation: AugmentationConfig = AugmentationConfig()


class OptimizerConfig(_Config):
    """Optimiser and schedule.

    Attributes:
        name: "adam" or "adamw".
        learning_rate: At the start.
        weight_decay: Of AdamW.
        schedule: "polynomial" falls to zero with `power` over all steps, as for the cross-dataset residual U-Net;
            "step" multiplies by `factor` after every `step_epochs` epochs, as for the spatial-temporal network.
        power: Of the polynomial.
        step_epochs: Of the steps.
        factor: Of the steps.
        clip_norm: Gradients are scaled down to this norm; not at all without it.
    """

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["polynomial", "step"] = "polynomial"
    power: float = Field(default=1.5, gt=0)
    step_epochs: int = Field(default=50, gt=0)
    factor: float = Field(default=0.5, gt=0, le=1)
    clip_norm: float | None = Field(default=None, gt=0)


class ValidationConfig(_Config):
    """How a network is judged while it is trained.

    Attributes:
        share: Of the cases, drawn at random, kept for validation.
        every_epochs: Epochs between validations.
        windows: "patch" slides windows of the size of a patch, with half of it overlapping, as the paper does; "whole"
            takes the field in one pass, as `segment` does where memory allows.
        patience: Validations without a better Dice after which training ends; never without it.
    """

    share: float = Field(default=0.2, ge=0, lt=1)
    every_epochs: int = Field(default=1, gt=0)
    windows: Literal["patch", "whole"] = "patch"
    patience: int | None = Field(default=None, gt=0)


class EncoderStart(_Config):
    """Weights of the encoder from another bundle.

    Attributes:
        bundle: Its folder, or the name of a shipped model.
        frozen: They stay as they are.
    """

    bundle: str
    frozen: bool = False


class TrainingConfig(_Config):
    """Everything that decides a run; written beside its weights.

    Attributes:
        out: Folder of the run. Paths are relative to the file of the configuration.
        model: The bundle to make.
        data: Where exams come from.
        samples: How samples are cut from them.
        loss: See `training.losses`.
        optimizer: Optimiser and schedule.
        validation: How the network is judged on the way.
        epochs: Epochs at most.
        steps_per_epoch: Optimiser steps an epoch; without it, as many as give each case one sample.
        precision: "bfloat16" and "float16" compute under autocast; weights stay float32.
        average: Decay of the running average of the weights that becomes the bundle; the weights themselves without it.
        start_from: Name or folder of a bundle of the same size whose weights to go on from.
        encoder: Weights of the encoder alone from another bundle.
        keep_statistics: Batch normalisations use their running statistics while training, too, as they do afterwards:
            for the last part of a training with small batches, whose own statistics vary.
        seed: Of everything random.
        checkpoint_steps: Steps between checkpoints, beside one at every validation.
        tensorboard: Write curves for TensorBoard.
    """

    out: Path
    model: ModelDescription
    data: Annotated[CohortData | SimulatedData, Field(discriminator="kind")]
    samples: SampleConfig = SampleConfig()
    loss: LossConfig = DiceBCEConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    epochs: int = Field(default=100, gt=0)
    steps_per_epoch: int | None = Field(default=None, gt=0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    average: float | None = Field(default=None, gt=0, lt=1)
    start_from: str | None = None
    encoder: EncoderStart | None = None
    keep_statistics: bool = False
    seed: int = Field(default=0, ge=0)
    checkpoint_steps: int = Field(default=200, gt=0)
    tensorboard: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> TrainingConfig:
        multiple, patch = self.model.network.multiple, self.samples.patch
        if patch and any(size <= 0 or size % multiple for size in patch):
            raise ValueError(f"patch {patch} must be multiples of {multiple}, the network's strides together")
        if patch is None and self.samples.batch > 1:
            raise ValueError("whole fields differ in size: without a patch the batch must be 1")
        if patch is None and self.validation.windows == "patch":
            raise ValueError('without a patch, validation.windows must be "whole"')
        if self.model.averaged_with:
            raise ValueError("a network is trained alone: put averaged_with into its model.json afterwards")
        return self

    @model_validator(mode="after")
    def _task_fits_the_data(self) -> TrainingConfig:
        if (self.model.task == "clusters") != (self.loss.name == "dice_wce"):
            raise ValueError('a network for clusters and the loss "dice_wce" belong together')
        if self.model.task == "clusters" and self.model.network.deep_supervision:
            raise ValueError("classes have no mean, which deep supervision would need: deep_supervision must be 0")
        if isinstance(self.data, SimulatedData) and (self.model.task == "clusters" or self.model.maps):
            raise ValueError("clusters are learned from a cohort, where they are prepared once")
        coarse = isinstance(self.data, SimulatedData) and self.data.coarse
        if (self.model.task == "refinement") != bool(coarse):
            raise ValueError("a network for refinement and data.coarse of simulated exams belong together")
        if self.model.task == "breast" and self.model.field != "exam":
            raise ValueError('a network for the breasts sees the whole exam: model.field must be "exam"')
        if self.model.task == "breast" and isinstance(self.data, CohortData) and self.data.breast != REFERENCE:
            raise ValueError(
                'a network for the breasts learns the masks of the cohort: data.breast must be "reference"'
            )
        if isinstance(self.data, SimulatedData) and self.steps_per_epoch is None:
            raise ValueError("steps_per_epoch is needed with simulated data, which has no end")
        return self


class LeaveOneOutConfig(_Config):
    """The leave-one-centre-out experiment.

    Attributes:
        out: Folder of the experiment.
        data: The cohort; each of its sites is held out once.
        training: Fields of `TrainingConfig`, but for `out` and `data`, which the experiment sets.
        variants: Other ways to train, by name: what differs from `training`. Without any, there is one, "as-published".
        held_out: Sites to hold out, if not all.
        false_positives: False positives a case at which the lesions' sensitivity is told.
        review: Cases a model and set in the list for review.
    """

    out: Path
    data: CohortData
    training: dict[str, Any]
    variants: dict[str, dict[str, Any]] = Field(default={"as-published": {}}, min_length=1)
    held_out: tuple[str, ...] | None = None
    false_positives: tuple[float, ...] = (0.5, 1.0, 2.0)
    review: int = Field(default=20, gt=0)

    @model_validator(mode="after")
    def _every_run_is_sound(self) -> LeaveOneOutConfig:
        for variant in self.variants:
            if not re.fullmatch(r"\w[\w.-]*", variant):
                raise ValueError(f"variant {variant!r} can't be a folder's name")
            try:
                task = self.run(variant, "SITE").model.task
            except ValidationError as error:
                raise ValueError(f"variant {variant}: {_told(error)}") from error
            if task == "clusters":
                raise ValueError(f"variant {variant}: a network for clusters finds no tumours to judge it by")
        return self

    def run(self, variant: str, held_out: str) -> TrainingConfig:
        """The configuration of one of the experiment's runs."""
        fields = _merged(self.training, self.variants[variant])
        return TrainingConfig.model_validate(
            fields | {"out": self.out / variant / held_out, "data": self.data.model_dump()}
        )


def _merged(base: Any, changes: Any) -> Any:
    """`base` with `changes`, which may reach into its dictionaries; what has another name is replaced as a whole."""
    trees = isinstance(base, dict) and isinstance(changes, dict)
    if not trees or ("name" in changes and "name" in base and changes["name"] != base["name"]):
        return changes
    return base | {key: _merged(base.get(key), value) for key, value in changes.items()}


_Any = TypeVar("_Any", bound=BaseModel)


def read_config(file: Path, kind: type[_Any]) -> _Any:
    """Read a configuration from a YAML file.

    Raises:
        InputError: The file is no YAML, or a field is unknown, missing or senseless; all of them are told at once.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no YAML: {' '.join(str(error).split())}.", "Correct the file.") from error
    try:
        return kind.model_validate(_with_paths(content, file.absolute().parent))
    except ValidationError as error:
        raise InputError(f"{file}: {_told(error)}.", "Correct the file.") from error


def _told(error: ValidationError) -> str:
    """Every wrong field and what is wrong with it."""
    found = [f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}".strip(": ") for wrong in error.errors()]
    return "; ".join(found)


def write_config(config: BaseModel, file: Path) -> None:
    """Write a configuration as YAML that `read_config` reads."""
    file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


_PATHS = {"out", "path", "cache"}
_NAMES_OR_PATHS = {"start_from", "bundle", "maps_from", "coarse"}


def _with_paths(content: Any, folder: Path, key: str = "") -> Any:
    """Paths of a configuration as absolute ones."""
    if isinstance(content, dict):
        return {name: _with_paths(value, folder, name) for name, value in content.items()}
    if isinstance(content, list):
        return [_with_paths(value, folder, key) for value in content]
    if isinstance(content, str) and (key in _PATHS or (key in _NAMES_OR_PATHS and (folder / content).is_dir())):
        return str(folder / content)
    return content
