"""What a model draws of captions turned into whether it redraws those pictures that it was trained on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet, directions
from bespoke.evaluation.memorisation import Neighbour
from bespoke.evaluation.significance import Estimate, Labels, Values

Alike = Float[np.ndarray, "drawn own"]
LEAST = 10
"""With fewer captions of pictures that were held back, what a caption alone brings about cannot be told."""
NUDGE = 1e-12


@dataclass(frozen=True)
class Asked:
    """What was drawn of some captions, and the person's pictures that have these captions."""

    drawn: FeatureSet
    of: Labels
    """The number of each drawn picture's caption, from 0; every caption was drawn equally often."""
    own: FeatureSet
    said: Labels
    """The number of each of the person's pictures' caption."""


@dataclass(frozen=True)
class Membership:
    """How well a model's pictures tell training captions from captions of pictures that it never saw."""

    auc: Estimate
    """The chance that a training caption's pictures are more like its own one than an unseen caption's are like its:
    0.5 for a model that learnt nothing by heart, 1 for one that redraws its training pictures."""
    usual: float
    """The likeness to its own picture that half of the unseen captions reach."""
    most: float
    """The largest likeness among them."""
    nearest: tuple[Neighbour, ...]
    """Of each training caption the drawn picture that is most like its own, and that one; the most alike first."""


def membership(training: Asked, held_back: Asked, *, level: float = 0.95) -> Membership:
    """Whether captions of training pictures lead nearer to their pictures than captions of unseen ones to theirs.

    A caption that says much of a picture leads near it, learnt by heart or not; so the same model is asked for pictures
    that it never saw. A caption's likeness is the mean over all that was drawn of it.
    Source: Carlini et al. 2023, "Extracting Training Data from Diffusion Models" (asking for training captions);
    Shokri et al. 2017, "Membership Inference Attacks", for the question whether one can tell what was trained on.

    Raises: BespokeError when there are fewer than 10 captions of held-back pictures, or features are broken.
    """
    learnt, unseen = _cosines(training), _cosines(held_back)
    known, fresh = _likeness(learnt, training.of), _likeness(unseen, held_back.of)
    if len(fresh) < LEAST:
        raise BespokeError(
            f"{len(fresh)} captions of pictures that were held back were drawn, and at least {LEAST} are needed.",
            "Give a folder of captioned pictures that no training saw: --reference FOLDER.",
        )
    note = f"rests on {len(known)} training captions and {len(fresh)} of pictures that were held back"
    value, low, high = superiority(known, fresh, level=level)
    nearest = tuple(sorted(_most_alike(learnt, training.of), key=lambda one: -one.similarity))
    most = max(one.similarity for one in _most_alike(unseen, held_back.of))
    return Membership(Estimate(value, low, high, note), float(np.median(fresh)), most, nearest)


def superiority(ones: Values, others: Values, *, level: float = 0.95) -> tuple[float, float, float]:
    """The chance that one of `ones` is larger than one of `others`, ties halved, and the ends of its interval.

    Source: Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part
    2", method 5: all chances whose own spread, as Hanley & McNeil 1982 have it, explains what was seen.
    """
    found = float(((np.sign(ones[:, None] - others[None, :]) + 1) / 2).mean())
    pairs, middle = len(ones) * len(others), (len(ones) + len(others)) / 2
    reach = float(stats.norm.ppf((1 + level) / 2))

    def beyond(true: float) -> float:
        spread = true * (1 - true) / pairs * (2 * middle - 1 - 3 * (middle - 1) / ((2 - true) * (1 + true)))
        return abs(found - true) - reach * spread**0.5

    # Just beside what was seen, for at 0 and 1 themselves nothing spreads.
    low = optimize.root_scalar(beyond, bracket=(0.0, found - NUDGE)).root if found > 0 else 0.0
    high = optimize.root_scalar(beyond, bracket=(found + NUDGE, 1.0)).root if found < 1 else 1.0
    return found, float(low), float(high)


def _likeness(alike: Alike, of: Labels) -> Values:
    """Of each caption how alike what was drawn of it is, in the mean, to the own picture that each is most like."""
    return np.bincount(of, alike.max(axis=1)) / np.bincount(of)


def _most_alike(alike: Alike, of: Labels) -> list[Neighbour]:
    """Of each caption the drawn picture and the own one that are most alike."""
    found: list[Neighbour] = []
    for caption in range(int(of.max()) + 1):
        rows = np.flatnonzero(of == caption)
        picture, own = np.unravel_index(int(alike[rows].argmax()), (len(rows), alike.shape[1]))
        found.append(Neighbour(int(rows[picture]), int(own), float(alike[rows[picture], own])))
    return found


def _cosines(asked: Asked) -> Alike:
    """How alike drawn and own pictures are; −1 where they are not of one caption."""
    alike = directions(asked.drawn, "pictures") @ directions(asked.own, "your pictures").T / asked.drawn.shape[1]
    return np.where(asked.of[:, None] == asked.said[None, :], alike, -1.0)
