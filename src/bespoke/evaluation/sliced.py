"""Features of two sets of pictures turned into their Wasserstein distance along many straight lines."""

import numpy as np

from bespoke import seeds
from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.sets import comparable
from bespoke.evaluation.significance import BLOCKS, Labels, LeftOut, Values

DIRECTIONS = 1000


def mind(x: FeatureSet, y: FeatureSet, *, seed: int = 0) -> float:
    """The Monge Inception Distance: 3d times the mean squared Wasserstein distance along 1000 random directions.

    Along a direction the pictures of both sets are coupled in order; sets of unequal sizes by their exact quantiles,
    so that none is left out. Two samples of one distribution are a little apart, the less the more pictures they have.
    Source: Berthet et al. 2026, "MIND: Monge Inception Distance" (3d, 1000 directions); Peyré & Cuturi 2019,
    "Computational optimal transport", remark 2.30 (quantiles).

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    x, y = comparable(x, y)
    along = _directions(x.shape[1], seed)
    return 3 * x.shape[1] * float(_coupled(np.sort(along @ x.T, axis=1), np.sort(along @ y.T, axis=1)).mean())


def mind_left_out(x: FeatureSet, y: FeatureSet, blocks: Labels, other_blocks: Labels, *, seed: int = 0) -> LeftOut:
    """`mind` of two comparable sets in float64, and without each block of x, of y and of the directions.

    Other directions give a little more or less, so they are a sample as the pictures are.
    """
    along, factor = _directions(x.shape[1], seed), 3 * x.shape[1]
    (xs, of_xs), (ys, of_ys) = _ordered(along @ x.T, blocks), _ordered(along @ y.T, other_blocks)
    each = factor * _coupled(xs, ys)
    parts = each.reshape(BLOCKS, -1)
    without_directions = (each.sum() - parts.sum(axis=1)) / (len(each) - parts.shape[1])
    samples = factor * _without(xs, of_xs, ys), factor * _without(ys, of_ys, xs), without_directions
    return LeftOut(float(each.mean()), samples)


def _directions(width: int, seed: int) -> FeatureSet:
    drawn = seeds.generator(seed, "mind").standard_normal((DIRECTIONS, width))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _ordered(places: FeatureSet, blocks: Labels) -> tuple[FeatureSet, np.ndarray]:
    """Each row's places in order, and the blocks of the pictures they belong to."""
    order = np.argsort(places, axis=1)
    return np.take_along_axis(places, order, axis=1), blocks[order]


def _without(xs: FeatureSet, of_xs: np.ndarray, ys: FeatureSet) -> Values:
    number = int(of_xs.max()) + 1
    return np.array([_coupled(xs[of_xs != block].reshape(len(xs), -1), ys).mean() for block in range(number)])


def _coupled(xs: FeatureSet, ys: FeatureSet) -> Values:
    """∫(F⁻¹ − G⁻¹)² of each row of places in order."""
    n, m = xs.shape[1], ys.shape[1]
    # In units of 1/nm the steps of both quantile functions are whole numbers.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    weights = np.diff(ends, prepend=0) / (n * m)
    apart = xs[:, (ends - 1) // m] - ys[:, (ends - 1) // n]
    return (apart**2) @ weights
