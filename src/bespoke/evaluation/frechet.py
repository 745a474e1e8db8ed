"""Features of two sets of pictures turned into the Fréchet distance of the Gaussians that have their moments."""

import numpy as np

from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.sets import comparable
from bespoke.evaluation.significance import Labels, LeftOut, Values
from bespoke.evaluation.spectra import without_blocks


def frechet(x: FeatureSet, y: FeatureSet) -> float:
    """The Fréchet distance |μx − μy|² + tr Σx + tr Σy − 2 tr √(ΣxΣy), exact also with fewer pictures than dimensions.

    The last trace is the sum of the singular values of Xc·Ycᵀ/√((n−1)(m−1)), Xc and Yc the features less their means:
    no matrix root is taken, which is inexact where ΣxΣy is singular. It grows as there are fewer pictures: two small
    samples of one distribution are far apart.
    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    x, y = comparable(x, y)
    across = _root(x - x.mean(axis=0)) @ _root(y - y.mean(axis=0)).T
    overlap = np.linalg.svd(across, compute_uv=False).sum()
    apart = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    # Between a set and itself rounding leaves something to either side of nothing.
    return float(max(apart + _spread(x) + _spread(y) - 2 * overlap, 0))


def frechet_left_out(x: FeatureSet, y: FeatureSet, blocks: Labels, other_blocks: Labels) -> LeftOut:
    """`frechet` of two comparable sets in float64, and without each block of x and of y."""
    return LeftOut(frechet(x, y), (_without(x, y, blocks), _without(y, x, other_blocks)))


def _without(x: FeatureSet, y: FeatureSet, blocks: Labels) -> Values:
    """The distance without each block of x: the root of Σy is taken once, and x is seen through it."""
    seen, spread, mean = x @ _root(y - y.mean(axis=0)).T, _spread(y), y.mean(axis=0)
    found: list[float] = []
    for block, (left, squares) in enumerate(without_blocks(seen, blocks, centred=True)):
        kept = x[blocks != block]
        overlap = np.sqrt(squares / (left - 1)).sum()
        found.append(((kept.mean(axis=0) - mean) ** 2).sum() + _spread(kept) + spread - 2 * overlap)
    return np.array(found)


def _root(centred: FeatureSet) -> FeatureSet:
    """Rows R, as few as can be, with RᵀR the covariance of centred features."""
    rows = centred if len(centred) <= centred.shape[1] else np.linalg.qr(centred, mode="r")
    return rows / np.sqrt(len(centred) - 1)


def _spread(features: FeatureSet) -> float:
    """The trace of the covariance."""
    return float(features.var(axis=0, ddof=1).sum())
