"""One training run: from a configuration to a bundle, in a folder that it can be resumed from.

The folder holds `config.yaml`, `run.json` (versions, seed, state of the source tree), `split.csv` (case, site, set),
`steps.csv`, `validations.csv`, `tensorboard/`, `checkpoint.pt`, and at the end `models/` with the bundle.
"""

from __future__ import annotations

import csv
import json
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from BreastTumorSegLib import __version__
from BreastTumorSegLib.core.errors import Cancelled, InputError, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.cohort import Case
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.metrics.overlap import dice
from BreastTumorSegLib.networks.bundle import Bundle, load_bundle, read_bundle, save_bundle
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.networks.transfer import freeze_encoder, load_encoder
from BreastTumorSegLib.training.card import card, trained_on
from BreastTumorSegLib.training.config import CohortData, SimulatedData, TrainingConfig, write_config
from BreastTumorSegLib.training.engine import CHECKPOINT, Trainer, Validate
from BreastTumorSegLib.training.prediction import one_pass, predict_probability, sliding_windows
from BreastTumorSegLib.training.processes import joined_processes, own_device, process_count, rank, summed
from BreastTumorSegLib.training.samples import Samples
from BreastTumorSegLib.training.volumes import (
    MARKED,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    CohortSource,
    PreparedCohort,
    SimulatedSource,
    Source,
    TrainingVolume,
    open_cohort,
)

CONFIG, RUN, SPLIT, MODELS, CARD = "config.yaml", "run.json", "split.csv", "models", "CARD.md"
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy", "SimpleITK")

FREE_BYTES_A_PARAMETER = 40
"""Checkpoints beside each other: weights, two of the optimiser's, an average, the best ones, twice, and some more."""


@dataclass(frozen=True)
class Split:
    """Which cases train and which validate."""

    training: tuple[Case, ...]
    validation: tuple[Case, ...]


def train(config: TrainingConfig, device: torch.device, events: Events) -> Path:
    """Train as configured, or go on with what was begun; returns the folder of bundles in the run's folder.

    Raises:
        InputError: The cohort has problems, which are told all at once; or the folder holds a run of another
            configuration.
        OutputError: There is too little space on the disk.
        ModelError: A bundle to start from does not fit.
        Cancelled: On request; the same call goes on.
    """
    with joined_processes(device):
        device = own_device(device)
        if isinstance(config.data, SimulatedData):
            return _train_on_simulated(config, config.data, device, events)
        prepared = PreparedCohort(open_cohort(config.data, events), config.data, config.model, str(device))
        split = split_cases(prepared.cohort.of_split("train").cases or prepared.cohort.cases, config)
        return train_on(prepared, split, config, device, events)


def split_cases(cases: Sequence[Case], config: TrainingConfig) -> Split:
    """Draw the cases for validation, without regard to their sites, as the cross-dataset study does.

    Raises:
        InputError: No case is left to train on.
    """
    order = np.random.default_rng([config.seed, 2]).permutation(len(cases))
    count = round(config.validation.share * len(cases))
    chosen = set(order[:count].tolist())
    split = Split(
        tuple(case for i, case in enumerate(cases) if i not in chosen),
        tuple(case for i, case in enumerate(cases) if i in chosen),
    )
    if not split.training:
        raise InputError(f"{len(cases)} cases leave none to train on.", "Add cases, or lower validation.share.")
    return split


def train_on(
    prepared: PreparedCohort, split: Split, config: TrainingConfig, device: torch.device, events: Events
) -> Path:
    """Train on some cases of a cohort; raises as `train` does."""
    assert isinstance(config.data, CohortData)
    if finished(config):
        return config.out / MODELS
    prepared.prepare(events)
    steps = config.steps_per_epoch or max(len(split.training) // config.samples.batch, 1)
    source = CohortSource(prepared, split.training, config.seed)
    cases = [(case.site, prepared.volume_of(case)) for case in split.validation]
    return _run(config, source, cases, config.data.soft_labels, steps, device, events, split)


def _train_on_simulated(config: TrainingConfig, data: SimulatedData, device: torch.device, events: Events) -> Path:
    if finished(config):
        return config.out / MODELS
    first = TRAINING_SEEDS + config.seed * 100_000
    held_out = SimulatedSource(data.model_copy(update={"patches_per_exam": 1}), config.model, VALIDATION_SEEDS, "cpu")
    cases = []
    for number in range(data.validation):
        events.progress("prepare", number, data.validation)
        cases.append((data.sites[number % len(data.sites)], held_out.volume(number)))
    source = SimulatedSource(data, config.model, first, str(device))
    assert config.steps_per_epoch is not None
    return _run(config, source, cases, False, config.steps_per_epoch, device, events)


def _run(
    config: TrainingConfig,
    source: Source,
    cases: Sequence[tuple[str, TrainingVolume]],
    soft: bool,
    steps_per_epoch: int,
    device: torch.device,
    events: Events,
    split: Split | None = None,
) -> Path:
    _check_processes(config)
    torch.manual_seed(config.seed)
    network = _first_network(config).to(device)
    if rank() == 0:
        _open_folder(config, network, split)
    validate = _validation(config, cases, device) if cases else None
    if validate and not (config.out / CHECKPOINT).is_file():
        _rehearse(_validation(config, cases[: process_count()], device), network, events)
    samples = Samples(source, config.model, config.samples, soft, config.seed)
    trainer = Trainer(config, network, samples, steps_per_epoch, validate, config.out, device, events)
    try:
        best = trainer.run()
    except Cancelled as stop:
        stop.remedy = f"{config.out} holds a checkpoint of step {trainer.step}: the same command goes on from there."
        raise
    if rank() == 0:
        _write_bundle(config, best, trainer, split.training if split else ())
    return config.out / MODELS


def _write_bundle(config: TrainingConfig, network: nn.Module, trainer: Trainer, cases: Sequence[Case]) -> None:
    """The card comes last: with it, the run has ended."""
    learned_from = trained_on(config, cases)
    text = card(config, network, learned_from, trainer.step, trainer.best)
    description = config.model.model_copy(update={"trained_on": learned_from})
    with output_errors(config.out):
        save_bundle(network, description, config.out / MODELS)
        (config.out / MODELS / description.name / CARD).write_text(text, encoding="utf-8")


def finished(config: TrainingConfig) -> bool:
    """Whether the run's folder has its bundle.

    Raises:
        InputError: It is that of another configuration.
    """
    _check_same(config)
    return (config.out / MODELS / config.model.name / CARD).is_file()


def _check_same(config: TrainingConfig) -> None:
    file = config.out / CONFIG
    if not file.is_file():
        return
    import yaml

    there = yaml.safe_load(file.read_text(encoding="utf-8"))
    here = config.model_dump(mode="json")
    for each in (there, here):  # where folders lie does not matter: a run and its data may be moved
        each["data"] = {key: value for key, value in each["data"].items() if key not in ("path", "cache")}
    differing = [key for key in here if key != "out" and here[key] != there.get(key)]
    if differing:
        raise InputError(
            f"{config.out} holds a run with another {', '.join(differing)}.", "Choose another folder (out)."
        )


def _check_processes(config: TrainingConfig) -> None:
    if config.samples.batch % process_count():
        raise InputError(
            f"A batch of {config.samples.batch} can't be shared out among {process_count()} processes.",
            "Make samples.batch a multiple.",
        )


def _first_network(config: TrainingConfig) -> nn.Module:
    size = config.model.network
    network = build_network(size)
    if config.start_from:
        network.load_state_dict(_bundle(config.start_from, config).network.state_dict())
    if config.encoder:
        load_encoder(network, size, _bundle(config.encoder.bundle, config))
    if config.encoder and config.encoder.frozen:
        freeze_encoder(network, size)
    return network


def _bundle(named: str, config: TrainingConfig) -> Bundle:
    """The bundle in a folder, or a shipped model by name."""
    return read_bundle(Path(named)) if Path(named).is_dir() else load_bundle(named, config.model.task)


def _open_folder(config: TrainingConfig, network: nn.Module, split: Split | None) -> None:
    """Write what the run is, before anything is computed."""
    with output_errors(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
        needed = FREE_BYTES_A_PARAMETER * sum(parameter.numel() for parameter in network.parameters())
        free = shutil.disk_usage(config.out).free
        if free < needed:
            raise OutputError(
                f"{config.out}: {free >> 20} MB are free on this disk, checkpoints need {needed >> 20} MB.",
                "Free space, or use another disk.",
            )
        write_config(config, config.out / CONFIG)
        if not (config.out / RUN).is_file():
            (config.out / RUN).write_text(json.dumps(about_run(config), indent=2) + "\n", encoding="utf-8")
        if split:
            _write_split(split, config.out / SPLIT)


def about_run(config: TrainingConfig) -> dict[str, Any]:
    """What a run was made with: versions, seed, state of the source tree."""
    return {
        "versions": {"BreastTumorSeg": __version__, "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "seed": config.seed,
        "git": _git_state(),
        "processes": process_count(),
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the source tree and whether it was changed; None outside of one."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _write_split(split: Split, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "site", "set"])
        for name, cases in (("training", split.training), ("validation", split.validation)):
            writer.writerows([case.name, case.site, name] for case in cases)


def _validation(config: TrainingConfig, cases: Sequence[tuple[str, TrainingVolume]], device: torch.device) -> Validate:
    """Mean Dice on the network's grid, shared out among the processes; without tumour, what is found counts 0."""
    sites = sorted({site for site, _ in cases})

    def validate(network: nn.Module) -> dict[str, float]:
        sums = torch.zeros(len(sites), 2, dtype=torch.float64, device=device)
        for site, volume in cases[rank() :: process_count()]:
            score = _dice(config, network, volume, device)
            if np.isfinite(score):
                sums[sites.index(site)] += torch.tensor([score, 1.0], device=device)
        sums = summed(sums).cpu()
        means = {site: float(total / count) for site, (total, count) in zip(sites, sums, strict=True)}
        return {"all": float(sums[:, 0].sum() / sums[:, 1].sum()), **means}

    return validate


def _dice(config: TrainingConfig, network: nn.Module, volume: TrainingVolume, device: torch.device) -> float:
    patch = config.samples.patch
    if config.validation.windows == "patch" and patch:
        predictor = sliding_windows(network, patch, device)
    else:
        predictor = one_pass(network, config.model.network.multiple, device)
    found = predict_probability(volume, config.model, predictor) >= config.model.threshold
    actual = volume.breast if config.model.task == "breast" else volume.label >= MARKED
    if config.model.field == "breast" and config.model.task == "tumor":
        found &= volume.breast
    return dice(found.numpy(), actual.numpy(), empty=float("nan"))


def _rehearse(validate: Validate, network: nn.Module, events: Events) -> None:
    """What would fail in the first validation fails now, and not after an epoch."""
    events.progress("rehearse", 0, 1)
    validate(network.eval())
    events.progress("rehearse", 1, 1)
