"""A generator of breast anatomy: prone breasts, gland, skin, chest wall and the organs behind it.

Space is LPS in millimetres with the origin on the skin over the sternum: x to the patient's left, y to the back, z to
the head. The breasts hang towards negative y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from BreastTumorSegLib.core.result import LEFT, RIGHT
from BreastTumorSegLib.phantom.grid import Field, Grid
from BreastTumorSegLib.phantom.tissues import Canvas

# The breast ends this far behind the skin over the sternum, as in the masks of the Duke collection.
LATERAL_CUT_MM = 40.0

IMPLANT_DEPTH_MM = 4.0
"""An implant lies about so far behind the skin at least: there are fat and capsule around it."""


@dataclass(frozen=True)
class Breast:
    """One breast: a superellipsoid that hangs from the chest wall.

    Attributes:
        side: -1 right, 1 left.
        radius: Of its base along x and z, mm.
        projection: From the chest wall to the nipple, mm.
        cone: Exponent of the profile; 1.3 is conical, 3 is domed.
        centre: x and z of the base's centre, mm.
        drift: How far the nipple lies from the centre along x and z, mm.
    """

    side: int
    radius: tuple[float, float]
    projection: float
    cone: float
    centre: tuple[float, float]
    drift: tuple[float, float]

    def inside(self, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Approximate depth below the surface in mm; negative outside."""
        along = (-y / self.projection).clamp(-1.0, 2.0)
        dx = (x - self.centre[0] - self.drift[0] * along) / self.radius[0]
        dz = (z - self.centre[1] - self.drift[1] * along) / self.radius[1]
        across = (dx**2 + dz**2 + 1e-6).sqrt()
        # Behind the chest wall the shape closes at once, or it would stick out of the patient's back.
        level = across**2 + along.clamp_min(0) ** self.cone + (4 * (-along - 0.3).clamp_min(0)) ** 2
        steepness = (
            (2 * across / min(self.radius)) ** 2
            + (self.cone * along.clamp_min(1e-3) ** (self.cone - 1) / self.projection) ** 2
        ).sqrt()
        return (1 - level) / steepness.clamp_min(1 / self.projection)

    @property
    def nipple(self) -> tuple[float, float, float]:
        """Position of the nipple, (z, y, x)."""
        return (self.centre[1] + self.drift[1], -self.projection, self.centre[0] + self.drift[0])


@dataclass(frozen=True)
class Body:
    """Everything about one patient that is drawn once.

    Attributes:
        breasts: One or two.
        half_width, half_depth: Of the torso, mm.
        fat: Of the layer between skin and muscle, mm.
        muscle: Thickness of the pectoral muscle, mm.
        skin: Thickness, mm.
        density: -1 fatty to 1 dense.
        enhancement: Factor on the gland's uptake, for background enhancement from minimal to marked.
        implant: Whether implants lie behind the gland.
        fillet: Radius of the fold where a breast meets the chest, mm.
        heart: Its centre, (z, y, x).
        liver_top: z of the top of the liver's dome.
        warp: How far everything is bent along (z, y, x), mm.
        shoulders: Whether upper arms, the muscles in front of the armpits, and the vessels in them are there.
    """

    breasts: tuple[Breast, ...]
    half_width: float
    half_depth: float
    fat: float
    muscle: float
    skin: float
    density: float
    enhancement: float
    implant: bool
    fillet: float
    heart: tuple[float, float, float]
    liver_top: float
    warp: tuple[float, float, float] = (5.0, 4.0, 5.0)
    shoulders: bool = False


def draw_body(random: np.random.Generator) -> Body:
    """A random patient."""
    size = float(np.clip(random.lognormal(0.05, 0.3), 0.45, 1.7))
    drift = (random.uniform(-4, 10), random.uniform(-25, 2))
    breasts = tuple(_draw_breast(random, side, size, drift) for side in (-1, 1))
    if random.random() < 0.05:  # after a mastectomy
        breasts = (breasts[int(random.integers(2))],)
    return Body(
        breasts=breasts,
        half_width=random.uniform(145, 190),
        half_depth=random.uniform(95, 130),
        fat=random.uniform(5, 18),
        muscle=random.uniform(6, 18),
        skin=random.uniform(1.3, 2.8),
        density=random.uniform(-1, 1),
        enhancement=float(np.exp(random.uniform(np.log(0.15), np.log(1.3)))),
        implant=random.random() < 0.06,
        fillet=random.uniform(5, 18),
        heart=(random.uniform(-35, 5), random.uniform(62, 78), random.uniform(15, 35)),
        liver_top=random.uniform(-75, -25),
    )


def _draw_breast(random: np.random.Generator, side: int, size: float, drift: tuple[float, float]) -> Breast:
    radius = 60 * size**0.5 * random.uniform(0.9, 1.12)
    across = min(radius * random.uniform(0.95, 1.1), 74)
    return Breast(
        side=side,
        radius=(across, radius * random.uniform(1.0, 1.3)),
        projection=float(np.clip(78 * size * random.uniform(0.85, 1.15), 18, 125)),
        cone=random.uniform(1.4, 3.2),
        centre=(side * (across + random.uniform(4, 22)), random.uniform(-8, 8)),
        drift=(side * drift[0], drift[1]),
    )


@dataclass(frozen=True)
class Anatomy:
    """A painted patient.

    Attributes:
        canvas: Tissue maps.
        breast: uint8 (Z, Y, X), 1 right, 2 left: all tissue in front of the muscle.
        depth: Millimetres below the skin, (Z, Y, X); negative outside.
        gland: Share of gland in a voxel before lesions, (Z, Y, X).
    """

    canvas: Canvas
    breast: Tensor
    depth: Tensor
    gland: Tensor

    def slab(self, z: slice) -> Anatomy:
        """A view of the slices `z`."""
        return Anatomy(self.canvas.slab(z), self.breast[z], self.depth[z], self.gland[z])


def paint_anatomy(body: Body, grid: Grid, random: np.random.Generator, spread: float = 0.0) -> Anatomy:
    """Paint a patient on a grid. Same `body` and `random` state, same patient at any resolution.

    `spread` is extra variation of the tissues, see `tissues.draw`.
    """
    canvas = Canvas(grid, random, spread)
    breast = torch.zeros(grid.shape, dtype=torch.uint8, device=grid.x.device)
    depth, gland = (torch.zeros(grid.shape, device=grid.x.device) for _ in range(2))
    state = random.bit_generator.state
    for z in grid.slabs():
        random.bit_generator.state = state  # the same patient in every slab
        breast[z], depth[z], gland[z] = _paint_slab(body, canvas.slab(z), random)
    return Anatomy(canvas, breast, depth, gland)


def _paint_slab(body: Body, canvas: Canvas, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Paint some slices; returns their breast labels, depth below the skin, and share of gland.

    Draws the same numbers whatever the slices hold.
    """
    grid = canvas.grid
    voxel = min(grid.spacing)
    z, y, x = _warped(body, grid, random)
    torso = _torso_depth(body, z, y, x)
    arms = _arms(body, (z, y, x)) if body.shoulders else None
    depth = torso if arms is None else _smooth_union(torso, arms, 12.0)
    for breast in body.breasts:
        depth = _smooth_union(depth, breast.inside(z, y, x), body.fillet)
    front = y < LATERAL_CUT_MM
    muscle_depth = body.fat * (1 + 0.25 * Field(random, grid, 45.0).on(grid)).clamp(0.4, 1.8)
    wall = step(torso - muscle_depth, voxel)
    if arms is not None:
        wall = torch.maximum(wall, _armpit_muscles(body, arms, muscle_depth, (z, y, x), voxel))

    canvas.paint("fat", step(depth, voxel))
    gland = _paint_gland(body, canvas, random, depth, torso - muscle_depth, (z, y, x))
    canvas.paint("skin", step(depth, voxel) * (1 - step(depth - body.skin, voxel)))
    _paint_nipples(body, canvas)
    if body.implant:
        _paint_implants(body, canvas, depth, torso - muscle_depth, (z, y, x))
    _paint_breast_vessels(canvas, random, depth, wall)
    canvas.paint("muscle", wall * step(depth - body.skin, voxel))
    if body.shoulders:
        _paint_armpit_vessels(canvas, random, torso, (z, y, x))
    _paint_chest(body, canvas, random, torso - muscle_depth - body.muscle, (z, y, x))
    _paint_nodes(canvas, random, depth)

    mask = (depth > 0) & (wall <= 0.5) & front
    if arms is not None:
        mask &= arms <= 0
    breast_label = torch.where(x < 0, RIGHT, LEFT).to(torch.uint8) * mask
    return breast_label, depth, gland * (wall <= 0.5)


def step(distance: Tensor, width: float) -> Tensor:
    """Share of a voxel behind a surface `distance` mm in front of its centre."""
    return (distance / width + 0.5).clamp(0, 1)


def _smooth_union(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Union of two bodies given by their depth, with a fillet of about `radius` mm."""
    blend = (0.5 + 0.5 * (a - b) / radius).clamp(0, 1)
    return torch.lerp(b, a, blend) + radius * blend * (1 - blend)


def _warped(body: Body, grid: Grid, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (z, y, x) bent by some millimetres, so that nothing is a perfect ellipse."""
    fields = [Field(random, grid, 70.0), Field(random, grid, 55.0), Field(random, grid, 70.0)]
    z, y, x = grid.coordinates
    bent = zip((z, y, x), fields, body.warp, strict=True)
    return tuple(axis + 0.6 * amount * bend.on(grid) for axis, bend, amount in bent)  # type: ignore[return-value]


def _torso_depth(body: Body, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Depth below the skin of the chest without breasts, mm; a superellipse that narrows towards the neck."""
    width = body.half_width * (1 - 0.12 * ((z - 60) / 100).clamp(0, 1.5) ** 2)
    sternum = 6.0 * torch.exp(-((x / 22) ** 2))  # a shallow groove between the breasts
    dx, dy = x.abs() / width, (y - sternum - body.half_depth) / body.half_depth
    radius = (dx**2.6 + dy.abs() ** 2.6 + 1e-6) ** (1 / 2.6)
    return (1 - radius) * body.half_depth


def _arms(body: Body, zyx: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Depth below the skin of the shoulders with raised arms, mm; they meet the chest above the breasts."""
    sides = [
        _ellipsoid(zyx, (115.0, 0.45 * body.half_depth, side * 0.95 * body.half_width), (60.0, 52.0, 48.0))
        for side in (-1, 1)
    ]
    return torch.maximum(*sides)


def _armpit_muscles(body: Body, arms: Tensor, fat: Tensor, zyx: tuple[Tensor, Tensor, Tensor], voxel: float) -> Tensor:
    """Share of a voxel that is muscle of the arms, or the pectoral fold that runs to them from the chest."""
    z, y, x = zyx
    # A band that comes off the chest's front, the further up the more to the side.
    centre = 0.5 * body.half_width + 0.55 * z.clamp(-20, 90)
    fold = 1 - (((x.abs() - centre) / 34) ** 2 + ((y - 30) / (10 + 0.6 * body.muscle)) ** 2 + 1e-6).sqrt()
    fold = torch.minimum(10 * fold, 0.5 * (z - 12))
    return torch.maximum(step(arms - fat, voxel), step(fold, voxel))


def _paint_armpit_vessels(
    canvas: Canvas, random: np.random.Generator, depth: Tensor, zyx: tuple[Tensor, Tensor, Tensor]
) -> None:
    """A bundle of winding vessels on either side, which enhances and lies in front of no chest wall."""
    z, y, x = zyx
    distance = _tubes(random, canvas.grid, 20.0)
    armpit = torch.minimum(x.abs() - 88, torch.minimum(z - 25, 60 - (y - 45).abs()))
    canvas.paint("vessel", step(1.8 - distance, 1.5) * step(armpit, 8.0) * step(depth - 4.0, 1.0))


def _paint_gland(
    body: Body,
    canvas: Canvas,
    random: np.random.Generator,
    depth: Tensor,
    behind: Tensor,
    zyx: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Fibroglandular tissue: lobes and strands that thin out from the nipple's axis; returns its share of a voxel."""
    grid = canvas.grid
    lobes = Field(random, grid, 16.0).on(grid) + 0.6 * Field(random, grid, 7.0).on(grid)
    fine = Field(random, grid, (3.2, 4.5, 3.2)).on(grid)
    core = torch.full_like(depth, -3.0)
    for breast in body.breasts:
        core = torch.maximum(core, _gland_core(breast, *zyx))
    level = 2.2 * core + 1.5 * body.density - 0.9 + 0.9 * lobes + 0.5 * fine
    solid = torch.sigmoid(5.0 * level)
    # Cooper's ligaments: thin sheets where a smooth field crosses zero, all through the fat.
    sheets = torch.maximum(torch.exp(-((lobes / 0.14) ** 2)), torch.exp(-((fine / 0.12) ** 2)))
    strands = random.uniform(0.2, 0.6) * sheets * (core > -1.8)
    room = step(depth - 2.5 * body.skin - 1.5, 2.0) * step(-behind - 3.0, 3.0)
    share = (torch.maximum(solid, strands) * room).clamp(0, 1)
    patches = torch.exp(0.45 * Field(random, grid, random.uniform(35, 70)).on(grid) + 0.25 * lobes)
    canvas.paint("fibroglandular", share, uptake=body.enhancement * patches)
    return share


def _gland_core(breast: Breast, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """1 on the axis of a breast, falling to 0 at about half of its width, negative outside."""
    along = (-y / breast.projection).clamp(-0.6, 1.3)
    dx = (x - breast.centre[0] - breast.drift[0] * along) / breast.radius[0]
    dz = (z - breast.centre[1] - breast.drift[1] * along - 5) / breast.radius[1]
    taper = 0.75 - 0.3 * along.clamp(0, 1)
    return 1 - ((dx**2 + dz**2).sqrt() / taper) ** 1.5 - 2.0 * (0.15 - along).clamp_min(0)


def _paint_nipples(body: Body, canvas: Canvas) -> None:
    for breast in body.breasts:
        spot = canvas.grid.around(breast.nipple, 16.0)
        if spot is None:
            continue
        where, local = spot
        z, y, x = local.coordinates
        nz, ny, nx = breast.nipple
        distance = (((z - nz) ** 2 + (x - nx) ** 2) / 5.0**2 + ((y - ny) / 7.0) ** 2).sqrt()
        canvas.paint("nipple", step((1 - distance) * 5.0, min(local.spacing)), where)


def _paint_implants(
    body: Body, canvas: Canvas, depth: Tensor, behind: Tensor, zyx: tuple[Tensor, Tensor, Tensor]
) -> None:
    z, y, x = zyx
    room = step(depth - body.skin - IMPLANT_DEPTH_MM, 1.0) * step(-behind - 2.0, 1.0)
    for breast in body.breasts:
        reach = 0.68 * breast.projection
        along = -(y + 0.42 * breast.projection) / (0.62 * reach)
        dx, dz = (x - breast.centre[0]) / breast.radius[0], (z - breast.centre[1]) / breast.radius[1]
        level = 1 - (along**2 + (dx / 0.72) ** 2 + (dz / 0.72) ** 2).clamp_min(1e-6).sqrt()
        canvas.paint("implant", step(level * 25, 1.0) * room)


def _tubes(random: np.random.Generator, grid: Grid, wavelength: float) -> Tensor:
    """Distance in mm to winding lines: where two smooth fields are both zero."""
    first, second = (Field(random, grid, wavelength).on(grid) for _ in range(2))
    # The mean slope of such a field is about 1.3 standard deviations a wavelength.
    return (first**2 + second**2).sqrt() * wavelength / 1.3


def _paint_breast_vessels(canvas: Canvas, random: np.random.Generator, depth: Tensor, wall: Tensor) -> None:
    grid = canvas.grid
    thickness = 1 + 0.5 * Field(random, grid, 40.0).on(grid)
    voxel = min(grid.spacing)
    for wavelength, radius in ((44.0, random.uniform(0.8, 1.7)), (24.0, random.uniform(0.4, 1.0))):
        distance = _tubes(random, grid, wavelength)
        share = step(radius * thickness - distance, max(voxel, 1.0)) * step(depth - 3.0, 1.0) * (1 - wall)
        canvas.paint("vessel", share)


def _paint_chest(
    body: Body, canvas: Canvas, random: np.random.Generator, inner: Tensor, zyx: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Ribs and sternum, lung, heart, liver, spine and great vessels; `inner` is the depth below the pectoral muscle."""
    z, y, x = zyx
    grid = canvas.grid
    noise = Field(random, grid, 12.0).on(grid)
    _paint_wall(canvas, random, inner, zyx)
    lung = step(inner - 16.0, 2.0)
    canvas.paint("lung", lung, uptake=(1 + 0.5 * noise).clamp_min(0.1))
    canvas.paint("vessel", lung * step(0.8 * (1 + noise) - _tubes(random, grid, 18.0), 1.5))
    mediastinum = _ellipsoid(zyx, (0.0, 95.0, 3.0), (400.0, 60.0, 32.0))
    canvas.paint("fat", 0.8 * step(mediastinum, 3.0) * lung)
    cz, cy, cx = body.heart
    heart = _ellipsoid(zyx, (cz, cy + 12, cx), (58.0, 46.0, 56.0))
    canvas.paint("heart", step(heart, 2.0) * lung, uptake=(0.75 + 0.25 * noise).clamp(0.2, 1.3))
    dome = body.liver_top - z - ((x + 60) ** 2 + (y - 110) ** 2) / 320.0 + 5.0 * noise
    canvas.paint("liver", step(dome, 2.0) * lung, uptake=(1 + 0.15 * noise).clamp_min(0.3))
    spine = _ellipsoid(zyx, (0.0, 2 * body.half_depth - 55, 0.0), (400.0, 30.0, 30.0))
    canvas.paint("bone", step(spine, 2.0) * lung)
    for px, py, radius in ((18.0, 2 * body.half_depth - 85, 11.0), (-24.0, 55.0, 9.0)):
        aorta = _ellipsoid(zyx, (100.0 if px < 0 else 0.0, py, px), (75.0 if px < 0 else 400.0, radius, radius))
        canvas.paint("vessel", step(aorta, 1.5) * lung)


def _paint_wall(canvas: Canvas, random: np.random.Generator, inner: Tensor, zyx: tuple[Tensor, Tensor, Tensor]) -> None:
    """Ribs, sternum, and the mammary vessels beside it."""
    z, _, x = zyx
    layer = step(inner, 2.0) * (1 - step(inner - 12.0, 2.0))
    slope = 0.25 * x.abs()
    pitch = random.uniform(22, 30)
    ribs = torch.cos(2 * np.pi * (z + slope) / pitch) - 0.1
    canvas.paint("bone", layer * step(6.0 * ribs, 2.0))
    canvas.paint("bone", layer * step(17.0 - x.abs(), 2.0))
    for side in (-1, 1):
        distance = ((x - side * 29) ** 2 + (inner - 9) ** 2).sqrt()
        canvas.paint("vessel", step(random.uniform(0.8, 1.8) - distance, 1.0))


def _ellipsoid(zyx: tuple[Tensor, Tensor, Tensor], centre: tuple[float, ...], radii: tuple[float, ...]) -> Tensor:
    """Depth below the surface of an ellipsoid, roughly in mm."""
    terms = [((axis - c) / r) ** 2 for axis, c, r in zip(zyx, centre, radii, strict=True)]
    return (1 - (terms[0] + terms[1] + terms[2] + 1e-6).sqrt()) * min(radii)


def _paint_nodes(canvas: Canvas, random: np.random.Generator, depth: Tensor) -> None:
    """Axillary nodes on both sides, and now and then one inside a breast; each with a fatty hilum."""
    places = [
        (random.uniform(45, 95), random.uniform(20, 65), side * random.uniform(105, 140), random.uniform(3, 8))
        for side in (-1, 1)
        for _ in range(int(random.integers(1, 5)))
    ]
    if random.random() < 0.15:
        side = random.choice([-1, 1])
        places.append((random.uniform(0, 35), random.uniform(-30, 0), side * random.uniform(70, 110), 3.0))
    for z, y, x, radius in places:
        paint_node(canvas, random, (z, y, x), radius, depth)


def paint_node(
    canvas: Canvas, random: np.random.Generator, centre: tuple[float, float, float], radius: float, depth: Tensor
) -> None:
    """A lymph node with a fatty hilum, where it lies `depth` deep enough below the skin."""
    spot = canvas.grid.around(centre, 2 * radius)
    shape = random.uniform(0.7, 1.3, 3)
    if spot is None:
        return
    where, local = spot
    zyx = local.coordinates
    body = _ellipsoid(zyx, centre, tuple(radius * shape))
    hilum = _ellipsoid(zyx, (centre[0], centre[1] + 0.4 * radius, centre[2]), tuple(0.5 * radius * shape))
    inside = step(depth[where] - 4.0, 1.0)
    canvas.paint("node", step(body, min(local.spacing)) * inside, where)
    canvas.paint("fat", step(hilum, min(local.spacing)) * inside, where)
