"""Features of two sets of pictures turned into a kernel distance between the sets, with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from bespoke import seeds
from bespoke.evaluation.features import FeatureSet, directions
from bespoke.evaluation.sets import comparable, compared, squared_distances
from bespoke.evaluation.significance import (
    Groups,
    Labels,
    Ratio,
    Values,
    members,
    multiplicities,
    number_of,
    percentiles,
    ratio_of,
)

Counts = Float[np.ndarray, "_ _"]
"""How often each group of pictures counts, one row for each bootstrap sample."""
Kernel = Callable[[FeatureSet, FeatureSet], FeatureSet]
"""How alike each row of one set is to each row of another."""
CMMD_BANDWIDTH, CMMD_SCALE = 10.0, 1000.0
BANDWIDTHS = (0.5, 1.0, 2.0)
"""The bandwidths of the multi-bandwidth kernel, as parts of the median distance."""
PART = 1000
"""So many rows of a kernel that is only summed are held at once."""
MEDIAN_OF = 2000
"""The median distance is that of at most so many pictures."""


def cubic(x: FeatureSet, y: FeatureSet) -> FeatureSet:
    """The kernel (a·b/d + 1)³ of KID. Source: Bińkowski et al. 2018, "Demystifying MMD GANs", section 4."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(*bandwidths: float) -> Kernel:
    """The kernel exp(−|a − b|²/2σ²), its mean over several bandwidths σ. Source: Gretton et al. 2012, section 8."""

    def kernel(x: FeatureSet, y: FeatureSet) -> FeatureSet:
        apart = squared_distances(x, y)
        return sum((np.exp(apart / (-2 * width**2)) for width in bandwidths), np.zeros_like(apart)) / len(bandwidths)

    return kernel


def median_distance(reference: FeatureSet, base: FeatureSet) -> float:
    """The median distance between two different pictures of both sets together; 1 where all are the same.

    Of more than `MEDIAN_OF` pictures a random choice is taken, the same for equal numbers of pictures.
    Source: Gretton et al. 2012, "A kernel two-sample test", section 8 (median heuristic).
    """
    both = np.concatenate([reference, base])
    both = both[seeds.permutation(len(both), "median distance")[:MEDIAN_OF]]
    apart = squared_distances(both, both)[np.triu_indices(len(both), 1)]
    apart = apart[apart > 0]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0


class Within(NamedTuple):
    """The kernel within one set, summed over the pictures of each two groups."""

    between: FeatureSet
    """Between two groups; 0 of a group and itself."""
    own: Values
    """Within each group."""
    sizes: Values
    """How many pictures each group has."""
    pairs: Values
    """How many pairs `own` is a sum of."""

    def mean(self, counts: Counts) -> Values:
        """The mean kernel of each row of counts.

        A group that is drawn twice counts twice, but the copies make no pairs with each other: a picture and its copy
        are not two pictures of the model.
        """
        pairs = (counts @ self.sizes) ** 2 - counts**2 @ self.sizes**2 + counts @ self.pairs
        return (((counts @ self.between) * counts).sum(axis=1) + counts @ self.own) / pairs


class Resampled(NamedTuple):
    """A distance, and what it is in each bootstrap sample."""

    value: float
    draws: Values


@dataclass(frozen=True)
class Discrepancy:
    """A squared maximum mean discrepancy (MMD²) by one kernel, times `scale`.

    Unbiased it leaves the pairs of a picture with itself out, and may be a little below nothing; `biased` keeps them.
    Source: Gretton et al. 2012, "A kernel two-sample test", equations 3 (unbiased) and 5 (biased).
    """

    kernel: Kernel
    biased: bool = False
    scale: float = 1.0

    def between(self, x: FeatureSet, y: FeatureSet) -> float:
        """The distance of two sets.

        Raises:
            BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
        """
        x, y = comparable(x, y)
        labels, others = np.arange(len(x)), np.arange(len(y))
        within = self._within(x, labels), self._within(y, others)
        found = self._distances(*within, self._across(x, y, labels), _once(labels), _once(others))
        return float(found[0])

    def resampled(
        self,
        sets: Sequence[FeatureSet],
        reference: FeatureSet,
        groups: Groups = None,
        *,
        draws: int = 1000,
        seed: int = 0,
    ) -> tuple[Resampled, ...]:
        """The distance of each of the sets to the references, and of its bootstrap samples.

        The references are drawn anew one by one. Row i of all sets has one prompt and seed, so the sets are drawn
        together, by whole groups. The sets are in float64 and comparable.
        """
        labels, others = members(len(sets[0]), groups), np.arange(len(reference))
        counts, of_others = (_drawn(number_of(number), draws, seed, w) for number, w in ((labels, "x"), (others, "y")))
        within = self._within(reference, others)
        found: list[Resampled] = []
        for features in sets:
            parts = self._within(features, labels), within, self._across(features, reference, labels)
            value = self._distances(*parts, _once(labels), _once(others))
            found.append(Resampled(float(value[0]), self._distances(*parts, counts, of_others)))
        return tuple(found)

    def swaps(self, base: FeatureSet, tuned: FeatureSet, reference: FeatureSet) -> Values:
        """What each pair of pictures adds to the difference tuned − base; swapping the pair turns its sign, exactly.

        With c the 0/1 counts of both models' pictures that stand for the tuned one, the means within are cᵀKc and
        (1 − c)ᵀK(1 − c) by one pooled kernel matrix K; their difference 1ᵀK(2c − 1) is a sum over single pictures,
        as is the mean across. So a permutation test needs no more than K's row sums. The sets are in float64.
        """
        count, both = len(base), np.concatenate([base, tuned])
        pooled = self._row_sums(both)
        pairs = count**2 if self.biased else count * (count - 1)
        each = pooled / pairs - 2 * self.kernel(both, reference).mean(axis=1) / count
        return self.scale * (each[count:] - each[:count])

    def _distances(self, x: Within, y: Within, across: FeatureSet, of_x: Counts, of_y: Counts) -> Values:
        """The distance of each row of counts. Source: Gretton et al. 2012, equations 3 and 5, weighted by counts."""
        between = ((of_x @ across) * of_y).sum(axis=1) / ((of_x @ x.sizes) * (of_y @ y.sizes))
        return self.scale * (x.mean(of_x) + y.mean(of_y) - 2 * between)

    def _within(self, x: FeatureSet, labels: Labels) -> Within:
        sums = _by_group(_by_group(self._without_itself(self.kernel(x, x)), labels, axis=0), labels, axis=1)
        sizes, own = np.bincount(labels).astype(np.float64), sums.diagonal().copy()
        np.fill_diagonal(sums, 0)
        return Within(sums, own, sizes, sizes * (sizes if self.biased else sizes - 1))

    def _across(self, x: FeatureSet, y: FeatureSet, labels: Labels) -> FeatureSet:
        return _by_group(self.kernel(x, y), labels, axis=0)

    def _row_sums(self, x: FeatureSet) -> Values:
        """The kernel of each row to all, summed; taken in parts, for there are twice as many rows as elsewhere."""
        found: list[Values] = []
        for start in range(0, len(x), PART):
            kernel = self.kernel(x[start : start + PART], x)
            if not self.biased:
                kernel[np.arange(len(kernel)), start + np.arange(len(kernel))] = 0
            found.append(kernel.sum(axis=1))
        return np.concatenate(found)

    def _without_itself(self, kernel: FeatureSet) -> FeatureSet:
        if not self.biased:
            np.fill_diagonal(kernel, 0)
        return kernel


def _unit_gaussian(x: FeatureSet, y: FeatureSet) -> FeatureSet:
    unit = (directions(features, "pictures") / np.sqrt(features.shape[1]) for features in (x, y))
    return gaussian(CMMD_BANDWIDTH)(*unit)


KID = Discrepancy(cubic)
"""Source: Bińkowski et al. 2018, equation 4, without its subsets, which only save memory."""
CMMD = Discrepancy(_unit_gaussian, biased=True, scale=CMMD_SCALE)
"""Features at unit length, bandwidth 10, biased, times 1000. Source: Jayasumana et al. 2024, "Rethinking FID".

The kernel is almost straight at this bandwidth, so that it is 10·|mean − mean|² to three digits: it does not see
anything that leaves the mean where it is. Biased, it is as large between two small samples of one distribution as
between small samples of two.
"""
CMMD_UNBIASED = Discrepancy(_unit_gaussian, scale=CMMD_SCALE)
"""`CMMD` without pairs of a picture with itself: 0 on average between samples of one distribution."""


def multi_bandwidth(reference: FeatureSet, base: FeatureSet) -> Discrepancy:
    """The unbiased MMD² by a mean of Gaussian kernels of ½, 1 and 2 times the median distance of these two sets.

    The bandwidths come from the references and the base, so that they are the same for both models of a comparison.
    Source: Gretton et al. 2012, section 8 (median); Li et al. 2015, "Generative moment matching networks", section 4
    (several bandwidths).
    """
    median = median_distance(reference, base)
    return Discrepancy(gaussian(*(part * median for part in BANDWIDTHS)))


def kid(x: FeatureSet, y: FeatureSet) -> float:
    """The kernel distance: the unbiased MMD² with kernel (a·b/d + 1)³ over all pictures. May be a little below nothing.

    Source: Bińkowski et al. 2018, "Demystifying MMD GANs", equation 4 and section 4 (kernel); without its subsets,
    which only save memory.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    return KID.between(x, y)


def kid_interval(
    x: FeatureSet,
    y: FeatureSet,
    groups: Groups = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile bootstrap interval of `kid`: the pictures of both sets are drawn anew, with replacement.

    Source: Efron & Tibshirani 1993, equation 13.5. Pairs of one picture with itself are left out of each sample: the
    estimator is unbiased only over pairs of different pictures. `groups` are those of x.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    x, y = comparable(x, y)
    return percentiles(KID.resampled([x], y, groups, draws=draws, seed=seed)[0].draws, level)


def kid_gain_interval(
    base: FeatureSet,
    tuned: FeatureSet,
    reference: FeatureSet,
    groups: Groups = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Ratio:
    """KID(tuned) / KID(base), both to `reference`, and its interval: below one, tuning brought the model closer.

    Picture i of both models has the same prompt and seed, so they are drawn anew together, as the references are.
    Source: Efron & Tibshirani 1993, section 10.3 (ratio), equation 13.5; samples as in `kid_interval`.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, the sets' widths differ, or the models'
            pictures are no pairs.
    """
    base, tuned, reference = compared(base, tuned, reference)
    of_base, of_tuned = KID.resampled([base, tuned], reference, groups, draws=draws, seed=seed)
    return ratio_of(of_tuned.value, of_base.value, of_tuned.draws, of_base.draws, level)


def _by_group(kernel: FeatureSet, labels: Labels, *, axis: int) -> FeatureSet:
    """The rows (axis 0) or columns (axis 1) summed over each group."""
    number = number_of(labels)
    if number == len(labels):
        return kernel
    belongs = np.eye(number)[labels]
    return kernel @ belongs if axis else belongs.T @ kernel


def _once(labels: Labels) -> Counts:
    return np.ones((1, number_of(labels)))


def _drawn(count: int, draws: int, seed: int, which: str) -> Counts:
    counts = multiplicities(count, draws, seed, "kid", which)
    # One picture drawn every time makes no pair (it happens to sets of two or three): the set itself stands in.
    return np.where(counts.max(axis=1, keepdims=True) == count, 1.0, counts)
