"""Features of drawn, held-out and training pictures turned into how much a model copies what it was trained on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from bespoke.errors import BespokeError
from bespoke.evaluation.clusters import principal_axes
from bespoke.evaluation.features import FeatureSet, directions, measurable
from bespoke.evaluation.rates import QUANTILE, difference, limit, share
from bespoke.evaluation.significance import (
    Estimate,
    Groups,
    Values,
    drawn_groups,
    numbered,
    percentiles,
)

Rows = Int[np.ndarray, "_"]
Measure = Literal["cosine", "euclidean"]
"""What two pictures' similarity is: the cosine of their features, or minus their distance."""
DOUBTFUL = 0.25
"""A held-out picture this much nearer to a training one than held-out pictures usually are is taken for its copy."""
DIMENSIONS = 64
"""So many principal components at most are compared by C_T."""
PAIRS = 2**22
"""So many distances are in memory at a time."""


@dataclass(frozen=True)
class Neighbour:
    """A drawn picture's row, the row of the training picture nearest to it, and how alike they are."""

    picture: int
    training: int
    similarity: float


@dataclass(frozen=True)
class Copies:
    """The parts of both models' pictures that are nearer to a training picture than fresh pictures come to be."""

    threshold: float
    """A picture that is more similar than this to a training one counts as a copy."""
    chance: float
    """The part of fresh pictures that counts by chance."""
    chance_high: float
    """What that part may come to: the upper end of its interval, which is wide with few held-out pictures."""
    tuned: Estimate
    base: Estimate
    """The control: the base model never saw the training pictures."""
    change: Estimate
    """Tuned − base."""
    nearest: tuple[Neighbour, ...]
    """All the tuned model's pictures, the most alike first."""
    doubtful: tuple[int, ...]
    """Held-out pictures that are themselves taken for copies of training ones, and did not count."""
    note: str
    """What weakens the figures; empty where nothing does."""

    @property
    def suspects(self) -> tuple[Neighbour, ...]:
        """The tuned model's pictures that count as copies, the most alike first."""
        return tuple(one for one in self.nearest if one.similarity > self.threshold)


@dataclass(frozen=True)
class Memorisation:
    """All that tells whether the tuned model redraws its training pictures, beside what the base does."""

    copies: Copies
    authenticity: Estimate
    """The tuned model's; see `authenticity`."""
    base_authenticity: Estimate
    held_out_authenticity: Estimate
    """What fresh pictures have: this, not 1, is what a model that copies nothing comes to."""
    copying_z: Estimate
    """The tuned model's; see `copying_z`."""
    base_copying_z: Estimate


def memorisation(
    *,
    tuned: FeatureSet,
    base: FeatureSet,
    training: FeatureSet,
    held_out: FeatureSet,
    groups: Groups = None,
    measure: Measure = "cosine",
    seed: int = 0,
) -> Memorisation:
    """How much the tuned model copies, beside the base: row i of both has the same prompt and seed.

    `groups` tells which rows are of one prompt. With "cosine" all figures are of the features' directions.

    Raises:
        BespokeError: a set has too few pictures or broken features, sets do not fit together, or more than half of the
            held-out pictures are copies of training ones.
    """
    found = copies(tuned=tuned, base=base, training=training, held_out=held_out, groups=groups, measure=measure)
    # A cosine is a distance between directions, so that all figures are of the same features.
    tuned, base, training, held_out = _placed(
        measure, pictures=tuned, base=base, training=training, held_out=held_out
    ).values()
    return Memorisation(
        found,
        authenticity(tuned, training, groups),
        authenticity(base, training, groups),
        authenticity(held_out, training),
        copying_z(tuned, training, held_out, groups, seed=seed),
        copying_z(base, training, held_out, groups, seed=seed),
    )


def copies(
    *,
    tuned: FeatureSet,
    base: FeatureSet,
    training: FeatureSet,
    held_out: FeatureSet,
    groups: Groups = None,
    measure: Measure = "cosine",
    quantile: float = QUANTILE,
    level: float = 0.95,
) -> Copies:
    """The copy rates of both models by a threshold that pictures which the training never saw hardly ever reach.

    The threshold is the order statistic of the held-out pictures' similarities to training that a fresh picture
    exceeds with a chance of at most 1 − `quantile`; with too few held-out pictures for that (99 for 1 %) it is the
    largest, the chance is 1 in their number and one more, and the note says so. Held-out pictures that are copies of
    training ones would raise it: those at less than a quarter of the usual distance to training do not count.
    Source: Somepalli et al. 2023, "Diffusion Art or Digital Forgery?" (similarity to the nearest); Vovk, Gammerman &
    Shafer 2005, "Algorithmic Learning in a Random World", section 2.2 (the order statistic of equally likely ones).

    Raises:
        BespokeError: a set has too few pictures or broken features, sets do not fit together, or more than half of the
            held-out pictures are copies of training ones.
    """
    placed = _placed(measure, pictures=tuned, base=base, training=training, held_out=held_out)
    of_tuned, of_base = (numbered(len(placed[name]), groups) for name in ("pictures", "base"))
    nearest, distances = _nearest(placed["pictures"], placed["training"])
    _, base_distances = _nearest(placed["base"], placed["training"])
    doubtful, usual = _apart(_nearest(placed["held_out"], placed["training"])[1])
    reach, chance, chance_high = limit(usual, quantile, level)
    rates = share(distances < reach, of_tuned, level), share(base_distances < reach, of_base, level)
    order = np.argsort(distances, kind="stable")
    neighbours = (Neighbour(int(row), int(nearest[row]), _similarity(float(distances[row]), measure)) for row in order)
    return Copies(
        _similarity(reach, measure),
        chance,
        chance_high,
        *rates,
        difference(*rates),
        tuple(neighbours),
        tuple(doubtful.tolist()),
        _note(len(usual), len(doubtful), chance, 1 - quantile),
    )


def authenticity(pictures: FeatureSet, training: FeatureSet, groups: Groups = None, *, level: float = 0.95) -> Estimate:
    """The part of pictures that are further from their nearest training picture than that one is from the others.

    AuthPct is 100 times it. Pictures copied from training ones that come twice seem authentic as soon as they differ at
    all, so duplicates should be gone. Fresh pictures come to about a half: compare with that of held-out pictures.
    Source: Alaa et al. 2022, "How Faithful is your Synthetic Data?", the authenticity of a sample.

    Raises:
        BespokeError: a set has too few pictures or broken features, or the sets do not fit together.
    """
    placed = _placed("euclidean", pictures=pictures, training=training)
    nearest, distances = _nearest(placed["pictures"], placed["training"])
    copied, which = np.unique(nearest, return_inverse=True)
    _, among = _nearest(placed["training"][copied], placed["training"], copied)
    return share(among[which] < distances, numbered(len(pictures), groups), level)


def copying_z(
    pictures: FeatureSet,
    training: FeatureSet,
    held_out: FeatureSet,
    groups: Groups = None,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """C_T: whether pictures lie nearer to training than held-out ones do, in standard deviations of chance.

    About 0 for a model that copies nothing, below −3 for one that copies, above 3 for one that draws something else
    than was trained on. It is the z of Mann and Whitney's U over distances to the nearest training picture, along at
    most 64 principal components of training, over one cell: sets are too small to be cut. It grows with the number of
    pictures. The interval is a bootstrap of both sets, with the training pictures as they are.
    Source: Meehan, Chaudhuri & Dasgupta 2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models", the
    statistic Z_U.

    Raises:
        BespokeError: a set has too few pictures or broken features, or the sets do not fit together.
    """
    placed = _placed("euclidean", pictures=pictures, training=training, held_out=held_out)
    axes = principal_axes(placed["training"], DIMENSIONS)
    known = axes(placed["training"])
    of_pictures, fresh = (_nearest(axes(placed[name]), known)[1] for name in ("pictures", "held_out"))
    further = (np.sign(of_pictures[:, None] - fresh) + 1) / 2
    spread = _u_spread(of_pictures, fresh)
    drawn_pictures = drawn_groups(numbered(len(pictures), groups), draws, seed, "copying", "pictures")
    drawn_fresh = drawn_groups(numbered(len(fresh), None), draws, seed, "copying", "held-out")
    parts = ((drawn_pictures @ further) * drawn_fresh).sum(axis=1)
    parts /= drawn_pictures.sum(axis=1) * drawn_fresh.sum(axis=1)
    low, high = percentiles(parts, level)
    ends = (further.mean(), low, high)
    value, low, high = (float((part - 0.5) / spread) if spread else 0.0 for part in ends)
    return Estimate(value, low, high)


def _placed(measure: Measure, **sets: FeatureSet) -> dict[str, FeatureSet]:
    """The sets in float64, scaled to length 1 where cosines are asked for, after looking whether they fit together."""
    called = {name: name.replace("_", "-") + ("" if name == "pictures" else " pictures") for name in sets}
    for name, features in sets.items():
        if len(features) < 2:
            raise BespokeError(
                f"There are {len(features)} {called[name]}, and at least 2 are needed.",
                "Draw or add more pictures.",
            )
        if features.shape[1] != sets["training"].shape[1]:
            raise BespokeError(
                f"Features of {features.shape[1]} numbers cannot be compared with features of "
                f"{sets['training'].shape[1]}.",
                "Compute all sets with the same extractor.",
            )
    if measure == "euclidean":
        return {name: measurable(features, called[name]) for name, features in sets.items()}
    return {name: directions(features, called[name]) / features.shape[1] ** 0.5 for name, features in sets.items()}


def _nearest(pictures: FeatureSet, training: FeatureSet, itself: Rows | None = None) -> tuple[Rows, Values]:
    """The row of the training picture nearest to each picture, and its distance; the rows `itself` do not count."""
    nearest, squares = np.zeros(len(pictures), np.int64), (training**2).sum(axis=1)
    step = max(1, PAIRS // len(training))
    for start in range(0, len(pictures), step):
        rows = slice(start, start + step)
        far = squares - 2 * pictures[rows] @ training.T
        if itself is not None:
            far[np.arange(len(far)), itself[rows]] = np.inf
        nearest[rows] = far.argmin(axis=1)
    # From the difference itself, so that a copy is at distance 0 and not at what cancellation leaves.
    return nearest, np.linalg.norm(pictures - training[nearest], axis=1)


def _apart(distances: Values) -> tuple[Rows, Values]:
    """The held-out pictures that seem to be copies of training ones, and the distances of the others."""
    usual = float(np.median(distances))
    if usual == 0:
        raise BespokeError(
            "More than half of the held-out pictures are copies of training ones.",
            "Hold out other pictures: without such that the training never saw nothing tells a copy from a likeness.",
        )
    near = distances < DOUBTFUL * usual
    return np.flatnonzero(near), distances[~near]


def _similarity(distance: float, measure: Measure) -> float:
    return float(1 - distance**2 / 2 if measure == "cosine" else -distance)


def _note(held_out: int, doubtful: int, chance: float, asked: float) -> str:
    notes: list[str] = []
    if chance > asked + 1e-9:
        notes.append(
            f"The threshold rests on only {held_out} held-out pictures: by chance alone {100 * chance:.1f} % of fresh "
            f"pictures count as copies, not {100 * asked:.3g} %."
        )
    if doubtful:
        notes.append(f"{doubtful} held-out pictures look like copies of training ones and did not count.")
    return " ".join(notes)


def _u_spread(x: Values, y: Values) -> float:
    """The standard deviation of U / nm where both are of one distribution, with ties.

    Source: Hollander & Wolfe 1999, "Nonparametric Statistical Methods", section 4.1.
    """
    total = len(x) + len(y)
    ties = np.unique(np.concatenate([x, y]), return_counts=True)[1].astype(np.float64)
    return float(((total + 1 - (ties**3 - ties).sum() / (total * (total - 1))) / (12 * len(x) * len(y))) ** 0.5)
