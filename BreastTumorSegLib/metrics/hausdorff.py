"""A percentile of the distances between two surfaces, found without measuring most of them.

The distance of one voxel bounds those of its neighbours: from below by itself less how far they are from it, from above
by how far they are from the same nearest point. A percentile is a matter of rank, and a voxel whose bounds are on one
side of it needs nothing else. So one voxel of each large cube is measured, then one of each small cube of those that
are still in question, then as many as are over the percentile, those with the highest bounds, then the rest. Where most
voxels are near the other surface, they are looked up instead, from the nearest to the percentile's rank. The answer is
that of measuring all.
"""

from __future__ import annotations

import numpy as np

from BreastTumorSegLib.metrics.nearest import Surface, lengths, side_by_side

LARGE, SMALL = 12, 4
"""Edges of the cubes, in voxels, of which one voxel is measured."""

SOME, MOST = 50, 0.8
"""One voxel of so many tells whether most are near; that decides on the way, not on the answer."""


def hausdorff_percentile(a: Surface, b: Surface, percent: float) -> float:
    """The larger of the percentiles of the distances from `a` to `b` and from `b` to `a`, neither of them empty."""
    both = _Directed(a, b, percent), _Directed(b, a, percent)
    for step in (
        _Directed.look_up,
        lambda directed: directed.measure_cubes(LARGE),
        lambda directed: directed.measure_cubes(SMALL),
        _Directed.measure_highest,
        _Directed.measure_rest,
    ):
        side_by_side(step, both)
        _leave_smaller(both)
    return max(directed.percentile for directed in both)


class _Directed:
    """What is known of the distances from one surface to the other, and of their percentile.

    The percentile lies between the two distances at the ranks below and above it.

    Attributes:
        open: Indices of the voxels that are still in question.
        low: Lower bounds of their distances.
        high: Upper bounds.
        least: Lower bound of the distance at the rank below the percentile; it itself once nothing is in question.
        most: Upper bound of the distance at the rank above, likewise.
    """

    def __init__(self, here: Surface, there: Surface, percent: float) -> None:
        self._here, self._there = here, there
        self._last = len(here) - 1
        self._rank, self._share = divmod(percent / 100 * self._last, 1)
        self._below = 0
        self.open = np.arange(len(here))
        self.low, self.high = np.zeros(len(here)), np.full(len(here), np.inf)
        self.least, self.most = 0.0, np.inf

    @property
    def percentile(self) -> float:
        """As `numpy.percentile`, once nothing is in question."""
        return float(self.least + self._share * (self.most - self.least))

    def measure_cubes(self, edge: int) -> None:
        """Measure one voxel of each cube that holds any in question, and bound the others by it."""
        if not len(self.open):
            return
        points = self._here.points[self.open]
        of_cube = _one_of_each(self._here.places[self.open] // edge)
        chosen = np.flatnonzero(of_cube == np.arange(len(of_cube)))
        nearest = np.empty_like(points)
        nearest[chosen] = self._there.nearest(points[chosen])
        nearest, centres = nearest[of_cube], points[of_cube]
        self._bound(lengths(centres - nearest) - lengths(points - centres), lengths(points - nearest))

    def measure_highest(self) -> None:
        """Measure as many voxels in question as are not below the percentile, those with the highest upper bounds."""
        self._measure(np.argsort(self.high)[max(int(self._rank) - self._below, 0) :])

    def measure_rest(self) -> None:
        """Measure all voxels in question."""
        self._measure(np.arange(len(self.open)))

    def look_up(self) -> None:
        """If most voxels are near, look up as many as the percentile's rank needs, and measure the rest."""
        where = self._here.where
        some = self._there.look_up(where[::SOME])[0]
        if np.isfinite(some).mean() < MOST:
            return
        distances, passed = self._there.look_up(where, self._last - int(self._rank) - 1)
        self._bound(np.where(np.isfinite(distances), distances, passed), distances)
        # They are few and not much farther, so that one tells little of another.
        self.measure_rest()

    def _measure(self, chosen: np.ndarray) -> None:
        if not len(chosen):
            return
        points = self._here.points[self.open[chosen]]
        low, high = self.low.copy(), self.high.copy()
        low[chosen] = high[chosen] = lengths(points - self._there.nearest(points))
        self._bound(low, high)

    def _bound(self, low: np.ndarray, high: np.ndarray) -> None:
        """Add bounds of the distances in question, and leave those that are on one side of the percentile."""
        low, high = np.maximum(self.low, low), np.minimum(self.high, high)
        rank, next_rank = (int(min(rank, self._last)) - self._below for rank in (self._rank, self._rank + 1))
        # What has been left on either side is beyond the bounds so far, so they hold for ranks outside of the rest.
        ranked = _at_rank(low, rank), _at_rank(high, next_rank)
        self.least, self.most = np.clip(ranked, self.least, self.most)
        self._below += int(np.count_nonzero(high <= self.least))
        kept = (high > self.least) & (low < self.most)
        self.open, self.low, self.high = self.open[kept], low[kept], high[kept]

    def leave(self) -> None:
        """Leave all voxels: the percentile isn't asked for, and is from now on what it is at least."""
        self.open, self.low, self.high = self.open[:0], self.low[:0], self.high[:0]
        self.most = self.least


def _leave_smaller(both: tuple[_Directed, _Directed]) -> None:
    """Leave a direction whose percentile can't be the larger one."""
    for directed, other in (both, both[::-1]):
        if directed.most <= other.least:
            directed.leave()


def _at_rank(values: np.ndarray, rank: int) -> float:
    if rank < 0:
        return -np.inf
    return np.partition(values, rank)[rank] if rank < len(values) else np.inf


def _one_of_each(places: np.ndarray) -> np.ndarray:
    """For each row of (N, 3) the index of a row that is the same, one for all that are."""
    z, y, x = places.max(axis=0) + 1
    code = (places[:, 0] * y + places[:, 1]) * x + places[:, 2]
    one = np.empty(z * y * x, np.intp)
    one[code] = np.arange(len(code))
    return one[code]
