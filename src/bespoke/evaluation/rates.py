"""Hits among pictures turned into a share with its interval, and the limit that hardly any fresh picture passes."""

import numpy as np
from jaxtyping import Bool
from scipy import stats

from bespoke.evaluation.significance import Estimate, Labels, Values, score_interval

QUANTILE = 0.99
"""The part of fresh pictures that the limit should hold to be no copies."""


def limit(distances: Values, quantile: float = QUANTILE, level: float = 0.95) -> tuple[float, float, float]:
    """The distance below which a picture is a copy, the chance that a fresh one is below it, and what it may come to.

    Source: David & Nagaraja 2003, "Order Statistics", section 2.3 (the part below an order statistic is beta).
    """
    count = len(distances)
    rank = max(1, int((count + 1) * (1 - quantile) + 1e-9))
    high = stats.beta.ppf((1 + level) / 2, rank, count + 1 - rank)
    return float(np.sort(distances)[rank - 1]), rank / (count + 1), float(high)


def share(hits: Bool[np.ndarray, " count"], groups: Labels, level: float = 0.95) -> Estimate:
    """The share of hits and its interval, which is as wide as the groups' agreement with themselves makes it.

    Where all or none are hits their agreement cannot be seen, so each group then counts as one picture.
    Source: Wilson 1927 (interval); Kish 1965, "Survey Sampling", section 8.2 (the effect of groups on it).
    """
    sizes, found = np.bincount(groups).astype(np.float64), np.bincount(groups, hits)
    count, value = len(hits), float(hits.mean())
    effect = worst = float((sizes**2).sum()) / count
    if 0 < value < 1 and len(sizes) > 1:
        scatter = ((found - value * sizes) ** 2).sum() * len(sizes) / (len(sizes) - 1) / count**2
        effect = float(np.clip(scatter / (value * (1 - value) / count), 1, worst))
    return Estimate(value, *score_interval(value, count / effect, float(stats.norm.ppf((1 + level) / 2))))


def difference(tuned: Estimate, base: Estimate) -> Estimate:
    """Tuned − base of shares, its interval made of theirs, as if the models' pictures had nothing in common.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    value = tuned.value - base.value
    below = ((tuned.value - tuned.low) ** 2 + (base.high - base.value) ** 2) ** 0.5
    above = ((tuned.high - tuned.value) ** 2 + (base.value - base.low) ** 2) ** 0.5
    return Estimate(value, value - below, value + above)
