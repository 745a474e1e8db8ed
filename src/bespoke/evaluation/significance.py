"""Numbers per picture turned into means, differences and ratios with the interval and the p that chance allows.

Pictures of one prompt are not independent. Whatever is drawn anew, flipped or left out here takes `groups`, one number
per picture: pictures with the same number stay together. Without it each picture stands for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats

from bespoke import seeds
from bespoke.errors import BespokeError
from bespoke.evaluation.features import check_pairs

Values = Float[np.ndarray, "_"]
"""One number per picture; that paired values are equally many is checked in words for the person."""
Labels = Int[np.ndarray, "_"]
"""Which group or block each picture is in, counted from 0."""
Groups = Sequence[int] | Int[np.ndarray, "_"] | None
"""One number per picture, equal where pictures belong together; none: each picture stands for itself."""
Ratio = tuple[float, float, float]
"""The ratio and the ends of its interval."""
ENUMERATED = 12
"""Up to so many pairs every pattern of signs is tried, instead of a random choice of them."""
BLOCKS = 20
"""The jackknife leaves out so many blocks, one at a time: more cost more, fewer tell the spread less well."""


@dataclass(frozen=True)
class Difference:
    """The mean of tuned minus base over pairs, its interval, and how often chance alone does as much."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Estimate:
    """A figure of one set of pictures with the ends of its interval, and what should be said with it."""

    value: float
    low: float
    high: float
    note: str = ""
    """What follows "It": "rests on only 12 pictures"."""
    target: float | None = None
    """The references' own figure, where nearer to it is better."""


@dataclass(frozen=True)
class Change:
    """What tuning changed in a figure: tuned − base and tuned / base with intervals, and what chance alone does."""

    difference: float
    low: float
    high: float
    ratio: Ratio
    """Not a number, or with infinite ends, where the base's figure cannot be told from nothing."""
    p: float | None = None
    """How often swapping the two models' pictures within prompts changes as much, two-sided; none where not tried."""
    corrected: float | None = None
    """The p corrected for how many questions were asked, once they are known."""


@dataclass(frozen=True)
class LeftOut:
    """A statistic, and what it is with each block of each of its samples left out."""

    value: float
    samples: tuple[Values, ...]
    """For each sample one value per block; none where leaving blocks out leaves too little."""
    each: Values | None = None
    """Where the statistic is a mean over the pictures: their values."""

    def __sub__(self, other: "LeftOut") -> "LeftOut":
        """The difference of two statistics of the same blocks."""
        each = None if self.each is None or other.each is None else self.each - other.each
        samples = tuple(one - two for one, two in zip(self.samples, other.samples, strict=True))
        return LeftOut(self.value - other.value, samples, each)


def members(count: int, groups: Groups) -> Labels:
    """Which group each of `count` pictures is in, counted from 0; without groups each is its own.

    Raises:
        BespokeError: there is not one group number per picture, or all pictures are in one group.
    """
    labels = numbered(count, groups)
    if groups is not None and number_of(labels) < 2:
        raise BespokeError(
            "All pictures have one prompt, so an interval over prompts cannot be had.",
            "Draw pictures of more prompts, or give no groups: the interval then holds for this prompt alone.",
        )
    return labels


def number_of(labels: Labels) -> int:
    """How many groups or blocks there are."""
    return int(labels.max()) + 1


def numbered(count: int, groups: Groups) -> Labels:
    """As `members`; all pictures may be in one group.

    Raises:
        BespokeError: there is not one group number per picture.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise BespokeError(
            f"There are {len(groups)} group numbers for {count} pictures.",
            "Give each picture the number of its prompt.",
        )
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def multiplicities(count: int, draws: int, *key: seeds.Key) -> Float[np.ndarray, "draws count"]:
    """How often each of `count` pictures comes up in each bootstrap sample. Source: Efron 1979, section 2."""
    chosen = seeds.generator(*key, "bootstrap").integers(0, count, (draws, count))
    # Row r counts in its own range of numbers, so that one pass counts all rows.
    chosen += count * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)


def drawn_groups(labels: Labels, draws: int, *key: seeds.Key) -> Float[np.ndarray, "draws _"]:
    """How often each picture comes up in each bootstrap sample of whole groups.

    Source: Davison & Hinkley 1997, "Bootstrap Methods and their Application", section 3.8 (whole groups).
    """
    return multiplicities(number_of(labels), draws, *key)[:, labels]


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


def mean_interval(
    values: Values, groups: Groups = None, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean. Source: Efron & Tibshirani 1993, equation 13.5.

    Raises:
        BespokeError: fewer than two values or groups, or one that is no finite number.
    """
    values = _finite(values)
    labels = members(len(values), groups)
    counts = multiplicities(number_of(labels), draws, seed, "mean")
    return percentiles(counts @ _sums(values, labels) / (counts @ np.bincount(labels)), level)


def paired_difference(
    base: Values,
    tuned: Values,
    groups: Groups = None,
    *,
    draws: int = 2000,
    flips: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """The mean difference tuned − base of pairs, its paired bootstrap interval and the sign-flip p (two-sided).

    Source: Fisher 1935, "The Design of Experiments", section 21 (p); Efron & Tibshirani 1993, equation 13.5 (interval).

    Raises:
        BespokeError: the values are no pairs, are fewer than two, or one is no finite number.
    """
    base, tuned = _pairs(base, tuned)
    differences = tuned - base
    low, high = mean_interval(differences, groups, draws=draws, seed=seed, level=level)
    return Difference(float(differences.mean()), low, high, swap_p(differences, groups, flips=flips, seed=seed))


def ratio_interval(
    base: Values,
    tuned: Values,
    groups: Groups = None,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Ratio:
    """The ratio of means tuned / base of pairs with its interval: both models are resampled by the same pictures.

    Source: Efron & Tibshirani 1993, section 10.3 (ratio of means), equation 13.5.

    Raises:
        BespokeError: the values are no pairs, are fewer than two, or one is no finite number.
    """
    base, tuned = _pairs(base, tuned)
    labels = members(len(base), groups)
    counts = multiplicities(number_of(labels), draws, seed, "mean")
    of_tuned, of_base = (counts @ _sums(values, labels) for values in (tuned, base))
    return ratio_of(float(tuned.mean()), float(base.mean()), of_tuned, of_base, level)


def swap_p(differences: Values, groups: Groups = None, *, flips: int = 10_000, seed: int = 0) -> float:
    """How often swapping both models' pictures, a whole group at a time, puts the sum as far from nothing (two-sided).

    Swapping a pair turns the sign of its difference. Source: Fisher 1935, "The Design of Experiments", section 21;
    Winkler et al. 2015, "Multi-level block permutation" (whole groups).

    Raises:
        BespokeError: fewer than two groups.
    """
    return _sign_flip_p(_sums(differences, members(len(differences), groups)), flips, seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, in the order given: how small each is among so many questions.

    One that is at most 0.05 is found by a procedure that finds anything where nothing is at most 5 % of the time.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    found = np.asarray(p_values, np.float64)
    assert ((found >= 0) & (found <= 1)).all(), "a p lies between 0 and 1"
    order = np.argsort(found, kind="stable")
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)), 1)
    return adjusted.tolist()


def blocks(count: int, groups: Groups = None, *, seed: int = 0, most: int = BLOCKS) -> Labels:
    """Which block each of `count` pictures is in: whole groups, dealt out at random to at most `most` blocks.

    All are in block −1, so that there is no block to leave out, where without one fewer than two pictures are left.

    Raises:
        BespokeError: there is not one group number per picture.
    """
    labels = numbered(count, groups)
    dealt = (seeds.permutation(number_of(labels), seed, "blocks") % most)[labels]
    return dealt if count - np.bincount(dealt).max() >= 2 else np.full(count, -1)


def jackknife(found: LeftOut, *, level: float = 0.95) -> tuple[float, float]:
    """The interval of a statistic from its values with blocks left out; infinite where there are none.

    For statistics that a bootstrap would bias, because a picture drawn twice is its own neighbour, or adds no
    dimension. It is an interval for what the statistic is on average at this number of pictures. It errs to the wide
    side (Efron & Stein 1981), up to twice for nearest neighbours.
    Source: Efron & Tibshirani 1993, equation 11.5, with Student's t in place of the normal distribution (the degrees
    of freedom of the sample with the fewest blocks); Arvesen 1969 (the variances of independent samples add up).
    """
    reach = _reach(found, level) * np.sqrt(_covariance(found, found))
    return float(found.value - reach), float(found.value + reach)


def share_interval(found: LeftOut, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """The interval, within 0 and 1, of a share: Wilson's, for as many pictures as the jackknife's variance tells.

    A share of 0 or 1 has no variance; then `count`, the number of groups that could have differed, stands in.
    Source: Wilson 1927 (interval); Korn & Graubard 1998 (number of pictures from the variance).
    """
    share, variance, reach = found.value, _covariance(found, found), _reach(found, level)
    if not np.isfinite(variance):
        return 0.0, 1.0
    size = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else count
    return score_interval(share, float(size), reach)


def score_interval(share: float, size: float, reach: float) -> tuple[float, float]:
    """The interval, within 0 and 1 and around it, of a share of `size` pictures, `reach` standard errors to each side.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", p. 210.
    """
    shrink = 1 + reach**2 / size
    centre = (share + reach**2 / (2 * size)) / shrink
    half = reach / shrink * np.sqrt(share * (1 - share) / size + reach**2 / (4 * size**2))
    return float(np.clip(centre - half, 0, share)), float(np.clip(centre + half, share, 1))


def jackknife_ratio(numerator: LeftOut, denominator: LeftOut, *, level: float = 0.95) -> Ratio:
    """The ratio of two statistics of the same blocks and its interval, by the rules of `ratio_of` for what is unknown.

    Source: Fieller 1954, "Some problems in interval estimation": all ratios that a test would not refuse. They are
    unbounded exactly where the denominator cannot be told from nothing.
    """
    part, whole, reach = numerator.value, denominator.value, _reach(denominator, level) ** 2
    value = part / whole if whole > 0 else float("nan")
    square = whole**2 - reach * _covariance(denominator, denominator)
    if not (whole > 0 and square > 0):
        return value, -np.inf, np.inf
    middle = part * whole - reach * _covariance(numerator, denominator)
    least = part**2 - reach * _covariance(numerator, numerator)
    root = np.sqrt(max(middle**2 - square * least, 0))
    return value, float((middle - root) / square), float((middle + root) / square)


def jackknife_p(difference: LeftOut, count: int) -> float:
    """How often chance alone puts a statistic as far from nothing, by Student's t of the jackknife (two-sided).

    It stands in for swapping pictures where that would take too long, and is never below what swapping the `count`
    groups could show. Source: Efron & Tibshirani 1993, equation 11.5 (error); Fisher 1935, section 21 (least p).
    """
    error = np.sqrt(_covariance(difference, difference))
    if difference.value == 0 or not np.isfinite(error):
        return 1.0
    as_far = 2 * stats.t.sf(abs(difference.value) / error, _degrees(difference)) if error > 0 else 0.0
    return float(max(as_far, 2.0 ** (1 - count)))


def _covariance(one: LeftOut, other: LeftOut) -> float:
    """The covariance of two statistics of the same blocks. Source: Efron & Tibshirani 1993, equation 11.5."""
    if _degrees(one) < 1:
        return np.inf
    parts = zip(one.samples, other.samples, strict=True)
    return float(sum(((a - a.mean()) * (b - b.mean())).sum() * (len(a) - 1) / len(a) for a, b in parts))


def _degrees(found: LeftOut) -> int:
    return min(len(sample) for sample in found.samples) - 1


def _reach(found: LeftOut, level: float) -> float:
    """How many standard errors an interval reaches to each side."""
    return float(stats.t.ppf((1 + level) / 2, max(_degrees(found), 1)))


def _sums(values: Values, labels: Labels) -> Values:
    """The sum of each group's values."""
    return np.bincount(labels, weights=values)


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
    check_pairs(len(base), len(tuned))
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
