"""Pixel hashes turned into the set of those held out for validation, the same whatever else is in the dataset."""

import math
from collections.abc import Iterable

from bespoke.errors import BespokeError
from bespoke.seeds import uniform

MOST = 64
"""More pictures would make every validation slower and its result hardly surer."""
LEAST = 4
"""Wanted at least, but never more than a quarter of the pictures."""


def validation(pixels: Iterable[str], fraction: float, seed: int) -> frozenset[str]:
    """The pixel hashes of the pictures held out.

    Each picture draws a number in [0, 1) from `seed` and its own pixels and is held out when that lies below
    `fraction`; so adding pictures moves no other one. Two bounds come on top: at least 4 are held out, or a quarter
    of the pictures where that is less, or 1; and at most 64. Those with the lowest numbers are taken.

    Raises: BespokeError when `fraction` is not in [0, 1).
    """
    if not (math.isfinite(fraction) and 0 <= fraction < 1):
        raise BespokeError(f"The validation fraction must be at least 0 and below 1, not {fraction}.", "Usual: 0.1")
    drawn = sorted((uniform(seed, "validation", picture), picture) for picture in set(pixels))
    if fraction == 0 or len(drawn) < 2:
        return frozenset()
    least = max(1, min(LEAST, len(drawn) // 4))
    below = sum(number < fraction for number, _ in drawn)
    count = min(max(below, least), MOST, len(drawn) - 1)
    return frozenset(picture for _, picture in drawn[:count])
