"""Days of served pictures turned into readings of each figure against a reference, and into alarms that seldom lie."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from scipy import stats

from bespoke.errors import BespokeError
from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.significance import Values
from bespoke.feedback.cusum import Sums, allowance, simulated_limit
from bespoke.feedback.shifts import moved
from bespoke.feedback.twosample import apart

Of = Literal["pictures", "prompts", "service"]
Rang = Literal["", "at once", "over days"]
ENOUGH = 20
"""A permutation test stops at so many divisions as far apart as what was found: nothing has changed then."""
RESOLVED = 2
"""So many times finer than the level of an alarm is the finest p that a permutation test can find."""
LEAST = 2
SURE = 0.999
"""The largest p that counts as a score."""


@dataclass(frozen=True)
class Figure:
    """One figure that is watched."""

    name: str
    label: str
    of: Of
    """What moved if it moved: what the model draws, what people ask for, or how the service does."""
    explanation: str


FIGURES = (
    Figure("pictures", "pictures as a whole", "pictures", "How far the pictures' features lie from the reference's."),
    Figure("agreement", "agreement with prompts", "pictures", "How well pictures show what was asked for, 0 to 100."),
    Figure("likeness", "likeness to your pictures", "pictures", "The mean cosine to the references."),
    Figure("saturation", "saturation", "pictures", "How strong colours are, 0 to 1."),
    Figure("clipped", "burnt-out values", "pictures", "The part of values that are black or full, 0 to 1."),
    Figure("high_frequency", "finest detail", "pictures", "The part of power in the finest detail, 0 to 1."),
    Figure("flagged", "found unsafe", "pictures", "The share that the safety checker made black."),
    Figure("prompts", "prompts as a whole", "prompts", "How far the prompts' features lie from the reference's."),
    Figure("prompt_length", "tokens of prompts", "prompts", "How long prompts are."),
    Figure("unknown_words", "unknown words", "prompts", "The share of a prompt's words that are no single token."),
    Figure("seconds", "seconds a picture", "service", "How long a picture took."),
)
BY_NAME = {figure.name: figure for figure in FIGURES}


@dataclass(frozen=True)
class Window:
    """What was measured of the pictures of a day, or of the few days that had enough of them together."""

    day: str
    """The last of its days, as 2026-11-29."""
    features: Mapping[str, FeatureSet] = field(default_factory=dict[str, FeatureSet])
    """Of pictures and prompts, one row a picture: by the name of the figure."""
    values: Mapping[str, Values] = field(default_factory=dict[str, Values])
    """One number a picture: by the name of the figure."""

    def names(self) -> list[str]:
        """The figures that can be watched."""
        there = {name for name, rows in (*self.features.items(), *self.values.items()) if len(rows) >= LEAST}
        return [figure.name for figure in FIGURES if figure.name in there]


@dataclass(frozen=True)
class Budget:
    """How many false alarms are allowed, over all figures together."""

    false_alarms: float = 0.5
    """So many are expected at most..."""
    days: int = 200
    """...in so many days, if nothing changes."""

    def level(self, figures: int) -> float:
        """The p at which one of so many figures rings at once: half of what is allowed, shared equally (Bonferroni)."""
        return self.false_alarms / 2 / self.days / figures

    def chance(self, figures: int) -> float:
        """How often one figure's chart may ring in `days` days: the other half, shared equally."""
        return min(1.0, self.false_alarms / 2 / figures)


@dataclass(frozen=True)
class Reading:
    """One figure on one day."""

    figure: str
    value: float
    """The day's mean; of features their MMD² to the reference's."""
    usual: float
    """The reference's mean; of features 0."""
    count: int
    """So many pictures of the day."""
    p: float
    """How often chance alone makes it as different."""
    score: float
    """The day in standard errors."""
    sums: Sums
    """The chart after this day."""
    k: float
    h: float
    """The chart's limit."""
    psi: float | None = None
    psi_by_chance: float | None = None
    rang: Rang = ""

    @property
    def words(self) -> str:
        """What the figure did, for a person to read."""
        figure = BY_NAME[self.figure]
        if self.figure in ("pictures", "prompts"):
            return f"{figure.label}: other than in the reference (p {self.p:.2g})"
        way = "rose" if (self.sums.high >= self.sums.low if self.rang == "over days" else self.score > 0) else "fell"
        return f"{figure.label} {way}: {self.value:.4g}, usually {self.usual:.4g}"


class Watch:
    """A reference, and the charts of its figures, which go on from day to day.

    Two kinds of alarm share the allowed ones. A day rings *at once* whose p (permutations for features, Fisher's or
    Kolmogorov–Smirnov's test for numbers) is below Bonferroni's level. *Over days* the CUSUM of daily scores rings,
    whose limit is simulated with the reference's own luck in it. By linearity the expected number of false alarms
    keeps what is allowed, however the figures hang together (`docs/decisions/0016-alarms-from-a-budget.md`).
    """

    def __init__(
        self, reference: Window, budget: Budget | None = None, sums: Mapping[str, Sums] | None = None, *, seed: int = 0
    ) -> None:
        """`sums` are the charts as an earlier watch of the same reference left them.

        Raises: BespokeError when the reference has nothing to watch.
        """
        self.reference, self.budget, self.figures = reference, budget or Budget(), reference.names()
        if not self.figures:
            raise BespokeError("There is nothing to compare with: the reference has no two pictures.", "Wait for some.")
        self.sums = {name: (sums or {}).get(name, Sums()) for name in self.figures}
        self._seed = seed

    @property
    def level(self) -> float:
        """The p at which a figure rings at once."""
        return self.budget.level(len(self.figures))

    def read(self, window: Window) -> tuple[Reading, ...]:
        """The day's readings, of those figures that both it and the reference have; charts that rang begin anew."""
        return tuple(self._read(name, window) for name in window.names() if name in self.sums)

    def _read(self, name: str, window: Window) -> Reading:
        found = self._of_features(name, window) if name in window.features else self._of_values(name, window)
        at_once = found.p <= self.level
        rang: Rang = "at once" if at_once else "over days" if found.sums.beyond(found.h) else ""
        self.sums[name] = Sums() if found.sums.beyond(found.h) else found.sums
        return replace(found, rang=rang)

    def _of_features(self, name: str, window: Window) -> Reading:
        x, y = self.reference.features[name], window.features[name]
        draws = math.ceil(RESOLVED / self.level)
        found = apart(x, y, draws=draws, enough=ENOUGH, seed=self._seed)
        score, (k, h) = float(stats.norm.isf(min(found.p, SURE))), self._chart(len(x), len(y))
        # Nearer than usual is no drift.
        sums = self.sums[name].after(score, k)._replace(low=0.0)
        return Reading(name, found.distance, 0.0, len(y), found.p, score, sums, k, h)

    def _of_values(self, name: str, window: Window) -> Reading:
        x, y = self.reference.values[name], window.values[name]
        found, (k, h) = moved(x, y), self._chart(len(x), len(y))
        sums = self.sums[name].after(found.score, k)
        return Reading(
            name, found.value, found.usual, len(y), found.p, found.score, sums, k, h, found.psi, found.psi_by_chance
        )

    def _chart(self, of_reference: int, of_day: int) -> tuple[float, float]:
        """The allowance and the limit, for how much of a score's spread is the reference's own."""
        share = round(of_day / (of_day + of_reference), 2)
        chance = self.budget.chance(len(self.figures))
        k = round(allowance(share, chance), 6)
        return k, simulated_limit(self.budget.days, chance, share, k)


def advice(readings: tuple[Reading, ...], canaries: Literal["", "same", "other bits", "changed"] = "") -> Iterator[str]:
    """What to do about the alarms of a day, most pressing first; `canaries` is what became of the worst of them."""
    moved = {BY_NAME[one.figure].of for one in readings if one.rang}
    if canaries == "changed":
        yield (
            "The canaries changed: the same prompts and seeds no longer give the same pictures. The model's files, its "
            "settings or its libraries are other than before. Compare them, and roll back: bespoke models rollback."
        )
    elif "pictures" in moved:
        yield _of_pictures(canaries, also_prompts="prompts" in moved)
    if "prompts" in moved and "pictures" not in moved:
        yield (
            "People ask for other things than before, and the pictures hold so far. Look at the new prompts; if they "
            "stay, add pictures and words of their kind, and train anew."
        )
    if "service" in moved:
        yield "Pictures take another time than before. Look at the queue, the batches and what else the machine does."
    if canaries == "other bits":
        yield (
            "The canaries differ in bits only: another processor, library or order of arithmetic. Nothing needs to be "
            "done; comparisons bit by bit with older pictures do not hold any more."
        )


def _of_pictures(canaries: str, *, also_prompts: bool) -> str:
    if canaries in ("same", "other bits"):
        cause = "what people ask for moved, too" if also_prompts else "so look at the settings that requests bring"
        return f"The pictures changed, but the canaries did not: the model is the same; {cause}."
    if also_prompts:
        return (
            "Pictures and prompts changed together: most likely people ask for other things. Draw canaries to be sure "
            "that the model did not change."
        )
    return (
        "The pictures changed and the prompts did not: suspect the model, its settings or its libraries. Compare the "
        "version with the one before (bespoke evaluate) and roll back if it is worse: bespoke models rollback."
    )
