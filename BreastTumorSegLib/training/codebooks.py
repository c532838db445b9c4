"""Makes the shipped codebooks of time-intensity curves: `python -m BreastTumorSegLib.training.codebooks FOLDER`."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from BreastTumorSegLib.kinetics.clusters import KMeansClusterer
from BreastTumorSegLib.kinetics.codebooks import CODEBOOKS, GRID
from BreastTumorSegLib.kinetics.curves import read_at
from BreastTumorSegLib.kinetics.enhancement import ENHANCING_PE, enhancing_voxels, percent_enhancement
from BreastTumorSegLib.kinetics.vqvae import VqVaeClusterer
from BreastTumorSegLib.phantom.simulate import SimulatedExam, simulate_exam
from BreastTumorSegLib.phantom.sites import SITES, TRAINING_SITES
from BreastTumorSegLib.phantom.tissues import TISSUES

FIRST_SEED = 1_000_000
SPACING_MM = 3.0
EXAMS = 8
"""Exams a site with a malignant lesion, and as many with a benign one."""

SIZES = {"kmeans": (4, 6, 8, 10, 12), "vqvae": (10,)}
VOXELS = {"malignant": 600, "benign": 600, "fibroglandular": 300, "vessel": 150}
"""At most so many of a tissue from an exam, so that gland doesn't make all of the codebook."""
OTHER_VOXELS = 60


def lesion_seeds(site: str, first: int, each: int) -> list[int]:
    """Seeds from `first` on whose exam has a lesion of 12 to 60 mm: `each` malignant, then as many benign."""
    found: dict[str, list[int]] = {"malignant": [], "benign": []}
    seed = first
    while min(map(len, found.values())) < each:
        lesion = simulate_exam(site, seed, spacing=14.0, phases=2).lesion  # coarse: the plan doesn't depend on it
        if lesion and 12 <= lesion.diameter <= 60 and len(found[lesion.tissue]) < each:
            found[lesion.tissue].append(seed)
        seed += 1
    return found["malignant"] + found["benign"]


def simulate_protocol(
    site: str, seed: int, phases: int, first: float, interval: float, noise: float | None = None
) -> SimulatedExam:
    """A site's exam at another protocol: phases, about these seconds, and noise as a share of the gland's signal."""
    own = SITES[site]
    noises = own.noise if noise is None else (noise, noise)
    protocol = replace(own, phases=(phases, phases), first_post=first, interval=interval, noise=noises)
    return simulate_exam(site, seed, spacing=SPACING_MM, protocol=protocol)


def population(exams: int = EXAMS, seed: int = 0) -> np.ndarray:
    """Enhancing curves of simulated exams of all sites, percent enhancement at 0 s and at `GRID`, (T, N).

    Their phases come every 70 s, so that reading them at the grid's seconds changes little; noise, coils and movement
    are each site's own.
    """
    random = np.random.default_rng(seed)
    parts = [
        _curves(simulate_protocol(site, number, 14, 70.0, 70.0), random)
        for site in TRAINING_SITES
        for number in lesion_seeds(site, FIRST_SEED, exams)
    ]
    return np.hstack(parts)


def _curves(exam: SimulatedExam, random: np.random.Generator) -> np.ndarray:
    data = exam.data.numpy()
    where = (exam.breast.numpy() > 0) & enhancing_voxels(data, exam.times)
    tissues, voxels = exam.tissues.numpy()[where], data[:, where]
    chosen = np.concatenate(list(_chosen(tissues, random)))
    curves = percent_enhancement(voxels[0, chosen], voxels[:, chosen], floor=0.0)
    known = read_at(np.r_[0.0, GRID], np.array(exam.contrast_seconds), curves.T).T
    return known[:, known.max(axis=0) >= ENHANCING_PE]


def _chosen(tissues: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    for name, tissue in TISSUES.items():
        members = np.flatnonzero(tissues == tissue.label)
        yield random.choice(members, min(len(members), VOXELS.get(name, OTHER_VOXELS)), replace=False)


def learn(curves: np.ndarray) -> dict[str, np.ndarray]:
    """Every codebook's arrays, named METHOD.K.NAME, float32."""
    knots, arrays = np.r_[0.0, GRID], {}
    for k in SIZES["kmeans"]:
        arrays[f"kmeans.{k}.curves"] = KMeansClusterer().fit(curves, knots, k).curves
    for k in SIZES["vqvae"]:
        learned = VqVaeClusterer(drop_phases=True).fit(curves, knots, k)
        arrays |= {f"vqvae.{k}.{name}": value for name, value in learned.weights.items()}
        arrays[f"vqvae.{k}.curves"] = learned.curves
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def write(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Write weights and description into `folder`/tic-codebooks."""
    content = save(arrays)
    description = {
        "name": CODEBOOKS,
        "version": "1",
        "sha256": hashlib.sha256(content).hexdigest(),
        "sizes": SIZES,
        "grid_s": GRID.tolist(),
        "trained_on": f"simulated exams only: {2 * EXAMS} of each site from seed {FIRST_SEED} on",
    }
    place = folder / CODEBOOKS
    place.mkdir(parents=True, exist_ok=True)
    (place / "weights.safetensors").write_bytes(content)
    (place / "model.json").write_text(json.dumps(description, indent=2) + "\n", encoding="ascii")


def main() -> None:
    """Simulate, learn, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="The folder of model bundles.")
    write(learn(population()), parser.parse_args().folder)


if __name__ == "__main__":
    main()
