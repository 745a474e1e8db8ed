"""What a detector found in sets of pictures, and what comparing it says, as records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bespoke.evaluation.clusters import Numbers
from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.significance import Ratio, Values

Mode = Literal["pooled", "matched"]
"""One codebook for all sets, or clusters of each set that are matched with those of the other."""


@dataclass(frozen=True)
class Crops:
    """The things of one class that a detector found in a set of pictures, one row for each."""

    features: FeatureSet
    pictures: Numbers
    """The number, from 0, of the picture that each thing is in."""
    confidences: Values
    """How sure the detector was of each."""


@dataclass(frozen=True)
class Things:
    """All that a detector found in a set of pictures."""

    crops: Mapping[str, Crops]
    """By class."""
    pictures: int
    """How many pictures it looked at, those without anything in them too."""


@dataclass(frozen=True)
class Divergence:
    """How far one histogram of things is from another, in nats."""

    kl: float
    """The Kullback–Leibler divergence as measured, 0 where both are equal; chance alone adds to it."""
    floor: float
    """95 % of what two sets come to that differ by chance alone, to compare `kl` with."""
    corrected: float
    """`kl` less what chance adds to it, at least 0."""
    low: float
    high: float
    """The interval of the corrected one."""
    js: float
    """The Jensen–Shannon divergence, 0 to ln 2: the same in both directions."""

    @property
    def told(self) -> bool:
        """Whether the sets differ by more than chance does."""
        return self.kl > self.floor


@dataclass(frozen=True)
class Divergences:
    """The three sets' things compared."""

    drift: Divergence
    """KL(base‖tuned): what tuning changed."""
    tuned: Divergence
    """KL(original‖tuned)."""
    base: Divergence
    """KL(original‖base): how far there was to go."""


@dataclass(frozen=True)
class ObjectClass:
    """The things of one class: how many each set has (original, base, tuned), and how they differ."""

    name: str
    counts: tuple[int, int, int]
    divergences: Divergences
    note: str


@dataclass(frozen=True)
class Facts:
    """What the detector found in one set of pictures."""

    pictures: int
    things: int
    per_picture: float
    confidence: float
    """The mean over things; not a number where there are none."""
    classes: Mapping[str, int]


@dataclass(frozen=True)
class Objects:
    """How the things in a tuned model's pictures differ from the base's and from the original pictures'."""

    mode: Mode
    classes: tuple[ObjectClass, ...]
    mean: Divergences | None
    """Over classes, each weighted by its share of the first set's things; none where no class has enough."""
    histogram: Divergences
    """Of how often each class occurs, and of pictures without anything: what vanished shows here."""
    domain_gain: Ratio
    """1 − KL(original‖tuned) / KL(original‖base), both less what chance adds, and the ends of its interval.

    1: the things are those of the original pictures; 0: no nearer than the base's; below 0: further away.
    """
    facts: Mapping[str, Facts]
    """Of "original", "base" and "tuned"."""
    left_out: Mapping[str, tuple[int, int, int]]
    """Classes of which a set has too few things, with how many each has."""
    note: str
    """What weakens the figures; empty where nothing does."""
