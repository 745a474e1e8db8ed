"""Groups of pictures turned into two parts: those to learn from, and those held out to measure by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bespoke.errors import BespokeError
from bespoke.records import Split
from bespoke.seeds import uniform

MOST = 64
"""More pictures would make every validation slower and its result hardly surer."""
LEAST = 4
"""Wanted at least, but never more than a quarter of the pictures."""


@dataclass(frozen=True)
class Unit:
    """Pictures that must be on one side: one picture, or a group."""

    key: str
    """What its number is drawn from: a picture's pixels, or what the group is called."""
    size: int = 1
    before: Split | None = None
    """The side it was on, under the same settings."""
    asked: Split | None = None
    """The side that a person wants it on."""


def sides(units: Sequence[Unit], fraction: float, seed: int) -> list[Split]:
    """The side of each unit, in the same order.

    What a person asks for is done. What was placed before stays. Each other unit draws a number in [0, 1) from `seed`
    and its key and is held out when that lies below `fraction`. Bounds come on top, in pictures: at least 4 are held
    out, or a quarter of all where that is less, or 1; and at most 64, and at most twice the fraction. To keep them,
    units that were not placed before are taken in the order of their numbers, and those that are too large are left.
    If nothing at all would be held out, the smallest unit is, unless it is more than half of all pictures.

    So adding units changes the side of no other one, unless nothing would be held out otherwise.

    Raises: BespokeError when `fraction` is not in [0, 1).
    """
    if not (math.isfinite(fraction) and 0 <= fraction < 1):
        raise BespokeError(f"The validation fraction must be at least 0 and below 1, not {fraction}.", "Usual: 0.1")
    wanted = [unit.asked or (unit.before if fraction else None) for unit in units]
    held = {number for number, side in enumerate(wanted) if side == "validation"}
    if fraction:
        drawn = sorted((uniform(seed, "validation", unit.key), number) for number, unit in enumerate(units))
        fresh = [(draw, number) for draw, number in drawn if wanted[number] is None]
        held |= _taken(units, fresh, held, fraction)
        held = held or _smallest(units, [number for _, number in drawn])
    return ["validation" if number in held else "train" for number in range(len(units))]


def _taken(units: Sequence[Unit], fresh: Sequence[tuple[float, int]], held: set[int], fraction: float) -> set[int]:
    """The numbers of those new units, in the order in which they were drawn, that are held out beside others."""
    whole = sum(unit.size for unit in units)
    least = max(1, min(LEAST, whole // 4))
    room = min(MOST, max(least, math.ceil(2 * fraction * whole)))
    count, taken = sum(units[number].size for number in held), set[int]()
    # First those whose number is low enough, then whoever is next, until there are enough.
    for below in (True, False):
        for draw, number in fresh:
            wanted = draw < fraction if below else count < least
            fits = count + units[number].size <= room and len(held) + len(taken) + 1 < len(units)
            if wanted and fits and number not in taken:
                taken.add(number)
                count += units[number].size
    return taken


def _smallest(units: Sequence[Unit], drawn: Sequence[int]) -> set[int]:
    """The number of the smallest unit, of several the first, if half of the pictures or more remain."""
    whole = sum(unit.size for unit in units)
    free = [n for n in drawn if units[n].asked is None and 2 * units[n].size <= whole]
    return {min(free, key=lambda number: units[number].size)} if free else set()
