"""The training engine: a network, its samples, and everything that must survive an interruption."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.engine import Events as On
from ignite.handlers import EarlyStopping
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR, StepLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from BreastTumorSegLib.core.errors import Cancelled, InputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.machine import cores
from BreastTumorSegLib.io.results import output_errors
from BreastTumorSegLib.networks.catalogue import supervised_logits, takes_times
from BreastTumorSegLib.networks.transfer import train_mode
from BreastTumorSegLib.training.config import CohortData, OptimizerConfig, TrainingConfig
from BreastTumorSegLib.training.curves import Curves
from BreastTumorSegLib.training.losses import build_loss, deep_supervision_loss
from BreastTumorSegLib.training.processes import (
    any_process,
    barrier,
    extremes,
    local_process_count,
    process_count,
    rank,
    shared,
    summed,
)
from BreastTumorSegLib.training.samples import Samples
from BreastTumorSegLib.training.validation import Validation

CHECKPOINT = "checkpoint.pt"
Weights = tuple[Tensor, ...] | list[Tensor]


class Trainer:
    """Trains one network; a trainer that is made anew in the same folder goes on where the last checkpoint was.

    Args:
        config: Of the run.
        network: On its device.
        samples: By number.
        steps_per_epoch: Optimiser steps.
        validation: Judges networks; None where there is nothing to validate on.
        folder: Of the run.
        device: Where to train.
        events: Told of the progress; a cancellation ends the run after the step, with a checkpoint.
    """

    def __init__(
        self,
        config: TrainingConfig,
        network: nn.Module,
        samples: Samples,
        steps_per_epoch: int,
        validation: Validation | None,
        folder: Path,
        device: torch.device,
        events: Events,
    ) -> None:
        self._config = config
        self._samples = samples
        self._validation = validation
        self._folder = folder
        self._device = device
        self._events = events
        self._steps = config.epochs * steps_per_epoch
        self._network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._trained = shared(network)
        self._average = _average(network, config.average)
        self._optimizer = _optimizer(config.optimizer, network)
        self._schedule = _schedule(config.optimizer, self._optimizer, self._steps, steps_per_epoch)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self._loss = build_loss(config.loss)
        self._takes_times = takes_times(config.model.network)
        self._best = _Best()
        self._due = _Due()
        self._engine = Engine(self._step)
        self._engine.logger.disabled = True  # errors are told where they end up
        self._engine.load_state_dict({"iteration": 0, "max_epochs": config.epochs, "epoch_length": steps_per_epoch})
        self._early_stopping = _early_stopping(config, self._engine, self._best)
        self._curves = Curves(folder, config.tensorboard and rank() == 0)
        self._started = (time.monotonic(), 0)
        self._rate = config.optimizer.learning_rate
        self._stop = False

    def run(self) -> nn.Module:
        """Train to the end; returns the network that validated best, or the last one without validation.

        Raises:
            Cancelled: On request; a checkpoint was written.
            OutputError: A checkpoint can't be written; the last one is still there.
        """
        self._resume()
        steps_per_epoch = self._engine.state.epoch_length
        assert steps_per_epoch is not None
        self._engine.add_event_handler(On.ITERATION_COMPLETED, self._after_step)
        self._engine.add_event_handler(On.EPOCH_COMPLETED, self._after_epoch)
        self._validate_if_due()
        if not self._ended:
            self._started = (time.monotonic(), self._engine.state.iteration)
            self._engine.run(_Batches(self._loader()), epoch_length=steps_per_epoch)
        self._curves.close()
        if self._best.weights:
            self._network.load_state_dict(self._best.weights)
            return self._network.eval()
        return self._judged.eval()

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self._engine.state.iteration

    @property
    def best(self) -> tuple[int, float]:
        """Step and mean Dice of the best validation so far; 0 and NaN without any."""
        return self._best.step, self._best.dice

    @property
    def _ended(self) -> bool:
        stopped = self._early_stopping and self._early_stopping.counter >= self._early_stopping.patience
        return bool(stopped) or self.step >= self._steps

    @property
    def _judged(self) -> nn.Module:
        """The network that becomes the bundle."""
        return self._average.module if self._average else self._network

    def _loader(self) -> DataLoader[Any]:
        config, each = self._config.samples, self._config.samples.batch // process_count()
        numbers = _numbers(self.step * config.batch, self._steps * config.batch, config.batch)
        # Simulated exams are made on the device itself, and on a CPU the cores belong to the network.
        beside = self._device.type == "cuda" and isinstance(self._config.data, CohortData)
        workers = max(cores() // local_process_count(), 1) if beside else 0
        return DataLoader(
            self._samples,
            each,
            sampler=numbers,
            num_workers=workers,
            pin_memory=beside,
            worker_init_fn=_leave_signals_to_the_trainer,
            generator=torch.Generator(),  # PyTorch's own belongs to the checkpoint: nothing else may draw from it
        )

    def _step(self, engine: Engine, batch: Sequence[Tensor]) -> float:
        train_mode(self._trained, self._config.keep_statistics)
        image, times, target = (tensor.to(self._device, non_blocking=True) for tensor in batch)
        image = image.contiguous(memory_format=torch.channels_last_3d)  # a third faster than the usual order
        with self._autocast():
            outputs = supervised_logits(self._trained, image, times if self._takes_times else None)
        progress = (engine.state.iteration - 1) / self._steps
        loss = deep_supervision_loss(self._loss, [output.float() for output in outputs], target, progress)
        self._optimizer.zero_grad(set_to_none=True)
        self._rate = self._optimizer.param_groups[0]["lr"]
        self._scaler.scale(loss).backward()
        if self._config.optimizer.clip_norm:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), self._config.optimizer.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        if self._average:
            self._average.update_parameters(self._network)
        return float(summed(loss.detach()) / process_count())

    def _autocast(self) -> torch.autocast:
        kind = torch.float16 if self._config.precision == "float16" else torch.bfloat16
        return torch.autocast(self._device.type, kind, enabled=self._config.precision != "float32")

    def _after_step(self, engine: Engine) -> None:
        step = engine.state.iteration
        loss = engine.state.output
        assert isinstance(loss, float)
        if not np.isfinite(loss):
            raise InputError(
                f"The loss became {loss} at step {step}.", "Lower optimizer.learning_rate, or set optimizer.clip_norm."
            )
        self._curves.step(step, engine.state.epoch, loss, self._rate)
        begun, first = self._started
        left = (time.monotonic() - begun) / (step - first) * (self._steps - step)
        facts = {"loss": round(loss, 4), "seconds_left": round(left)}
        self._events.show({"event": "progress", "stage": "train", "done": step, "total": self._steps, **facts})
        self._stop = any_process(self._events.cancelled, self._device)
        # At an epoch's end comes another checkpoint at once.
        if step % (engine.state.epoch_length or 1) and (self._stop or step % self._config.checkpoint_steps == 0):
            self._save_and_stop_if_asked()

    def _after_epoch(self, engine: Engine) -> None:
        every = self._config.validation.every_epochs
        self._due.validation = self._validation is not None and engine.state.epoch % every == 0
        self._save_and_stop_if_asked()
        self._validate_if_due()

    def _save_and_stop_if_asked(self) -> None:
        self.save()
        if self._stop:
            barrier()  # the checkpoint is written by one process
            raise Cancelled

    def _validate_if_due(self) -> None:
        """After an epoch, and at once where a run goes on that was stopped before it was done."""
        if not self._due.validation or self._validation is None:
            return
        scores = self._validation(self._judged)
        self._curves.validation(self.step, scores)
        self._best.offer(scores["all"], self.step, self._judged)
        self._due.validation = False
        if self._early_stopping:
            self._early_stopping(self._engine)
        self.save()

    def save(self) -> None:
        """Write the checkpoint beside its place and put it there."""
        if rank() == 0:
            path = self._folder / CHECKPOINT
            with output_errors(path):
                self._curves.flush()
                beside = path.with_name(f".{path.name}-partial")
                _save({name: part.state_dict() for name, part in self._parts().items()}, beside)
                beside.replace(path)

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if path.is_file():
            self._load(path)
        lowest, highest = extremes(self.step, self._device)
        if lowest != highest:
            raise InputError(
                f"Of the processes, one goes on from step {lowest} and one from {highest} of {self._folder}.",
                "All of them must see the same folder (out).",
            )
        if rank() == 0:
            self._curves.back_to(self.step, not self._due.validation)

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self._device, weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        except (RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"{path} can't be gone on from: {str(error).partition(chr(10))[0]}.",
                "Use the configuration that it was made with, or remove it to begin again.",
            ) from error

    def _parts(self) -> dict[str, Any]:
        """Everything that has a state."""
        parts: dict[str, Any] = {
            "engine": self._engine,
            "network": self._network,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            "scaler": self._scaler,
            "best": self._best,
            "due": self._due,
            "random": _Randomness(),
        }
        if self._average:
            parts["average"] = self._average
        if self._early_stopping:
            parts["early_stopping"] = self._early_stopping
        return parts


class _Best:
    """The weights that validated best."""

    def __init__(self) -> None:
        self.dice = float("nan")
        self.step = 0
        self.latest = float("nan")
        self.weights: dict[str, Tensor] = {}

    def offer(self, dice: float, step: int, network: nn.Module) -> None:
        self.latest = dice
        if not dice <= self.dice:  # the first one, too
            self.dice, self.step = dice, step
            self.weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class _Due:
    """What is yet to be done at the checkpoint's step."""

    def __init__(self) -> None:
        self.validation = False

    def state_dict(self) -> dict[str, bool]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, bool]) -> None:
        vars(self).update(state)


class _Randomness:
    """PyTorch's random state, which dropout draws from; samples have generators of their own."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"cpu": torch.get_rng_state()} | (
            {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
        )

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"].cpu())
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"].cpu())


class _Batches:
    """A loader that the engine may ask for an iterator once; it begins where the run goes on."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._batches = iter(loader)

    def __iter__(self) -> Iterator[Any]:
        return self._batches


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """A signal for the whole group of processes must not end a worker in the middle of a step."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _numbers(first: int, end: int, batch: int) -> list[int]:
    """Numbers of the samples that are this process's share of every batch."""
    each = batch // process_count()
    starts = range(first + rank() * each, end, batch)
    return [start + i for start in starts for i in range(each)]


def _optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if config.name == "adam":
        return torch.optim.Adam(trained, config.learning_rate)
    return torch.optim.AdamW(trained, config.learning_rate, weight_decay=config.weight_decay)


def _schedule(
    config: OptimizerConfig, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
) -> LRScheduler:
    if config.schedule == "polynomial":
        return PolynomialLR(optimizer, steps, config.power)
    return StepLR(optimizer, config.step_epochs * steps_per_epoch, config.factor)


def _early_stopping(config: TrainingConfig, engine: Engine, best: _Best) -> EarlyStopping | None:
    if config.validation.patience is None:
        return None
    return EarlyStopping(config.validation.patience, lambda _: best.latest, engine)


def _average(network: nn.Module, decay: float | None) -> AveragedModel | None:
    return AveragedModel(network, multi_avg_fn=_running_average(decay)) if decay else None


def _running_average(decay: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    def update(averaged: Weights, current: Weights, count: Tensor | int) -> None:
        """Over fewer steps at first, so that the first weights are soon forgotten."""
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - now)

    return update


def _save(state: dict[str, Any], path: Path) -> None:
    """PyTorch says only that writing failed; why, such as a full disk, is the context of its error."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
