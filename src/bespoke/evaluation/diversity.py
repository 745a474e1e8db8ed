"""Features or judgements of one set of pictures turned into how many kinds of pictures it holds."""

import numpy as np

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet, directions, measurable
from bespoke.evaluation.significance import (
    Estimate,
    Groups,
    Labels,
    LeftOut,
    Values,
    blocks,
    jackknife,
    members,
    number_of,
)
from bespoke.evaluation.spectra import eigenvalues, without_blocks

SCORE_ENOUGH = 5000
"""Below so many pictures an Inception Score is mostly its bias."""


def vendi(features: FeatureSet) -> float:
    """The Vendi score, from 1 (all alike) to the number of pictures (all at right angles): how many kinds there are.

    The exponential of the entropy of the eigenvalues of the cosines' matrix, divided by the number of pictures. It
    grows with that number, so compare equally many.
    Source: Friedman & Dieng 2023, "The Vendi Score", definition 3.1.

    Raises:
        BespokeError: there are no pictures, a feature is no finite number, or a row is nothing but zeros.
    """
    return _kinds(eigenvalues(_unit(features)) / len(features))


def vendi_left_out(features: FeatureSet, blocks: Labels) -> LeftOut:
    """`vendi`, and without each block."""
    unit = _unit(features)
    without = [_kinds(squares / left) for left, squares in without_blocks(unit, blocks, centred=False)]
    return LeftOut(_kinds(eigenvalues(unit) / len(unit)), (np.array(without, np.float64),))


def inception_score(posteriors: FeatureSet, groups: Groups = None, *, seed: int = 0) -> Estimate:
    """The Inception Score, from 1 to the number of classes: how surely pictures are named, and how variously.

    `posteriors` are what a classifier gives each class of each picture. All pictures are taken as one split. It grows
    with their number, and sees only what the classes can name: of a model of one subject or style it tells nothing.
    Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4; interval as in `jackknife`.

    Raises:
        BespokeError: fewer than two pictures or groups, or a row that is no distribution.
    """
    posteriors = _distributions(posteriors)
    of = blocks(len(posteriors), members(len(posteriors), groups), seed=seed)
    sure = -_entropies(posteriors)
    kept = [of != block for block in range(number_of(of))]
    without = np.array([_score(posteriors[those], sure[those]) for those in kept], np.float64)
    found = LeftOut(_score(posteriors, sure), (without,))
    low, high = jackknife(found)
    count = len(posteriors)
    note = f"means little below {SCORE_ENOUGH} pictures and rests on {count}" if count < SCORE_ENOUGH else ""
    return Estimate(found.value, max(low, 1.0), high, note)


def _unit(features: FeatureSet) -> FeatureSet:
    if not len(features):
        raise BespokeError("There are no pictures whose variety could be measured.", "Draw pictures first.")
    return directions(features, "pictures") / np.sqrt(features.shape[1])


def _kinds(shares: Values) -> float:
    return float(np.exp(_entropies(shares[None])[0]))


def _entropies(shares: FeatureSet) -> Values:
    """The entropy of each row, in nats; a share of nothing adds nothing."""
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)


def _score(posteriors: FeatureSet, sure: Values) -> float:
    """The exponential of the mean divergence from the mean: of the mean's entropy less the mean entropy."""
    return float(np.exp(_entropies(posteriors.mean(axis=0)[None])[0] + sure.mean()))


def _distributions(posteriors: FeatureSet) -> FeatureSet:
    if len(posteriors) < 2:
        raise BespokeError(
            f"An Inception Score needs at least 2 pictures, and there are {len(posteriors)}.", "Draw more pictures."
        )
    posteriors = measurable(posteriors, "pictures")
    wrong = int(((posteriors < 0).any(axis=1) | (abs(posteriors.sum(axis=1) - 1) > 1e-3)).sum())
    if wrong:
        raise BespokeError(
            f"The classes of {wrong} of {len(posteriors)} pictures do not add up to 1.",
            "Give the classifier's probabilities (its softmax), not its logits.",
        )
    return posteriors / posteriors.sum(axis=1, keepdims=True)
