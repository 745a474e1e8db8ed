"""Features of both models' pictures turned into a scorecard: scores with intervals, and a verdict in words."""

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from bespoke.evaluation.alignment import agreement
from bespoke.evaluation.distances import kid, kid_gain_interval, kid_interval
from bespoke.evaluation.features import FeatureSet, directions
from bespoke.evaluation.significance import (
    Difference,
    Ratio,
    Values,
    mean_interval,
    paired_difference,
    ratio_interval,
)
from bespoke.records import Score

ENOUGH = 50
"""Below so many pictures a distance is rough, and says so."""
DOMAIN, GENERAL = "agreement_reference", "agreement_general"


@dataclass(frozen=True)
class Judgement:
    """One question that was to be answered; `ok` is None where the measurements cannot tell."""

    question: str
    answer: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Scorecard:
    """The scores of both models under equal names, and what tuning changed, over pairs of pictures."""

    extractor: str
    base: dict[str, Score]
    tuned: dict[str, Score]
    labels: dict[str, str]
    """What each score is called for people."""
    kid_ratio: Ratio
    """The tuned model's distance to the references as a part of the base's."""
    domain_agreement_ratio: Ratio
    general_agreement_ratio: Ratio
    domain_agreement_change: Difference
    general_agreement_change: Difference

    @property
    def distance(self) -> str:
        """The name of the distance: it says on whose features it is, for others give other figures."""
        return _distance_name(self.extractor)

    @property
    def intervals_apart(self) -> bool:
        """Whether the intervals of both models' distances have nothing in common."""
        base, tuned = self.base[self.distance], self.tuned[self.distance]
        return tuned.high < base.low or base.high < tuned.low

    def verdict(self, max_distance_ratio: float, max_agreement_loss: float) -> tuple[Judgement, ...]:
        """The three questions of a tuning, answered by the margins that were set before it."""
        least = 1 - max_agreement_loss
        domain, general = self.domain_agreement_ratio, self.general_agreement_ratio
        return (
            self._closer(max_distance_ratio),
            self._follows("Still follows the domain's prompts?", DOMAIN, domain, self.domain_agreement_change, least),
            self._follows("Still follows plain prompts?", GENERAL, general, self.general_agreement_change, least),
        )

    def to_json(self) -> dict[str, Any]:
        """The scorecard as a report holds it; what could not be told is null, for JSON knows no infinity."""
        changes = {"domain": self.domain_agreement_change, "general": self.general_agreement_change}
        ratios = {
            "kid_ratio": self.kid_ratio,
            "domain_agreement_ratio": self.domain_agreement_ratio,
            "general_agreement_ratio": self.general_agreement_ratio,
        }
        return {
            "extractor": self.extractor,
            "base": {name: score.to_json() for name, score in self.base.items()},
            "tuned": {name: score.to_json() for name, score in self.tuned.items()},
            "labels": self.labels,
            **{name: _ratio_to_json(ratio) for name, ratio in ratios.items()},
            **{f"{name}_agreement_change": asdict(change) for name, change in changes.items()},
            "intervals_apart": self.intervals_apart,
        }

    def _closer(self, most: float) -> Judgement:
        value, low, high = self.kid_ratio
        base, tuned = self.base[self.distance], self.tuned[self.distance]
        intervals = "do not overlap" if self.intervals_apart else "overlap"
        detail = (
            f"{self.labels[self.distance]}, to your pictures: base {_with_interval(base)}, "
            f"tuned {_with_interval(tuned)}. The two intervals {intervals}. "
            f"That is {_share(self.kid_ratio)} of the base's distance; asked for was at most {_percent(most)}."
            f"{_sentence(tuned.note)}"
        )
        if value <= most and self.intervals_apart:
            answer, ok = "yes", True
        elif low > most:
            answer, ok = ("closer, but less than asked" if high < 1 else "no"), False
        else:
            answer, ok = ("closer, but perhaps less than asked" if high < 1 else "cannot tell"), None
        return Judgement("Closer to your pictures?", answer, ok, detail)

    def _follows(self, question: str, name: str, ratio: Ratio, change: Difference, least: float) -> Judgement:
        _, low, high = ratio
        detail = (
            f"{self.labels[name]}: base {_with_interval(self.base[name])}, tuned {_with_interval(self.tuned[name])}. "
            f"That is {_share(ratio)} of the base's agreement; asked for was at least {_percent(least)}. "
            f"Mean change over {self.tuned[name].count} pairs: {_number(change.mean)} "
            f"({_number(change.low)} to {_number(change.high)}, p = {change.p:.2g})."
        )
        if low >= least:
            answer, ok = "yes", True
        elif high < least:
            answer, ok = "no", False
        else:
            answer, ok = "cannot tell", None
        return Judgement(question, answer, ok, detail)


def scorecard(
    *,
    reference: FeatureSet,
    base_domain: FeatureSet,
    tuned_domain: FeatureSet,
    domain_texts: FeatureSet,
    base_general: FeatureSet,
    tuned_general: FeatureSet,
    general_texts: FeatureSet,
    extractor: str,
    seed: int = 0,
) -> Scorecard:
    """The scorecard of a tuned model against its base: row i of both has the same prompt, text and seed.

    `reference` are the person's pictures, best those that were not trained on; `domain` pictures are drawn from prompts
    for them, `general` ones from plain prompts. `extractor` names the network that made all features: "pico-CLIP".

    Raises:
        BespokeError: a set has fewer than two pictures or broken features, or sets do not fit together.
    """
    sets = (reference, base_domain, tuned_domain)
    reference, base_set, tuned_set = (directions(features, "pictures") for features in sets)
    base_follows = {DOMAIN: agreement(base_domain, domain_texts), GENERAL: agreement(base_general, general_texts)}
    tuned_follows = {DOMAIN: agreement(tuned_domain, domain_texts), GENERAL: agreement(tuned_general, general_texts)}
    ratios = {name: ratio_interval(base_follows[name], tuned_follows[name], seed=seed) for name in base_follows}
    changes = {name: paired_difference(base_follows[name], tuned_follows[name], seed=seed) for name in base_follows}
    return Scorecard(
        extractor,
        _scores(base_set, reference, base_follows, extractor, seed),
        _scores(tuned_set, reference, tuned_follows, extractor, seed),
        {
            _distance_name(extractor): f"KID on {extractor} features",
            DOMAIN: f"Agreement with the domain's prompts ({extractor})",
            GENERAL: f"Agreement with plain prompts ({extractor})",
        },
        kid_gain_interval(base_set, tuned_set, reference, seed=seed),
        ratios[DOMAIN],
        ratios[GENERAL],
        changes[DOMAIN],
        changes[GENERAL],
    )


def _distance_name(extractor: str) -> str:
    return f"kid_{re.sub('[^a-z0-9]+', '_', extractor.lower()).strip('_')}_reference"


def _scores(
    drawn: FeatureSet, reference: FeatureSet, follows: dict[str, Values], extractor: str, seed: int
) -> dict[str, Score]:
    count = min(len(drawn), len(reference))
    note = f"rests on only {count} pictures ({len(drawn)} drawn, {len(reference)} of yours)" if count < ENOUGH else ""
    name = _distance_name(extractor)
    low, high = kid_interval(drawn, reference, seed=seed)
    distance = Score(name, kid(drawn, reference), low, high, count, "lower", note)
    return {name: distance} | {name: _mean(name, values, seed) for name, values in follows.items()}


def _mean(name: str, values: Values, seed: int) -> Score:
    return Score(name, float(values.mean()), *mean_interval(values, seed=seed), len(values))


def _ratio_to_json(ratio: Ratio) -> dict[str, float | None]:
    return {
        key: value if math.isfinite(value) else None for key, value in zip(("value", "low", "high"), ratio, strict=True)
    }


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> str:
    return f"{100 * value:z.1f} %".replace(".0 %", " %").replace("-", "\N{MINUS SIGN}")


def _with_interval(score: Score) -> str:
    return f"{_number(score.value)} ({_number(score.low)} to {_number(score.high)})"


def _share(ratio: Ratio) -> str:
    value, low, high = ratio
    if not math.isfinite(value):
        return "an unknown part (the base's own cannot be told from nothing)"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{_percent(value)} (interval unbounded: the base's own can hardly be told from nothing)"
    return f"{_percent(value)} ({_percent(low)} to {_percent(high)})"


def _sentence(note: str) -> str:
    return f" It {note}." if note else ""
