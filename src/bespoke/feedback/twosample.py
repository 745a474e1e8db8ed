"""Features of two sets of pictures or prompts turned into how likely chance alone sets them so far apart."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bespoke import seeds
from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.kernels import gaussian
from bespoke.evaluation.sets import comparable, squared_distances
from bespoke.evaluation.significance import Labels

DRAWS = 9999
PART = 1000
"""So many rows of the kernel, and so many ways to divide the rows, are in memory at once."""
HELD = 3000
"""The kernel of at most so many rows is kept; that of more is computed anew for each thousand divisions."""
MEDIAN_OF = 1000
"""The median distance is that of at most so many rows."""
ROUNDING = 1e-9
"""A division this much below what was found, as a part of the kernel's mean, is as far apart as it."""

Divisions = Int[np.ndarray, "_ _"]
"""The rows that stand for the second set, one division a row."""
Distances = Float[np.ndarray, "_"]


class Apart(NamedTuple):
    """How far two sets are apart, and how often chance alone sets them as far."""

    distance: float
    """The unbiased MMD²; it may be a little below nothing."""
    p: float
    draws: int
    """So many divisions were tried."""


def apart(
    reference: FeatureSet, others: FeatureSet, *, draws: int = DRAWS, enough: int | None = None, seed: int = 0
) -> Apart:
    """The squared maximum mean discrepancy of two sets and its p-value, which is exact for any number of draws.

    The kernel is Gaussian, its bandwidth the median distance of both sets together. Rows are put in one order first, so
    that nothing depends on the order they came in. `p` is (b + 1) / (m + 1), where b of m random divisions of all rows
    into two such sets are as far apart. With `enough` it stops at so many of these, after l divisions, and `p` is
    b / l: also exact, and a hundred times faster where nothing has changed. Rows must be independent of one another.

    Source: Gretton et al. 2012, "A kernel two-sample test", equation 3, section 8 (bandwidth); Phipson & Smyth 2010,
    "Permutation p-values should never be zero", equation 2; Besag & Clifford 1991, "Sequential Monte Carlo p-values".

    Raises:
        BespokeError: a set has fewer than two rows or broken features, or the sets' widths differ.
    """
    x, y = comparable(reference, others)
    both, place = _sorted(x, y)
    divided = _Divided(both, len(y))
    found = float(divided.distances(place[None])[0])
    limit = found - ROUNDING * divided.scale
    beyond, tried = 0, 0
    for batch in _batches(len(both), len(y), draws, seed):
        hits = np.cumsum(divided.distances(batch) >= limit) + beyond
        if enough is not None and hits[-1] >= enough:
            tried += int(np.searchsorted(hits, enough)) + 1
            return Apart(found, enough / tried, tried)
        beyond, tried = int(hits[-1]), tried + len(batch)
    return Apart(found, (beyond + 1) / (draws + 1), draws)


def bandwidth(rows: FeatureSet) -> float:
    """The median distance between two different rows, of at most `MEDIAN_OF` evenly spaced ones; 1 if all are equal.

    Rows are in their own order: the test is exact only if the bandwidth does not know which set a row is of.
    Source: Gretton et al. 2012, "A kernel two-sample test", section 8.
    """
    some = rows[:: -(-len(rows) // MEDIAN_OF)]
    squared = squared_distances(some, some)[np.triu_indices(len(some), 1)]
    squared = squared[squared > 0]
    return float(np.sqrt(np.median(squared))) if len(squared) else 1.0


class _Divided:
    """The kernel of all rows, and what dividing them into two sets makes of it."""

    def __init__(self, rows: FeatureSet, second: int) -> None:
        self._rows, self._kernel = rows, gaussian(bandwidth(rows))
        self._second, self._first = second, len(rows) - second
        self._held = [self._block(start) for start in self._starts] if len(rows) <= HELD else None
        self._sums = np.concatenate([block.sum(axis=1) for block in self._blocks()])
        self.scale = float(self._sums.mean()) / len(rows)

    def distances(self, divisions: Divisions) -> Distances:
        """MMD² of each division, from the kernel's row sums and what lies within the second set."""
        chosen = np.zeros((len(divisions), len(self._rows)))
        np.put_along_axis(chosen, divisions, 1.0, axis=1)
        within = np.zeros(len(divisions))
        for start, block in zip(self._starts, self._blocks(), strict=True):
            within += ((chosen @ block.T) * chosen[:, start : start + PART]).sum(axis=1)
        n, m, of_second, total = self._second, self._first, chosen @ self._sums, self._sums.sum()
        across = of_second - within
        rest = total - 2 * of_second + within
        return within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * across / (n * m)

    @property
    def _starts(self) -> range:
        return range(0, len(self._rows), PART)

    def _blocks(self) -> Iterator[FeatureSet]:
        yield from self._held or (self._block(start) for start in self._starts)

    def _block(self, start: int) -> FeatureSet:
        """Some rows of the kernel, without each row's own one."""
        block = self._kernel(self._rows[start : start + PART], self._rows)
        block[np.arange(len(block)), start + np.arange(len(block))] = 0
        return block


def _sorted(x: FeatureSet, y: FeatureSet) -> tuple[FeatureSet, Labels]:
    """All rows in an order that only their values tell, and where those of y went."""
    both = np.concatenate([x, y])
    order = np.lexsort(both.T[::-1])
    return both[order], np.flatnonzero(order >= len(x))


def _batches(rows: int, chosen: int, draws: int, seed: int) -> Iterator[Divisions]:
    """Random choices of so many rows, few at first: where nothing has changed, few are needed."""
    made, size, generator = 0, 64, seeds.generator("division", seed)
    while made < draws:
        size = min(size, draws - made)
        yield np.argpartition(generator.random((size, rows)), chosen - 1, axis=1)[:, :chosen]
        made, size = made + size, min(4 * size, PART)
