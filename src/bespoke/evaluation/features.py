"""What an extractor made of pictures or texts, turned into float64 features that are fit to be measured."""

import numpy as np
from jaxtyping import Float

from bespoke.errors import BespokeError

FeatureSet = Float[np.ndarray, "_ _"]
"""Features of any number of pictures or texts. That sizes agree is checked where sets meet, in words for the person."""


def measurable(features: FeatureSet, what: str) -> FeatureSet:
    """The features in float64: a difference of nearly equal sums is taken of them. `what` names them in errors.

    Raises:
        BespokeError: a feature is infinite or not a number.
    """
    broken = int((~np.isfinite(features)).any(axis=1).sum())
    if broken:
        raise BespokeError(
            f"{broken} of {len(features)} {what} have features that are no finite numbers.",
            "Compute the features in float32 and look at these pictures: black ones are often a model that diverged.",
        )
    return features.astype(np.float64)


def check_pairs(base: int, tuned: int) -> None:
    """Nothing, where both models have as many pictures: row i of both then has the same prompt and seed.

    Raises:
        BespokeError: they have not.
    """
    if base != tuned:
        raise BespokeError(
            f"The base model has {base} pictures and the tuned one {tuned}: they are no pairs.",
            "Draw both with the same prompts and seeds.",
        )


def directions(features: FeatureSet, what: str) -> FeatureSet:
    """The features scaled to length √d each, so that a·b/d is the cosine of two of them. `what` names them in errors.

    A CLIP is trained on cosines alone, so the length of its features means nothing (decision 0005).

    Raises:
        BespokeError: a feature is infinite or not a number, or a row is nothing but zeros.
    """
    features = measurable(features, what)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    empty = int((lengths == 0).sum())
    if empty:
        raise BespokeError(
            f"{empty} of {len(features)} {what} have features of zeros only, which have no direction.",
            "Look whether the extractor's weights were loaded.",
        )
    return features / lengths * np.sqrt(features.shape[1])
