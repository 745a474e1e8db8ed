"""Features of two sets of pictures turned into one distance between the sets, with its interval."""

import numpy as np
from jaxtyping import Float

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet, measurable
from bespoke.evaluation.significance import Ratio, Values, multiplicities, percentiles, ratio_of

Counts = Float[np.ndarray, "_ _"]
"""How often each picture counts, one row for each bootstrap sample."""


def kid(x: FeatureSet, y: FeatureSet) -> float:
    """The kernel distance: the unbiased MMD² with kernel (a·b/d + 1)³ over all pictures. May be a little below nothing.

    Source: Bińkowski et al. 2018, "Demystifying MMD GANs", equation 4 and section 4 (kernel); without its subsets,
    which only save memory.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    x, y = _comparable(x, y)
    return float(_distances(x, y, np.ones((1, len(x))), np.ones((1, len(y))))[0])


def kid_interval(
    x: FeatureSet, y: FeatureSet, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of `kid`: the pictures of both sets are drawn anew, with replacement.

    Source: Efron & Tibshirani 1993, equation 13.5. Pairs of one picture with itself are left out of each sample: the
    estimator is unbiased only over pairs of different pictures.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
    x, y = _comparable(x, y)
    return percentiles(_distances(x, y, _drawn(len(x), draws, seed, "x"), _drawn(len(y), draws, seed, "y")), level)


def kid_gain_interval(
    base: FeatureSet, tuned: FeatureSet, reference: FeatureSet, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Ratio:
    """KID(tuned) / KID(base), both to `reference`, and its interval: below one, tuning brought the model closer.

    Picture i of both models has the same prompt and seed, so they are drawn anew together, as the references are.
    Source: Efron & Tibshirani 1993, section 10.3 (ratio), equation 13.5; samples as in `kid_interval`.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, the sets' widths differ, or the models'
            pictures are no pairs.
    """
    base, reference = _comparable(base, reference)
    tuned, _ = _comparable(tuned, reference)
    if len(base) != len(tuned):
        raise BespokeError(
            f"The base model has {len(base)} pictures and the tuned one {len(tuned)}: they are no pairs.",
            "Draw both with the same prompts and seeds.",
        )
    drawn, references = _drawn(len(base), draws, seed, "x"), _drawn(len(reference), draws, seed, "y")
    return ratio_of(
        kid(tuned, reference),
        kid(base, reference),
        _distances(tuned, reference, drawn, references),
        _distances(base, reference, drawn, references),
        level,
    )


def _comparable(x: FeatureSet, y: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    few = min(len(x), len(y))
    if few < 2:
        raise BespokeError(
            f"A distance needs at least 2 pictures in each set, and one has {few}.",
            "Draw more pictures, or add references; below 50 the distance is rough.",
        )
    if x.shape[1] != y.shape[1]:
        raise BespokeError(
            f"Features of {x.shape[1]} numbers cannot be compared with features of {y.shape[1]}.",
            "Compute both sets with the same extractor.",
        )
    return measurable(x, "pictures"), measurable(y, "pictures")


def _kernel(x: FeatureSet, y: FeatureSet) -> FeatureSet:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _drawn(count: int, draws: int, seed: int, which: str) -> Counts:
    counts = multiplicities(count, draws, seed, "kid", which)
    # One picture drawn every time makes no pair (it happens to sets of two or three): the set itself stands in.
    return np.where(counts.max(axis=1, keepdims=True) == count, 1.0, counts)


def _distances(x: FeatureSet, y: FeatureSet, of_x: Counts, of_y: Counts) -> Values:
    """The unbiased MMD² of each row of counts. Source: Bińkowski et al. 2018, equation 4, pairs weighted by counts."""
    across = ((of_x @ _kernel(x, y)) * of_y).sum(axis=1) / (len(x) * len(y))
    return _within(x, of_x) + _within(y, of_y) - 2 * across


def _within(x: FeatureSet, counts: Counts) -> Values:
    """The mean kernel over pairs of different pictures, for each row of counts."""
    kernel = _kernel(x, x)
    np.fill_diagonal(kernel, 0)
    pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
    return ((counts @ kernel) * counts).sum(axis=1) / pairs
