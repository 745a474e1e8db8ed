"""Numbers per picture turned into means, differences and ratios with the interval and the p that chance allows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from bespoke import seeds
from bespoke.errors import BespokeError

Values = Float[np.ndarray, "_"]
"""One number per picture; that paired values are equally many is checked in words for the person."""
Ratio = tuple[float, float, float]
"""The ratio and the ends of its interval."""
ENUMERATED = 12
"""Up to so many pairs every pattern of signs is tried, instead of a random choice of them."""


@dataclass(frozen=True)
class Difference:
    """The mean of tuned minus base over pairs, its interval, and how often chance alone does as much."""

    mean: float
    low: float
    high: float
    p: float


def multiplicities(count: int, draws: int, *key: seeds.Key) -> Float[np.ndarray, "draws count"]:
    """How often each of `count` pictures comes up in each bootstrap sample. Source: Efron 1979, section 2."""
    chosen = seeds.generator(*key, "bootstrap").integers(0, count, (draws, count))
    # Row r counts in its own range of numbers, so that one pass counts all rows.
    chosen += count * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)


def percentiles(statistics: Values, level: float) -> tuple[float, float]:
    """The ends of the percentile interval. Source: Efron & Tibshirani 1993, equation 13.5.

    The ends are statistics that occurred, the outer one where two are as good: infinite ones do not mix with others.
    """
    assert 0 < level < 1
    ordered, tail, last = np.sort(statistics), (1 - level) / 2, len(statistics) - 1
    return float(ordered[int(np.floor(tail * last))]), float(ordered[int(np.ceil((1 - tail) * last))])


def ratio_of(numerator: float, denominator: float, numerators: Values, denominators: Values, level: float) -> Ratio:
    """The ratio and its percentile interval over bootstrap statistics of both parts.

    A part of a whole that is nothing, or measured below it, can be any: such a sample counts as infinite at both
    ends. So an end is infinite where the whole cannot be told from nothing, and the ratio is then not a number
    if the whole itself was measured so.
    """
    known = denominators > 0
    ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=known)
    low, _ = percentiles(np.where(known, ratios, -np.inf), level)
    _, high = percentiles(np.where(known, ratios, np.inf), level)
    return (numerator / denominator if denominator > 0 else float("nan")), low, high


def mean_interval(values: Values, *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean. Source: Efron & Tibshirani 1993, equation 13.5.

    Raises:
        BespokeError: fewer than two values, or one that is no finite number.
    """
    values = _finite(values)
    return percentiles(multiplicities(len(values), draws, seed, "mean") @ values / len(values), level)


def paired_difference(
    base: Values, tuned: Values, *, draws: int = 2000, flips: int = 10_000, seed: int = 0, level: float = 0.95
) -> Difference:
    """The mean difference tuned − base of pairs, its paired bootstrap interval and the sign-flip p (two-sided).

    Source: Fisher 1935, "The Design of Experiments", section 21 (p); Efron & Tibshirani 1993, equation 13.5 (interval).

    Raises:
        BespokeError: the values are no pairs, are fewer than two, or one is no finite number.
    """
    base, tuned = _pairs(base, tuned)
    differences = tuned - base
    low, high = mean_interval(differences, draws=draws, seed=seed, level=level)
    return Difference(float(differences.mean()), low, high, _sign_flip_p(differences, flips, seed))


def ratio_interval(base: Values, tuned: Values, *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Ratio:
    """The ratio of means tuned / base of pairs with its interval: both models are resampled by the same pictures.

    Source: Efron & Tibshirani 1993, section 10.3 (ratio of means), equation 13.5.

    Raises:
        BespokeError: the values are no pairs, are fewer than two, or one is no finite number.
    """
    base, tuned = _pairs(base, tuned)
    counts = multiplicities(len(base), draws, seed, "mean")
    return ratio_of(float(tuned.mean()), float(base.mean()), counts @ tuned, counts @ base, level)


def _finite(values: Values) -> Values:
    if len(values) < 2:
        raise BespokeError(
            f"An interval needs at least 2 pictures, and there are {len(values)}.",
            "Draw more pictures, or add prompts.",
        )
    if not np.isfinite(values).all():
        raise BespokeError(
            "A score of a picture is no finite number.", "Look at the pictures: a model that diverged draws such ones."
        )
    return values.astype(np.float64)


def _pairs(base: Values, tuned: Values) -> tuple[Values, Values]:
    if len(base) != len(tuned):
        raise BespokeError(
            f"The base model has {len(base)} pictures and the tuned one {len(tuned)}: they are no pairs.",
            "Draw both with the same prompts and seeds.",
        )
    return _finite(base), _finite(tuned)


def _sign_flip_p(differences: Values, flips: int, seed: int) -> float:
    """How often random signs give a mean as far from nothing. Source: Fisher 1935; Phipson & Smyth 2010, equation 2.

    Where signs are drawn, the pattern that was measured counts as one of them: a p of nothing cannot be had by chance.
    """
    count = len(differences)
    exact = count <= ENUMERATED
    signs = _all_signs(count) if exact else _random_signs(flips, count, seed)
    # In parts, because products are eight times as large as signs.
    sums = np.concatenate([part @ differences for part in np.array_split(signs, max(1, len(signs) // 1000))])
    # Sums in another order differ in the last digits, and a tie must count.
    threshold = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    as_far = int((np.abs(sums) >= threshold).sum())
    return as_far / len(signs) if exact else (as_far + 1) / (flips + 1)


def _all_signs(count: int) -> Shaped[np.ndarray, "_ count"]:
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1) * 2 - 1


def _random_signs(flips: int, count: int, seed: int) -> Shaped[np.ndarray, "flips count"]:
    return seeds.generator(seed, "sign-flip").integers(0, 2, (flips, count), dtype=np.int8) * 2 - 1
