"""One training run: from a configuration to a bundle, in a folder that it can be resumed from; see `run_folder`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from BreastTumorSegLib.core.errors import Cancelled, InputError, ModelError, OutOfMemoryError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.io.cohort import Case, Cohort
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.networks.bundle import CARD, Bundle, find_bundle, save_bundle
from BreastTumorSegLib.networks.catalogue import build_network
from BreastTumorSegLib.networks.transfer import freeze_encoder, load_encoder
from BreastTumorSegLib.segmentation.fallbacks import is_lack_of_memory
from BreastTumorSegLib.training.card import card, trained_on
from BreastTumorSegLib.training.config import CohortData, SimulatedData, TrainingConfig
from BreastTumorSegLib.training.engine import CHECKPOINT, Trainer
from BreastTumorSegLib.training.processes import joined_processes, own_device, process_count, rank
from BreastTumorSegLib.training.run_folder import MODELS, Split, finished, open_folder, require_same
from BreastTumorSegLib.training.samples import Samples
from BreastTumorSegLib.training.simulated import TRAINING_SEEDS, VALIDATION_SEEDS, SimulatedSource
from BreastTumorSegLib.training.validation import SiteVolume, Validation
from BreastTumorSegLib.training.volumes import (
    CohortSource,
    PreparedCohort,
    Source,
    maps_bundle,
    open_cohort,
)


def train(config: TrainingConfig, device: torch.device, events: Events) -> Path:
    """Train as configured, or go on with what was begun; returns the folder of bundles in the run's folder.

    Raises:
        InputError: The cohort has problems, which are told all at once; or the folder holds another run.
        OutputError: There is too little space on a disk.
        ModelError: A bundle to start from does not fit.
        OutOfMemoryError: A sample or an exam is too large for the device.
        Cancelled: On request; the same call goes on.
    """
    with joined_processes(device):
        device = own_device(device)
        if isinstance(config.data, SimulatedData):
            return _train_on_simulated(config, config.data, device, events)
        cases = tuple(case for case in open_cohort(config.data, events) if case.split != "test")
        prepared = PreparedCohort(Cohort(cases), config.data, config.model, str(device))
        return train_on(prepared, split_cases(cases, config), config, device, events)


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


def check_run(config: TrainingConfig, split: Split | None) -> None:
    """Look for what would end a run, before hours are spent; raises as `train` does."""
    require_same(config, split)
    if config.samples.batch % process_count():
        raise InputError(
            f"A batch of {config.samples.batch} can't be shared out among {process_count()} processes.",
            "Make samples.batch a multiple.",
        )
    if not finished(config):
        _first_network(config)


def train_on(
    prepared: PreparedCohort, split: Split, config: TrainingConfig, device: torch.device, events: Events
) -> Path:
    """Train on some cases of a cohort; raises as `train` does."""
    assert isinstance(config.data, CohortData)
    check_run(config, split)
    if finished(config):
        return config.out / MODELS
    network = _opened(config, split)
    prepared.prepare(events)
    steps = config.steps_per_epoch or max(len(split.training) // config.samples.batch, 1)
    source = CohortSource(prepared, split.training, config.seed)
    cases = [(case.site, prepared.volume_of(case)) for case in split.validation]
    samples = Samples(source, config.model, config.samples, config.data.soft_labels, config.seed)
    return _run(config, network, samples, cases, steps, split.training, device, events)


def _train_on_simulated(config: TrainingConfig, data: SimulatedData, device: torch.device, events: Events) -> Path:
    check_run(config, None)
    if finished(config):
        return config.out / MODELS
    network = _opened(config, None)
    source = SimulatedSource(data, config.model, TRAINING_SEEDS + config.seed * 100_000, str(device))
    source.fill_bank(events)
    samples = Samples(source, config.model, config.samples, False, config.seed)
    assert config.steps_per_epoch is not None
    cases = _simulated_cases(config, data, events)
    return _run(config, network, samples, cases, config.steps_per_epoch, (), device, events)


def _simulated_cases(config: TrainingConfig, data: SimulatedData, events: Events) -> list[SiteVolume]:
    """For validation, with seeds of their own."""
    source: Source = SimulatedSource(
        data.model_copy(update={"patches_per_exam": 1, "bank": None}), config.model, VALIDATION_SEEDS, "cpu"
    )
    cases = []
    for number in range(data.validation):
        events.progress("prepare", number, data.validation)
        cases.append((data.sites[number % len(data.sites)], source.volume(number)))
    return cases


def _opened(config: TrainingConfig, split: Split | None) -> nn.Module:
    """The network at the run's start; the run's folder is there then."""
    torch.manual_seed(config.seed)
    network = _first_network(config)
    if rank() == 0:
        open_folder(config, sum(parameter.numel() for parameter in network.parameters()), split)
    return network


def _run(
    config: TrainingConfig,
    network: nn.Module,
    samples: Samples,
    cases: Sequence[SiteVolume],
    steps_per_epoch: int,
    learned_from: Sequence[Case],
    device: torch.device,
    events: Events,
) -> Path:
    network = network.to(device)
    validation = Validation(config, cases, device, events) if cases else None
    begun = (config.out / CHECKPOINT).is_file()
    trainer = Trainer(config, network, samples, steps_per_epoch, validation, config.out, device, events)
    with _typed(config, trainer):
        if validation and not begun:
            validation.rehearse(network)
        best = trainer.run()
    if rank() == 0:
        _write_bundle(config, best, trainer, learned_from)
    return config.out / MODELS


@contextmanager
def _typed(config: TrainingConfig, trainer: Trainer) -> Iterator[None]:
    """Say where a stopped run goes on, and what to do where memory runs out."""
    try:
        yield
    except Cancelled as stop:
        if trainer.step:
            stop.remedy = f"{config.out} has a checkpoint of step {trainer.step}: the same command goes on from there."
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"Memory ran out at step {trainer.step} of {config.out}.",
            'Lower samples.batch or samples.patch, or set validation.windows to "patch".',
        ) from error


def _write_bundle(config: TrainingConfig, network: nn.Module, trainer: Trainer, cases: Sequence[Case]) -> None:
    """The card comes last: with it, the run has ended."""
    starts = (config.start_from, config.encoder and config.encoder.bundle)
    maps = maps_bundle(config.model, config.data)
    begun = [_bundle(named, config).description for named in starts if named]
    learned_from = trained_on(config, cases, begun, maps.description if maps else None)
    text = card(config, network, learned_from, trainer.step, trainer.best)
    description = config.model.model_copy(
        update={"trained_on": learned_from, "maps_sha256": maps.sha256 if maps else None}
    )
    with output_errors(config.out):
        save_bundle(network, description, config.out / MODELS)
        (config.out / MODELS / description.name / CARD).write_text(text, encoding="utf-8")


def _first_network(config: TrainingConfig) -> nn.Module:
    size = config.model.network
    network = build_network(size)
    if config.start_from:
        start = _bundle(config.start_from, config)
        try:
            network.load_state_dict(start.network.state_dict())
        except RuntimeError as error:
            raise ModelError(
                f"{config.start_from} has another network than {config.model.name}: {start.description.network}.",
                "Start from a bundle of the same size, or take its encoder only (encoder).",
            ) from error
    if config.encoder:
        load_encoder(network, size, _bundle(config.encoder.bundle, config))
    if config.encoder and config.encoder.frozen:
        freeze_encoder(network, size)
    return network


def _bundle(named: str, config: TrainingConfig) -> Bundle:
    return find_bundle(named, config.model.task)
