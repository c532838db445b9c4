"""What samples are cut from: exams on the network's grid, prepared from a cohort; simulated ones are in `simulated`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.core.errors import InputError, OutputError
from BreastTumorSegLib.core.events import Events
from BreastTumorSegLib.core.exam import first_post_index
from BreastTumorSegLib.core.geometry import Geometry
from BreastTumorSegLib.core.user_cache import cache_folder
from BreastTumorSegLib.io import read_volume
from BreastTumorSegLib.io.cohort import Case, Cohort, read_cohort, require_sound
from BreastTumorSegLib.io.files import read_geometry
from BreastTumorSegLib.kinetics.codebooks import codebooks_sha256
from BreastTumorSegLib.networks.bundle import Bundle, ModelDescription, find_bundle, load_bundle
from BreastTumorSegLib.segmentation.breast import segment_breast
from BreastTumorSegLib.segmentation.clusters import class_maps, require_fit, true_classes
from BreastTumorSegLib.segmentation.resample import isotropic_grid, resample
from BreastTumorSegLib.training.cache import ContentCache
from BreastTumorSegLib.training.config import REFERENCE, CohortData, SimulatedData
from BreastTumorSegLib.training.processes import process_count, rank

PREPROCESSING = 2
"""Counts up where this file, or how the breasts are found, changes what the cache holds."""

MARKED = 128
"""A voxel from this value of `TrainingVolume.label` on belongs to the tumour by majority."""


@dataclass(frozen=True)
class TrainingVolume:
    """An exam on an isotropic grid along LPS.

    Attributes:
        phases: (T, Z, Y, X) float16, not negative, all divided by the same number. All phases of the exam for a model
            that takes them; else pre-contrast, first post-contrast and, where there is one, the phase after that.
        label: (Z, Y, X) uint8: the share of the voxel, and of the annotators, that is tumour, times 255; for a model of
            clusters the class of the voxel.
        breast: (Z, Y, X) bool.
        tumor_voxels: (N,) int64, indices of the tumour's voxels in the flat volume.
        times: (T,) in seconds after the pre-contrast phase.
        maps: (K, Z, Y, X) uint8, what a model takes behind the phases, times 255: the probabilities of the classes of
            clusters, or a tumour model's probability.
        unknown: (Z, Y, X) bool, where the label is not learned from; None where all of it is.
    """

    phases: Tensor
    label: Tensor
    breast: Tensor
    tumor_voxels: Tensor
    times: tuple[float, ...]
    maps: Tensor | None = None
    unknown: Tensor | None = None


class Source(Protocol):
    """Where volumes come from, by the number of a sample."""

    def volume(self, number: int) -> TrainingVolume:
        """The volume that sample `number` is cut from; always the same one."""


class PreparedCohort:
    """The cases of a cohort, preprocessed for one model, in the cache.

    Args:
        cohort: Sound, see `io.cohort.require_sound`.
        data: How its exams are read.
        description: The model that they are prepared for.
    """

    def __init__(self, cohort: Cohort, data: CohortData, description: ModelDescription, device: str = "cpu") -> None:
        self.cohort = cohort
        self._data = data
        self._description = description
        self._spacing = description.spacing_mm
        self._device = torch.device(device)
        self._cache = ContentCache(data.cache or cache_folder() / "training")
        self._breast_model: Bundle | None = None
        self._maps_model: Bundle | None = None
        self._folders: dict[str, Path] = {}

    def prepare(self, events: Events) -> None:
        """Preprocess every case that the cache lacks; takes seconds each. Several processes begin with different ones.

        Raises:
            InputError: A file can't be read.
            OutputError: The disk has too little space, or is full.
            Cancelled: On request.
        """
        lacking = []
        for number, case in enumerate(self.cohort.cases):
            events.progress("hash", number, len(self.cohort.cases))
            if self._cache.has(self._key(case)):
                self.folder(case)
            else:
                lacking.append(case)
        self._require_space(lacking)
        # Each process makes its own share first, then what the others have not made by then.
        others = [case for number, case in enumerate(lacking) if number % process_count() != rank()]
        for number, case in enumerate([*lacking[rank() :: process_count()], *others]):
            events.progress("prepare", number, len(lacking))
            self.folder(case)
        events.progress("prepare", len(lacking), len(lacking))

    def _require_space(self, cases: Sequence[Case]) -> None:
        needed, free = sum(map(self._bytes, cases)), self._cache.free_bytes()
        if free < needed:
            raise OutputError(
                f"The cache needs {needed >> 20} MB for {len(cases)} exams, and {free >> 20} MB are free on its disk.",
                "Free space, or name a folder on another disk in data.cache.",
            )

    def _bytes(self, case: Case) -> int:
        """What a case takes in the cache: its phases in two bytes a voxel, two masks in one."""
        voxels = math.prod(isotropic_grid(read_geometry(case.phases[0]), self._spacing).size)
        return voxels * (2 * len(self._chosen(case)) + 2 + (self._classes if self._description.maps else 0))

    def volume_of(self, case: Case) -> TrainingVolume:
        """A case's volume; its arrays are mapped from disk."""
        folder = self.folder(case)
        times = tuple(case.times[index] for index in self._chosen(case))
        return TrainingVolume(times=times, **mapped_arrays(folder))

    def grid_of(self, case: Case) -> Geometry:
        """The grid of a case's volume."""
        said = json.loads((self.folder(case) / "grid.json").read_text(encoding="ascii"))
        return Geometry(**{name: tuple(values) for name, values in said.items()})

    def folder(self, case: Case) -> Path:
        """Where the cache keeps a case; asked for once, so that a file that changes meanwhile changes nothing."""
        if case.name not in self._folders:
            self._folders[case.name] = self._cache.entry(self._key(case), lambda folder: self._make(case, folder))
        return self._folders[case.name]

    def _chosen(self, case: Case) -> list[int]:
        return kept_phases(case.times, self._description)

    def _key(self, case: Case) -> str:
        chosen = self._chosen(case)
        facts = {"version": PREPROCESSING, "spacing": self._spacing, "breast": self._breast_fact(case)}
        if self._classes:
            facts |= {"classes": self._classes, "maps": self._maps_fact(), "field": self._description.field}
            facts |= {"chosen": chosen, "times": case.times, "codebooks": codebooks_sha256()}
            chosen = list(range(len(case.phases)))
        files = [*(case.phases[index] for index in chosen), *case.tumors]
        if self._data.breast == REFERENCE and case.breast:
            files.append(case.breast)
        return self._cache.key(files, facts)

    def _breast_fact(self, case: Case) -> str:
        if self._data.breast != REFERENCE:
            bundle = self._breast_bundle()
            return f"{bundle.sha256} from {bundle.description.threshold} on"
        return REFERENCE

    def _breast_bundle(self) -> Bundle:
        if self._breast_model is None:
            self._breast_model = load_bundle(self._data.breast, "breast")
        return self._breast_model

    def _make(self, case: Case, folder: Path) -> None:
        chosen = self._chosen(case)
        pre, geometry = read_volume(case.phases[0])
        grid = isotropic_grid(geometry, self._spacing)
        phases = [resample(pre if i == 0 else read_volume(case.phases[i])[0], geometry, grid) for i in chosen]
        label = np.mean([resample(read_volume(mask)[0] > 0, geometry, grid) for mask in case.tumors], axis=0)
        arrays = {
            "phases": compact(np.stack(phases)),
            "label": np.rint(255 * label).astype(np.uint8),
            "breast": resample(self._breast(case, pre, geometry), geometry, grid) >= 0.5,
        }
        arrays["tumor_voxels"] = np.flatnonzero(arrays["label"] >= MARKED)
        if self._classes:
            arrays |= self._cluster_arrays(case, geometry, grid, arrays["breast"])
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        (folder / "grid.json").write_text(json.dumps(vars(grid)), encoding="ascii")

    @property
    def _classes(self) -> int:
        """How many classes of clusters the model predicts, or takes; 0 for other models."""
        if self._description.maps:
            return self._description.network.in_channels - 1
        return self._description.network.out_channels if self._description.task == "clusters" else 0

    def _maps_fact(self) -> str:
        if not self._description.maps:
            return ""
        bundle = self._maps_bundle()
        return bundle.sha256 if bundle else REFERENCE

    def _maps_bundle(self) -> Bundle | None:
        if self._maps_model is None:
            self._maps_model = maps_bundle(self._description, self._data)
        return self._maps_model

    def _cluster_arrays(
        self, case: Case, geometry: Geometry, grid: Geometry, breast: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The classes as the label of a model for clusters; as maps, of a model that takes them."""
        bundle = self._maps_bundle()
        wanted = case.phases[:1] if bundle else case.phases
        phases = np.stack([resample(read_volume(file)[0], geometry, grid) for file in wanted])
        if bundle:
            pre, inside = torch.from_numpy(phases), torch.from_numpy(breast)
            maps = class_maps(bundle, pre, inside, self._device, Events())
            return {"maps": maps.mul_(255).round_().to(torch.uint8).numpy()}
        classes = true_classes(phases, case.times, breast, self._classes)
        if self._description.task == "clusters":
            return {"label": classes}
        return {"maps": 255 * (classes == np.arange(self._classes)[:, None, None, None]).astype(np.uint8)}

    def _breast(self, case: Case, pre: np.ndarray, geometry: Geometry) -> np.ndarray:
        if self._data.breast == REFERENCE:
            assert case.breast is not None
            return read_volume(case.breast)[0] > 0
        bundle = self._breast_bundle()
        return segment_breast(pre.astype(np.float32), geometry, bundle, self._device, Events()).labels > 0


def maps_bundle(description: ModelDescription, data: CohortData | SimulatedData) -> Bundle | None:
    """The model whose maps another one learns with; None for one that takes none, or the true clusters.

    Raises:
        ModelError: There is none of this name, it is damaged, or it does not fit.
    """
    if not description.maps or not isinstance(data, CohortData) or data.maps_from == REFERENCE:
        return None
    bundle = find_bundle(data.maps_from or description.maps, "clusters")
    require_fit(description, bundle)
    return bundle


class CohortSource:
    """Each case gives one sample an epoch, in an order that every epoch shuffles anew.

    Args:
        prepared: The cohort.
        cases: Those of its cases to sample from.
        seed: Of the order.
    """

    def __init__(self, prepared: PreparedCohort, cases: Sequence[Case], seed: int) -> None:
        self._prepared = prepared
        self._cases = cases
        self._seed = seed

    def volume(self, number: int) -> TrainingVolume:
        """See `Source`."""
        epoch, place = divmod(number, len(self._cases))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._cases))
        return self._prepared.volume_of(self._cases[int(order[place])])


def mapped_arrays(folder: Path) -> dict[str, Tensor]:
    """The arrays of an entry of the cache by name, mapped from disk."""
    # Copy on write: nobody writes, and PyTorch warns of arrays that can't be written.
    return {file.stem: torch.from_numpy(np.load(file, mmap_mode="c")) for file in folder.glob("*.npy")}


def open_cohort(data: CohortData, events: Events) -> Cohort:
    """Read a cohort and check it.

    Raises:
        InputError: There is none, or something is wrong with it; every problem of every case is told at once.
    """
    cohort = read_cohort(data.path, data.labels)
    require_sound(cohort, events)
    lacking = [case.name for case in cohort if case.breast is None] if data.breast == REFERENCE else []
    if lacking:
        raise InputError(
            f"{data.path}: no whole-breast mask of {', '.join(lacking)}.",
            "Add them, or let a model make them: data.breast: breast-unet.",
        )
    return cohort


def kept_phases(times: tuple[float, ...], description: ModelDescription) -> list[int]:
    """Indices of an exam's phases that `TrainingVolume` has."""
    if description.phases == "all":
        return list(range(len(times)))
    first = first_post_index(times)
    return [0, first, *([first + 1] if first + 1 < len(times) else [])]


def compact(phases: np.ndarray) -> np.ndarray:
    """`scaled` for an array."""
    return scaled(torch.from_numpy(phases)).numpy()


def scaled(phases: Tensor) -> Tensor:
    """Phases (T, Z, Y, X) over ten times their mean, as float16: 0 stays 0, and nothing comes near the type's ends."""
    lowest = phases.min().clamp_max(0)  # some exports have negative values
    phases = phases - lowest
    return (phases / (10 * phases.mean()).clamp_min(1e-6)).clamp_max(6e4).to(torch.float16)
