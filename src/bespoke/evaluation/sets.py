"""Sets of features that are to be compared: checked in words for the person, and how far their pictures lie apart."""

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet, check_pairs, measurable

SAME = 1e-12
"""Squared distances below this part of the squared lengths are rounding: the two pictures are the same."""


def comparable(x: FeatureSet, y: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    """Both sets in float64.

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or the sets' widths differ.
    """
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


def compared(base: FeatureSet, tuned: FeatureSet, reference: FeatureSet) -> tuple[FeatureSet, FeatureSet, FeatureSet]:
    """The pictures of both models and the references in float64; row i of both models has the same prompt and seed.

    Raises:
        BespokeError: as `comparable`, or the models' pictures are no pairs.
    """
    base, reference = comparable(base, reference)
    tuned, _ = comparable(tuned, reference)
    check_pairs(len(base), len(tuned))
    return base, tuned, reference


def squared_distances(x: FeatureSet, y: FeatureSet) -> FeatureSet:
    """The squared Euclidean distance of each row of x (down) to each of y (across); exactly 0 between equal rows."""
    lengths = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    found = lengths - 2 * (x @ y.T)
    found[found < SAME * lengths] = 0
    return found
