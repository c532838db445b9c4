"""What a scanner does to the body's signal: coil shading, fat suppression, noise, ghosts, motion and clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.phantom.anatomy import Anatomy, Body
from BreastTumorSegLib.phantom.grid import Field, Grid, shifted
from BreastTumorSegLib.phantom.sites import Site
from BreastTumorSegLib.phantom.tissues import TISSUES, Canvas
from BreastTumorSegLib.phantom.tofts import Sequence, tofts_concentration

# Images are scaled so that gland before contrast is around this value, like the integers that scanners write.
GLAND_LEVEL = 200.0

Shift = tuple[float, float]
"""Along y and x, mm."""


@dataclass(frozen=True)
class Scanner:
    """The state of the scanner during one exam.

    Attributes:
        fat_signal: Share of fat's signal that suppression leaves.
        suppression_failure: 0 none; 1 fat fully bright in places.
        shading: 0 even; 1 the signal at the chest wall is about a third of that at the coil.
        noise: Standard deviation of the noise, as a share of the gland's signal.
        ghosts: Amplitude of the heart's ghosts along the phase-encoding direction.
        phase_axis: Array axis of that direction: 2, left to right, in axial and 1, front to back, in sagittal exams.
        motion: Standard deviation of the movement between phases, voxels.
        gain: Largest relative change of the receiver's gain between pre- and post-contrast phases; negative where it
            falls.
        clip: Whether a biopsy clip lies in the breast.
        displacement: Standard deviation of a shift of each post-contrast phase along y and x, mm.
    """

    fat_signal: float
    suppression_failure: float
    shading: float
    noise: float
    ghosts: float
    phase_axis: int
    motion: float
    gain: float
    clip: bool
    displacement: float = 0.0

    def shifts(self, phases: int, random: np.random.Generator) -> tuple[Shift, ...]:
        """How far the patient has moved by each phase; not at all by the first one."""
        if not self.displacement:
            return ((0.0, 0.0),) * phases
        later = random.normal(0, self.displacement, (phases - 1, 2))
        return ((0.0, 0.0), *((float(y), float(x)) for y, x in later))

    @classmethod
    def draw(cls, random: np.random.Generator, site: Site) -> Scanner:
        """A random scanner of a site."""
        return cls(
            fat_signal=random.uniform(0.08, 0.35),
            suppression_failure=random.uniform(0.4, 1.0) if random.random() < 0.15 else random.uniform(0, 0.15),
            shading=random.uniform(0.2, 1.0),
            noise=random.uniform(*site.noise),
            ghosts=random.uniform(0, 0.08),
            phase_axis=2 if site.plane == "axial" else 1,
            motion=random.uniform(0.4, 0.9) if random.random() < 0.15 else random.uniform(0, 0.25),
            gain=random.uniform(0.02, 0.4) if random.random() < 0.3 else random.uniform(0, 0.05),
            clip=random.random() < 0.08,
        )


def acquire(
    scanner: Scanner,
    sequence: Sequence,
    anatomy: Anatomy,
    body: Body,
    seconds: tuple[float, ...],
    shifts: tuple[Shift, ...],
    random: np.random.Generator,
) -> Tensor:
    """The phases as a scanner would give them, (T, Z, Y, X) float32, never negative.

    Args:
        seconds: Time of each phase after the injection; the first is at most 0.
        shifts: How far the patient has moved by each phase.
    """
    grid = anatomy.canvas.grid
    if scanner.clip:
        _cut_clip(anatomy, random)
    data = torch.empty((len(seconds), *grid.shape), device=grid.x.device)
    state, noise_seed = random.bit_generator.state, int(random.integers(2**62))
    for z in grid.slabs():
        random.bit_generator.state = state  # the same scanner in every slab
        halo = slice(max(z.start - 1, 0), z.stop + 1)  # motion needs the neighbouring slices
        images = _signals(scanner, sequence, anatomy.slab(halo), body, seconds, shifts, random)
        for phase, image in enumerate(images):
            inner = image[z.start - halo.start :][: z.stop - z.start]
            data[phase, z] = _rician(inner, scanner.noise * GLAND_LEVEL, [noise_seed, phase, z.start])
    return data


def _signals(
    scanner: Scanner,
    sequence: Sequence,
    anatomy: Anatomy,
    body: Body,
    seconds: tuple[float, ...],
    shifts: tuple[Shift, ...],
    random: np.random.Generator,
) -> Iterator[Tensor]:
    """Each phase without noise. Draws the same numbers whatever the slices hold."""
    canvas, grid = anatomy.canvas, anatomy.canvas.grid
    fat_factor = _fat_factor(scanner, grid, random)
    m0 = canvas.m0 * (1 - canvas.fat * (1 - fat_factor)) * _texture(grid, random)
    coil = _coil(scanner, body, grid, random)
    scale = GLAND_LEVEL / float(sequence.signal(torch.tensor(0.85), torch.tensor(1.2)))
    drift = 1 + scanner.gain * torch.sigmoid(1.5 * Field(random, grid, 120.0).on(grid))
    kep = canvas.ktrans / canvas.ve
    for phase, (time, shift) in enumerate(zip(seconds, shifts, strict=True)):
        concentration = tofts_concentration(canvas.ktrans, kep, canvas.vp, time)
        image = sequence.signal(m0, canvas.t1, concentration).mul_(coil).mul_(scale)
        image += _ghosts(scanner, canvas, image, random)
        yield _moved(displaced(image * drift, grid, shift), grid, scanner.motion, random) if phase else image


def _texture(grid: Grid, random: np.random.Generator) -> Tensor:
    """Small-scale variation of the proton density."""
    fine = Field(random, grid, max(1.6, 1.5 * min(grid.spacing))).on(grid)
    return (1 + 0.05 * fine + 0.05 * Field(random, grid, 8.0).on(grid)).clamp_min(0.3)


def _fat_factor(scanner: Scanner, grid: Grid, random: np.random.Generator) -> Tensor:
    """Share of fat's signal that is left, (Z, Y, X); failure comes in large patches."""
    patches = torch.sigmoid(4 * (Field(random, grid, 90.0).on(grid) - 0.5))
    return (scanner.fat_signal + (1 - scanner.fat_signal) * scanner.suppression_failure * patches).clamp(0, 1)


def _coil(scanner: Scanner, body: Body, grid: Grid, random: np.random.Generator) -> Tensor:
    """Receive sensitivity of a breast coil: elements to the side of, between and in front of the breasts."""
    z, y, x = grid.coordinates
    total = torch.full(grid.shape, 0.25, device=grid.x.device)
    for breast in body.breasts:
        for dx in (-1.15, 1.15):
            ex = breast.centre[0] + dx * breast.radius[0]
            ez, ey = random.uniform(-30, 30), -random.uniform(0.2, 0.8) * breast.projection
            squared = (x - ex) ** 2 + (y - ey) ** 2 + ((z - ez) / 1.5) ** 2
            total = total + random.uniform(0.5, 1.1) / (1 + squared / random.uniform(35, 60) ** 2)
    bias = torch.exp(0.12 * Field(random, grid, 110.0).on(grid))
    return torch.lerp(torch.ones_like(total), total, scanner.shading) * bias


def _cut_clip(anatomy: Anatomy, random: np.random.Generator) -> None:
    """The void of a metal clip with a bright rim, somewhere in the breast."""
    grid = anatomy.canvas.grid
    inside = torch.nonzero((anatomy.breast > 0) & (anatomy.depth > 8))
    if len(inside) == 0:
        return
    index = inside[int(random.integers(len(inside)))].tolist()
    centre = tuple(float(axis[i]) for axis, i in zip((grid.z, grid.y, grid.x), index, strict=True))
    spot = grid.around(centre, 14.0)
    if spot is not None:
        where, local = spot
        z, y, x = local.coordinates
        radius = random.uniform(2.0, 4.5)
        distance = ((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2).sqrt()
        rim = 0.8 * torch.exp(-((distance - radius - 1) ** 2)) * (y > centre[1])
        anatomy.canvas.m0[where] *= ((distance - radius) / 1.5 + 0.5).clamp(0, 1) + rim


def _ghosts(scanner: Scanner, canvas: Canvas, image: Tensor, random: np.random.Generator) -> Tensor:
    """Copies of the beating heart along the phase-encoding axis, and its flicker in the chest."""
    heart = canvas.label == TISSUES["heart"].label
    width = image.shape[scanner.phase_axis]
    ghost = torch.zeros_like(image)
    for copy in (1, 2):
        shift = int(width * copy / random.uniform(3.5, 7.0))
        for sign in (-1, 1):
            ghost += scanner.ghosts / copy * torch.roll(image * heart, sign * shift, dims=scanner.phase_axis)
    flicker = Field(random, canvas.grid, (4.0, 4.0, 12.0)).on(canvas.grid).abs()
    chest = heart | (canvas.label == TISSUES["lung"].label)
    return ghost + 4 * scanner.ghosts * GLAND_LEVEL * flicker * chest


def displaced(volume: Tensor, grid: Grid, shift: Shift) -> Tensor:
    """A volume (Z, Y, X) moved by whole voxels along y and x; what comes in at an edge is that edge."""
    for dim, step, way in zip((1, 2), grid.spacing[1:], shift, strict=True):
        size, by = volume.shape[dim], round(way / step)
        if by:
            places = (torch.arange(size, device=volume.device) - by).clamp(0, size - 1)
            volume = volume.index_select(dim, places)
    return volume


def _moved(image: Tensor, grid: Grid, motion: float, random: np.random.Generator) -> Tensor:
    """The image after a smooth movement of less than a voxel: each voxel blends with its neighbours along each axis."""
    for dim in range(3):
        amount = (random.normal(0, motion) + 0.5 * motion * Field(random, grid, 60.0).on(grid)).clamp(-1, 1)
        following, previous = shifted(image, 1, dim), shifted(image, -1, dim)
        image = image + amount.clamp_min(0) * (following - image) + (-amount).clamp_min(0) * (previous - image)
    return image


def _rician(image: Tensor, sigma: float, seed: list[int]) -> Tensor:
    """Magnitude of the signal with complex Gaussian noise."""
    number = int(np.random.default_rng(seed).integers(2**62))
    generator = torch.Generator(device=image.device).manual_seed(number)
    real = sigma * torch.randn(image.shape, generator=generator, device=image.device)
    imaginary = sigma * torch.randn(image.shape, generator=generator, device=image.device)
    return torch.hypot(real.add_(image), imaginary)
