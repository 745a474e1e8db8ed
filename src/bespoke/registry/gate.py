"""A version's scorecard turned into whether it may have an alias, and why: by a rule that was set before training.

Every limit is for the whole 95 % interval: a version passes only where all of it lies beyond the limit. So too few
pictures keep a version out, and never let it in.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bespoke.records import Score

GENERAL = "agreement_general"
DOMAIN = {"agreement_reference": "prompts in the style's words", "agreement_complex": "prompts that say much"}
COPIES, REDRAWN = "copy_rate", "membership_auc"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rule:
    """What a recipe's `[objective]` asks of a version."""

    min_improvement: float
    max_agreement_loss: float
    max_copy_rate: float
    max_membership: float
    licences: tuple[str, ...] = ()
    require_safety: bool = False


@dataclass(frozen=True)
class Measured:
    """What a scorecard says of one model against what it was tuned from."""

    distance: str
    """The name of the distance to the references."""
    scores: Mapping[str, Score]
    ratios: Mapping[str, tuple[float, float, float]]
    """By score: the model's as a part of its base's, with the interval of that."""
    protocol: Mapping[str, Any]
    """What was drawn and measured with: scorecards with another cannot be compared."""
    unmeasured: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Declared:
    """What base and pictures say of themselves."""

    base_licence: str = ""
    licences: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many pictures have each licence; `unknown` is one of them."""
    unsafe: int = 0
    """Pictures of which the dataset's rules say that they are unsafe."""
    safety_checker: bool = False


@dataclass(frozen=True)
class Check:
    """One question of the gate."""

    question: str
    ok: bool
    why: str


@dataclass(frozen=True)
class Decision:
    """What the gate says."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing stands against it."""
        return all(check.ok for check in self.checks)

    @property
    def refusals(self) -> list[str]:
        """What stands against it."""
        return [f"{check.question} {check.why}" for check in self.checks if not check.ok]


def measured(content: Mapping[str, Any], marks: Mapping[str, str | None]) -> Measured | None:
    """What a scorecard's JSON says of the model with these marks; nothing where it measured no such model."""
    model = next((name for name in content["changes"] if content.get("marks", {}).get(name) == dict(marks)), None)
    if model is None:
        return None
    scores = {name: Score(**one) for name, one in content["scores"][model].items()}
    ratios = {name: _ratio(change["ratio"]) for name, change in content["changes"][model].items()}
    return Measured(content["distance"], scores, ratios, content["protocol"], content["unmeasured"])


def _ratio(told: list[float | None]) -> tuple[float, float, float]:
    """The ratio with its ends, infinite where JSON could not tell them."""
    value, low, high = told
    return (
        math.nan if value is None else value,
        -math.inf if low is None else low,
        math.inf if high is None else high,
    )


def decide(
    candidate: Measured | None, champion: Measured | None, declared: Declared, rule: Rule, *, against: str = ""
) -> Decision:
    """Whether a version may have an alias; `against` is the champion's name, empty where it need not beat one."""
    said = _declared(declared, rule)
    if candidate is None:
        return Decision((Check("Measured?", ok=False, why="It has no scorecard."), *said))
    checks = [*_scored(candidate, rule), *said]
    if against:
        checks.insert(1, _beats(candidate, champion, rule, against))
    return Decision(tuple(checks))


def _scored(one: Measured, rule: Rule) -> Iterator[Check]:
    yield _better(one, rule)
    yield _below("Does it keep from copying?", one, COPIES, rule.max_copy_rate, "copies of training pictures")
    if REDRAWN in one.scores:
        words = "training captions that lead to their own pictures rather than unseen ones to theirs"
        yield _below("Does it keep from redrawing?", one, REDRAWN, rule.max_membership, words)
    yield _general(one, rule)
    for name, words in DOMAIN.items():
        if name in one.ratios:
            yield _domain(one, name, words, rule)


def _better(one: Measured, rule: Rule) -> Check:
    question, least = "Is it better than its base?", 1 - rule.min_improvement
    if one.distance not in one.ratios:
        return Check(question, ok=False, why="The distance to your pictures was not measured.")
    value, low, high = one.ratios[one.distance]
    if not math.isfinite(value):
        return Check(question, ok=False, why="The base's distance cannot be told from nothing, so no part of it can.")
    why = f"Its distance to your pictures is {_span(value, low, high)} of the base's; below {_percent(least)} is asked."
    return Check(question, ok=high < least, why=why)


def _beats(one: Measured, champion: Measured | None, rule: Rule, name: str) -> Check:
    """Whether the distance is smaller than the champion's by the margin, the whole interval of the difference.

    The interval of candidate − (1 − margin) · champion comes from those of both. That takes them for independent: over
    the same prompts and noises they go up and down together, so it is rather too wide.

    Source: Zou & Donner 2008, "Construction of confidence limits about effect measures" (MOVER).
    """
    question = f"Is it better than {name}?"
    if champion is None:
        return Check(question, ok=False, why=f"{name} has no scorecard to compare with.")
    if others := [what for what in sorted({*one.protocol, *champion.protocol}) if _differs(one, champion, what)]:
        words = f"The two scorecards cannot be compared: they differ in {', '.join(others)}. Evaluate both alike."
        return Check(question, ok=False, why=words)
    if one.distance not in one.scores or one.distance not in champion.scores:
        return Check(question, ok=False, why="The distance to your pictures was not measured of both.")
    mine, theirs, part = one.scores[one.distance], champion.scores[one.distance], 1 - rule.min_improvement
    value = mine.value - part * theirs.value
    high = value + math.hypot(mine.high - mine.value, part * (theirs.value - theirs.low))
    why = (
        f"Its distance is {mine.value:.3g} ({mine.low:.3g} to {mine.high:.3g}), {name}'s {theirs.value:.3g} "
        f"({theirs.low:.3g} to {theirs.high:.3g}); above {_percent(part)} of that by {value:.3g}, at most {high:.3g}: "
        "below 0 is asked."
    )
    return Check(question, ok=high < 0, why=why)


def _differs(one: Measured, other: Measured, what: str) -> bool:
    return one.distance != other.distance or one.protocol.get(what) != other.protocol.get(what)


def _below(question: str, one: Measured, name: str, most: float, words: str) -> Check:
    if name not in one.scores:
        return Check(question, ok=False, why=f"It was not measured.{_reason(one, question)}")
    score = one.scores[name]
    why = f"{_span(score.value, score.low, score.high)} {words}; below {_percent(most)} is asked."
    return Check(question, ok=score.high < most, why=why)


def _general(one: Measured, rule: Rule) -> Check:
    question, least = "Is general ability kept?", 1 - rule.max_agreement_loss
    if GENERAL not in one.ratios:
        why = "Plain prompts were not measured: name some in objective.keep_prompts."
        return Check(question, ok=False, why=why)
    value, low, high = one.ratios[GENERAL]
    why = f"{_span(value, low, high)} of the base's agreement with plain prompts; above {_percent(least)} is asked."
    return Check(question, ok=low > least, why=why)


def _domain(one: Measured, name: str, words: str, rule: Rule) -> Check:
    """Of the style's own prompts it is enough that nothing is known to be lost: the style itself costs some."""
    value, low, high = one.ratios[name]
    least = 1 - rule.max_agreement_loss
    why = f"{_span(value, low, high)} of the base's agreement; what is surely below {_percent(least)} is refused."
    return Check(f"Does it follow {words}?", ok=high >= least, why=why)


def _reason(one: Measured, question: str) -> str:
    known = [why for what, why in one.unmeasured.items() if "cop" in what.lower() and "cop" in question]
    return f" {known[0]}" if known else ""


def _declared(declared: Declared, rule: Rule) -> Iterator[Check]:
    pictures = sorted(declared.licences.items(), key=lambda pair: (-pair[1], pair[0]))
    found = [("the base", declared.base_licence or UNKNOWN), *((f"{n} pictures", name) for name, n in pictures)]
    told = "; ".join(f"{who}: {licence}" for who, licence in found)
    allowed = {plain(licence) for licence in rule.licences}
    refused = any(plain(licence) not in allowed for _, licence in found) if allowed else False
    asked = f"asked for are {', '.join(rule.licences)}" if allowed else "objective.licences asks for none"
    yield Check("Are the licences right?", ok=not refused, why=f"{told}; {asked}.")
    checker = "a safety checker" if declared.safety_checker else "no safety checker"
    why = f"The base has {checker}; pictures found unsafe: {declared.unsafe}."
    safe = declared.safety_checker and not declared.unsafe
    yield Check("Is it safe?", ok=safe or not rule.require_safety, why=why)


def plain(licence: str) -> str:
    """A licence's name as it can be compared: `CC BY-SA 2.0` and `cc-by-sa-2.0` are one."""
    return re.sub(r"[^a-z0-9+]+", "-", licence.lower()).strip("-")


def _span(value: float, low: float, high: float) -> str:
    return f"{_percent(value)} ({_end(low)} to {_end(high)})"


def _end(value: float) -> str:
    return _percent(value) if math.isfinite(value) else "unknown"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
