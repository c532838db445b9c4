"""Simulated exams to train on, made on the fly or once for a bank."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import first_post_index
from BreastTumorSegLib.core.user_cache import cache_folder
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription, find_bundle
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.variation import varied
from BreastTumorSegLib.phantom.visibility import faint
from BreastTumorSegLib.segmentation.breast import BreastMask
from BreastTumorSegLib.segmentation.engine import CANDIDATE_PROBABILITY
from BreastTumorSegLib.segmentation.resample import isotropic_grid, resample
from BreastTumorSegLib.segmentation.tumor import tumor_probability
from BreastTumorSegLib.training.cache import ContentCache
from BreastTumorSegLib.training.config import SimulatedData
from BreastTumorSegLib.training.processes import process_count, rank
from BreastTumorSegLib.training.volumes import TrainingVolume, compact, kept_phases, mapped_arrays, scaled

TRAINING_SEEDS = 1_000_000
"""Simulated exams for training have seeds from here on; those below are for validation, tests and demonstrations."""

VALIDATION_SEEDS = 900_000

SIMULATION = 6
"""Counts up where the simulation changes what a bank of exams holds."""

REFINED_FROM_MM = (1.0, 1.5, 2.0)
"""Spacings of the simulated exams that networks for refinement learn from, in turn: real exams have many."""


class SimulatedSource:
    """Exams that are simulated when they are asked for, on the device that trains; a bank's are kept in the cache.

    Args:
        data: What is simulated.
        description: The model that the exams are for.
        first_seed: Of the first exam; the others' follow.
        device: Where to simulate.
    """

    def __init__(self, data: SimulatedData, description: ModelDescription, first_seed: int, device: str) -> None:
        self._data = data
        self._description = description
        self._first_seed = first_seed
        self._device = device
        self._cache = ContentCache(data.cache or cache_folder() / "training")
        self._last: tuple[int, TrainingVolume] | None = None

    def volume(self, number: int) -> TrainingVolume:
        """See `Source`."""
        exam = number // self._data.patches_per_exam
        if self._data.bank:
            return self._from_bank(exam % self._data.bank)
        if self._last is None or self._last[0] != exam:
            self._last = (exam, self._simulate(exam, None if self._description.phases == "all" else 3))
        return self._last[1]

    def fill_bank(self, events: Events) -> None:
        """Simulate the exams of the bank that the cache lacks; several processes share them out.

        Raises:
            OutputError: The disk is full.
            Cancelled: On request.
        """
        count = self._data.bank or 0
        for number in range(rank(), count, process_count()):
            events.progress("simulate", number, count)
            self._in_bank(number)

    def _in_bank(self, number: int) -> Path:
        facts = self._data.model_dump(include={"sites", "varied", "without", "spread"}, mode="json")
        facts |= {"version": SIMULATION, "seed": self._first_seed + number, "spacing": self._description.spacing_mm}
        facts |= {"site": self._site(number)}
        if self._data.coarse:
            coarse = self._coarse(number)
            facts |= {"coarse": coarse.sha256, "described": coarse.description.model_dump(mode="json")}
            if coarse.partner:
                facts |= {"partner": coarse.partner.sha256, "partner_field": coarse.partner.description.field}
        return self._cache.entry(self._cache.key((), facts), lambda folder: _save_volume(self._made(number), folder))

    def _made(self, number: int) -> TrainingVolume:
        return self._with_candidates(number) if self._data.coarse else self._simulate(number, None)

    def _from_bank(self, number: int) -> TrainingVolume:
        whole = _load_volume(self._in_bank(number))
        chosen = kept_phases(whole.times, self._description)
        return replace(whole, phases=whole.phases[chosen], times=tuple(whole.times[index] for index in chosen))

    def _site(self, number: int) -> str:
        return self._data.sites[number % len(self._data.sites)]

    def _coarse(self, number: int) -> Bundle:
        """Every model meets every site."""
        return self._coarse_models[number // len(self._data.sites) % len(self._coarse_models)]

    @cached_property
    def _coarse_models(self) -> list[Bundle]:
        return [find_bundle(named, "tumor") for named in self._data.coarse]

    def _with_candidates(self, number: int) -> TrainingVolume:
        """The exam of a number as a network for refinement sees it."""
        spacing = REFINED_FROM_MM[number % len(REFINED_FROM_MM)]
        exam = self._exam(number, spacing, None)
        return candidate_volume(exam, _unseen(exam, spacing), self._coarse(number), self._description)

    def _exam(self, number: int, spacing: float, phases: int | None) -> SimulatedExam:
        change = partial(varied, without=self._data.without) if self._data.varied else None
        spread = 0.0 if self._data.varied else self._data.spread
        seed = self._first_seed + number
        return simulate_exam(self._site(number), seed, spacing, self._device, phases, spread, change=change)

    def _simulate(self, number: int, phases: int | None) -> TrainingVolume:
        """The exam of a number, with at most so many phases."""
        exam = self._exam(number, self._description.spacing_mm, phases)
        chosen = list(range(len(exam.times))) if phases is None else kept_phases(exam.times, self._description)
        unknown = _unseen(exam, self._description.spacing_mm) if self._data.varied else None
        seen = exam.tumor if unknown is None else exam.tumor & ~unknown
        return TrainingVolume(
            scaled(exam.data[chosen]),
            255 * exam.tumor.to(torch.uint8),
            exam.breast > 0,
            torch.nonzero(seen.flatten())[:, 0],
            tuple(exam.times[index] for index in chosen),
            unknown=unknown,
        )


def _unseen(exam: SimulatedExam, spacing: float) -> Tensor:
    """Where there is tumour that nobody can see, bool (Z, Y, X)."""
    early = exam.data[first_post_index(exam.times)] - exam.data[0]
    unseen = faint(early.cpu().numpy(), exam.tumor.cpu().numpy(), (exam.breast > 0).cpu().numpy(), spacing)
    return torch.from_numpy(unseen).to(exam.tumor.device)


def candidate_volume(
    exam: SimulatedExam, unseen: Tensor, coarse: Bundle, description: ModelDescription
) -> TrainingVolume:
    """An exam for a network for refinement: two or three phases, and what a tumour model says of it.

    `tumor_voxels` are of the tumour and of what the model takes for one, as many of each where both are there.

    Args:
        unseen: Tumour that nobody can see, bool (Z, Y, X) on the exam's grid.
        coarse: The tumour model. It is told the true breasts.
    """
    scanned, breast = exam.exam, (exam.breast > 0).cpu().numpy()
    mask = BreastMask(exam.breast.cpu().numpy(), breast, exam.geometry)
    probability = tumor_probability(scanned, mask, coarse, torch.device("cpu"), Events())
    grid = isotropic_grid(exam.geometry, description.spacing_mm)

    def on_grid(volume: np.ndarray) -> np.ndarray:
        return resample(volume, exam.geometry, grid)

    tumor, unknown, likely = (on_grid(part) for part in (exam.tumor.cpu().numpy(), unseen.cpu().numpy(), probability))
    chosen = kept_phases(exam.times, description)
    candidates = np.flatnonzero(likely >= CANDIDATE_PROBABILITY)
    return TrainingVolume(
        torch.from_numpy(compact(np.stack([on_grid(scanned.data[index]) for index in chosen]))),
        torch.from_numpy(np.rint(255 * tumor).astype(np.uint8)),
        torch.from_numpy(on_grid(breast) >= 0.5),
        torch.from_numpy(_as_many(np.flatnonzero((tumor >= 0.5) & (unknown < 0.5)), candidates)),
        tuple(exam.times[index] for index in chosen),
        maps=torch.from_numpy(np.rint(255 * likely).astype(np.uint8))[None],
        unknown=torch.from_numpy(unknown >= 0.5),
    )


def _as_many(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Both, repeated to about the same number; where one is empty, the other."""
    count = max(len(some), len(others))
    return np.concatenate([np.resize(part, count) for part in (some, others) if len(part)] or [some])


def _save_volume(volume: TrainingVolume, folder: Path) -> None:
    """All arrays of a volume, and its times."""
    for name, array in vars(volume).items():
        if isinstance(array, Tensor):
            np.save(folder / f"{name}.npy", array.cpu().numpy())
    (folder / "times.json").write_text(json.dumps(volume.times), encoding="ascii")


def _load_volume(folder: Path) -> TrainingVolume:
    """What `_save_volume` wrote."""
    times = tuple(json.loads((folder / "times.json").read_text(encoding="ascii")))
    return TrainingVolume(times=times, **mapped_arrays(folder))
