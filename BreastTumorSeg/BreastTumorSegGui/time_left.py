"""Estimates how long a job still takes, from how long its stages took before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MIN_ELAPSED_S = 2.0
"""Sooner than this, the speed of the machine can't be told."""


class TimeLeft:
    """Overall progress of a job whose stages take different times.

    Args:
        usual: Seconds that each stage took before, in order; only their ratios matter for the bar.
        clock: Gives seconds.
    """

    def __init__(self, usual: Mapping[str, float], clock: Callable[[], float]) -> None:
        self._usual = dict(usual)
        self._clock = clock
        self._start = clock()
        self._entered: dict[str, float] = {}
        self._told = self._start
        self._stage_end = 0.0
        self.fraction = 0.0

    def update(self, stage: str, fraction: float) -> None:
        """Note that a stage is so far; a stage not known before counts as nothing."""
        self._entered.setdefault(stage, self._clock())
        if stage in self._usual:
            names = list(self._usual)
            before, total = sum(self._usual[name] for name in names[: names.index(stage)]), sum(self._usual.values())
            self.fraction = max(self.fraction, (before + fraction * self._usual[stage]) / total)
            self._stage_end = max(self._stage_end, (before + self._usual[stage]) / total)
            self._told = self._clock()

    @property
    def seconds(self) -> float | None:
        """Estimated seconds left; None where it is too early to say.

        Some stages tell nothing before their end. Until then the job goes on as fast as so far, to the stage's end at
        most, so that the estimate neither grows while nothing is told nor runs out.
        """
        elapsed, told = self._clock() - self._start, self._told - self._start
        if elapsed < MIN_ELAPSED_S or self.fraction <= 0:
            return None
        done = max(self.fraction, min(self.fraction * elapsed / told, self._stage_end)) if told > 0 else self.fraction
        return elapsed * (1 - done) / done

    def measured(self) -> dict[str, float]:
        """Seconds that each stage took, at the end of the job; at least a hundredth, so that none vanishes."""
        names = list(self._entered)
        ends = [*(self._entered[name] for name in names[1:]), self._clock()]
        return {name: max(0.01, end - self._entered[name]) for name, end in zip(names, ends, strict=True)}


def text(seconds: float | None) -> str:
    """Such as "about 40 s left"; "" where it is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    return f"about {round(seconds / 60)} min left"
