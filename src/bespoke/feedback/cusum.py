"""Daily scores turned into sums that grow when a figure stays off, and the limit which chance alone hardly reaches."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from bespoke import seeds

SHIFT = 1.0
"""The chart is made for a shift of so many of a day's standard errors."""
OVERSHOOT = 1.166
"""How far a sum of normal scores passes its limit on average, twice. Source: Siegmund 1985, section X.2."""
HISTORIES = 20_000


class Sums(NamedTuple):
    """How much a figure was above and below what is usual, summed over days."""

    high: float = 0.0
    low: float = 0.0

    def after(self, score: float, k: float) -> "Sums":
        """The sums after a day: its score, less the allowance k, added where that leaves more than nothing.

        Source: Page 1954, "Continuous inspection schemes"; Montgomery, "Introduction to Statistical Quality Control",
        equations 9.2 and 9.3 (7th edition).
        """
        return Sums(max(0.0, self.high + score - k), max(0.0, self.low - score - k))

    def beyond(self, h: float) -> bool:
        """Whether one of them passed the limit."""
        return max(self) > h


def course(scores: Sequence[float], k: float, h: float) -> list[tuple[Sums, bool]]:
    """The sums after each day and whether they rang; after that they begin anew."""
    sums, found = Sums(), list[tuple[Sums, bool]]()
    for score in scores:
        sums = sums.after(score, k)
        found.append((sums, sums.beyond(h)))
        sums = Sums() if sums.beyond(h) else sums
    return found


def run_length(shift: float, k: float, h: float) -> float:
    """After how many days on average a two-sided chart rings when scores are normal around `shift` with spread 1.

    Source: Siegmund 1985, "Sequential Analysis", section X.2, as Montgomery has it in equations 9.6 and 9.7. It is
    within 4 % of the exact run lengths for shifts up to 1.5, and within 15 % up to 4 (`tests/feedback/test_cusum.py`).
    """
    return 1 / sum(1 / _one_sided(way * shift, k, h) for way in (1, -1))


def limit(wished: float, k: float = SHIFT / 2) -> float:
    """The h at which a chart of known mean and spread rings once in `wished` days on average if nothing changes.

    Source: `run_length`, solved for h.
    """
    found: Any = optimize.brentq(lambda h: run_length(0.0, k, h) - wished, 1e-3, 100.0)
    return float(found)


def allowance(share: float, chance: float) -> float:
    """The k of a chart whose usual mean is known from a reference only.

    Half of `SHIFT`, and what the reference itself may be off: `share` is the part of a score's variance that comes
    from the reference and so is the same each day, n / (n + m) for n pictures a day and m of the reference.
    Without that part a long enough chart rings for nothing but the reference's own luck. Source: Jensen et al. 2006,
    "Effects of parameter estimation on control chart properties".
    """
    return SHIFT / 2 + float(stats.norm.isf(chance / 2)) * math.sqrt(share)


@lru_cache(maxsize=64)
def simulated_limit(days: int, chance: float, share: float, k: float) -> float:
    """The h that a two-sided chart passes within so many days by chance at most so often, if nothing changes.

    By simulation of `HISTORIES` histories of normal scores, of whose variance the part `share` is the same on all days
    of a history.
    """
    draw = seeds.generator("cusum", days)
    reference = draw.standard_normal(HISTORIES) * math.sqrt(share)
    high, low, most = np.zeros(HISTORIES), np.zeros(HISTORIES), np.zeros(HISTORIES)
    for _ in range(days):
        score = reference + draw.standard_normal(HISTORIES) * math.sqrt(1 - share)
        high, low = np.maximum(0, high + score - k), np.maximum(0, low - score - k)
        most = np.maximum(most, np.maximum(high, low))
    return _upper(most, chance)


def _upper(values: Float[np.ndarray, " _"], chance: float) -> float:
    """The least of the values that at most the part `chance` of them passes."""
    return float(np.quantile(values, 1 - chance, method="higher"))


def _one_sided(shift: float, k: float, h: float) -> float:
    drift, height = shift - k, h + OVERSHOOT
    if abs(drift) < 1e-9:
        return height**2
    # Where scores fall away from the limit the length passes any number that floats can hold.
    return (math.exp(min(700.0, -2 * drift * height)) + 2 * drift * height - 1) / (2 * drift**2)
