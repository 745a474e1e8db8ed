"""Figures of pictures now and then turned into whether they moved, by how much, and what chance alone would do."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from bespoke.evaluation.significance import Values

BINS = 10
MISSING = 0.5
"""What is added to the count of every bin: an empty one would make the index infinite."""
TWO_VALUES = 2


class Moved(NamedTuple):
    """How a figure of some pictures differs from the reference's."""

    value: float
    """Its mean now."""
    usual: float
    """Its mean in the reference."""
    p: float
    """How often chance alone makes the two as different."""
    psi: float
    """The population stability index."""
    psi_by_chance: float
    """What that would be in 95 of 100 such sets if nothing had changed."""
    score: float
    """How far up or down its ranks moved, in standard errors: normal with mean 0 and spread 1 if nothing changed."""


def moved(reference: Values, now: Values) -> Moved:
    """How a figure moved; shares of pictures are tested by Fisher's exact test, other figures by Kolmogorov–Smirnov's.

    Ties make the latter's p larger than it need be, never smaller.
    """
    found, bins = psi(reference, now), len(edges(reference)) + 1
    p = _p_of_shares(reference, now) if _is_share(reference, now) else _p_of_numbers(reference, now)
    chance = psi_by_chance(len(reference), len(now), bins)
    return Moved(float(now.mean()), float(reference.mean()), p, found, chance, rank_score(reference, now))


def edges(reference: Values, bins: int = BINS) -> Float[np.ndarray, " _"]:
    """Where bins end that each hold as much of the reference, the outermost open; fewer where values are equal."""
    last = [-(-len(reference) * part // bins) - 1 for part in range(1, bins)]
    inner = np.unique(np.sort(reference)[last])
    # A bin ends after its edge, so an edge at the largest value would leave an empty one behind.
    return inner[inner < reference.max()]


def psi(reference: Values, now: Values, bins: int = BINS) -> float:
    """The population stability index Σ (q − p) ln(q / p) over bins of equal shares of the reference.

    Every bin, empty or not, counts half a picture more than it holds, in both sets. Where all of the reference is one
    value there are no inner edges: the bins are then that value and all else, to either side.
    Source: Siddiqi 2006, "Credit Risk Scorecards", chapter 6; Jeffreys 1946 (half a picture more).
    """
    ends = edges(reference, bins)
    if not len(ends):
        ends = np.array([np.nextafter(reference[0], -np.inf), reference[0]])
    parts = [
        np.bincount(np.searchsorted(ends, some, side="left"), minlength=len(ends) + 1) for some in (reference, now)
    ]
    p, q = ((counts + MISSING) / (counts.sum() + MISSING * len(counts)) for counts in parts)
    return float(((q - p) * np.log(q / p)).sum())


def psi_by_chance(reference: int, now: int, bins: int = BINS, level: float = 0.95) -> float:
    """What the index is at most, at this level, between sets of so many pictures if nothing changed.

    The usual limits of 0.1 and 0.25 are for thousands: with 30 pictures chance alone makes 0.5.
    Source: Yurdakul & Naranjo 2020, "Statistical properties of the population stability index", section 3.
    """
    return float((1 / reference + 1 / now) * stats.chi2.ppf(level, max(1, bins - 1)))


def rank_score(reference: Values, now: Values) -> float:
    """How far the ranks of what is now lie above the reference's, in standard errors; 0 where all values are equal.

    Whatever the figure's distribution, it is about standard normal if nothing changed, and one wild value does not
    move it. Source: Mann & Whitney 1947; Lehmann 1975, "Nonparametrics", section 1.4 (ties); Li, Tang & Ng 2010,
    "Nonparametric CUSUM and EWMA control charts for detecting mean shifts" (its use in a CUSUM).
    """
    both = np.concatenate([reference, now])
    m, n, total = len(reference), len(now), len(both)
    ranks = stats.rankdata(both)
    spread = m * n / (total * (total - 1)) * float(((ranks - (total + 1) / 2) ** 2).sum())
    above = float(ranks[m:].sum()) - n * (total + 1) / 2
    return above / spread**0.5 if spread > 0 else 0.0


def _is_share(reference: Values, now: Values) -> bool:
    return len(np.unique(np.concatenate([reference, now]))) <= TWO_VALUES


def _p_of_numbers(reference: Values, now: Values) -> float:
    with warnings.catch_warnings():
        # Where nothing differs, rounding brings the exact p above 1, and another way to it is taken.
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Any = stats.ks_2samp(reference, now)
    return float(found.pvalue)


def _p_of_shares(reference: Values, now: Values) -> float:
    high = max(float(reference.max()), float(now.max()))
    table = [[int((some == high).sum()), int((some != high).sum())] for some in (reference, now)]
    found: Any = stats.fisher_exact(table)
    return float(found.pvalue)
