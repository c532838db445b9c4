"""A sample of cases for review that shows failures and successes alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from BreastTumorSegLib.review.records import Item

LOWEST, HIGHEST, REST = "lowest", "highest", "rest"
TAIL = 0.1


def stratified_sample(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """A quarter of the sample from the lowest tenth by Dice, a quarter from the highest, half from the rest.

    With a count of 20 that is 5, 5 and 10, the scheme of the cross-dataset study of a 3D residual U-Net (Methodology).
    A stratum that has fewer gives all it has.

    Args:
        items: With their Dice; those without are left out.
        count: Of each model and site.
    """
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        if item.dice is not None:
            groups.setdefault((item.model, item.site), []).append(item)
    chance = random.Random(f"sample/{seed}")
    return [item for key in sorted(groups) for item in _of_group(groups[key], count, chance)]


def _of_group(items: list[Item], count: int, chance: random.Random) -> list[Item]:
    ordered = sorted(items, key=lambda item: (item.dice, item.id))
    tail = min(max(1, round(TAIL * len(ordered))), len(ordered) // 2)
    strata = {
        LOWEST: ordered[:tail],
        HIGHEST: ordered[len(ordered) - tail :],
        REST: ordered[tail : len(ordered) - tail],
    }
    wanted = {LOWEST: count // 4, HIGHEST: count // 4, REST: count - 2 * (count // 4)}
    return [
        replace(item, stratum=name)
        for name, members in strata.items()
        for item in chance.sample(members, min(wanted[name], len(members)))
    ]
