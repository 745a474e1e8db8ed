"""A scorecard turned into answers, by margins that were set before the training."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bespoke.evaluation.scorecard import Row, Scorecard
from bespoke.evaluation.significance import Change, Ratio
from bespoke.records import Score

DOMAIN, GENERAL, COMPLEX = "agreement_reference", "agreement_general", "agreement_complex"
COPIES, REDRAWN, LOOK = "copy_rate", "membership_auc", "look_"


@dataclass(frozen=True)
class Margins:
    """What was asked for before the training."""

    max_distance_ratio: float
    """The distance to the references, as a part of the control's, that counts as done."""
    max_agreement_loss: float
    """How much of the agreement with prompts may be lost."""
    max_copy_rate: float
    """The share of pictures that may be copies of training pictures."""
    max_membership: float
    """How often training captions may be told from unseen ones by what is drawn of them."""


@dataclass(frozen=True)
class Judgement:
    """One question that was to be answered; `ok` is None where the measurements cannot tell."""

    question: str
    answer: str
    ok: bool | None
    detail: str
    name: str = ""
    """The score that it rests on, empty where that was not measured."""


def verdict(card: Scorecard, model: str, margins: Margins) -> tuple[Judgement, ...]:
    """What a tuned model's scores say about what was asked for; what was not measured is not judged."""
    asked: tuple[tuple[str, Callable[[Row], Judgement]], ...] = (
        (card.distance, lambda row: _closer(row, card.control, model, margins.max_distance_ratio)),
        (DOMAIN, lambda row: _follows("Still follows the domain's prompts?", row, card.control, model, margins)),
        (GENERAL, lambda row: _follows("Still follows plain prompts?", row, card.control, model, margins)),
        (COMPLEX, lambda row: _follows("Still follows prompts that say much?", row, card.control, model, margins)),
        (COPIES, lambda row: _copies(row, card.control, model, margins.max_copy_rate)),
        (REDRAWN, lambda row: _redraws(row, card.control, model, margins.max_membership)),
    )
    found = [judge(card[name]) for name, judge in asked if name in card]
    looks = [row for row in card.rows if row.name.startswith(LOOK)]
    return (*found, *([_burnt(looks, model)] if looks else []))


def _closer(row: Row, control: str, model: str, most: float) -> Judgement:
    """Whether the distance is at most `most` of the control's, and both intervals apart."""
    change, base, tuned = row.changes[model], row.scores[control], row.scores[model]
    value, low, high = change.ratio
    apart = tuned.high < base.low or base.high < tuned.low
    detail = (
        f"{row.label}, to your pictures: {control} {with_interval(base)}, {model} {with_interval(tuned)}. "
        f"The two intervals {'do not overlap' if apart else 'overlap'}. "
        f"That is {share(change.ratio)} of the first's distance; asked for was at most {percent(most)}."
        f"{_chance(change)}{_sentence(tuned.note)}"
    )
    way = f": {percent(1 - high)} to {percent(1 - low)} of the way" if 0 <= low <= high < 1 else ""
    if value <= most and apart:
        answer, ok = f"yes{way}", True
    elif low > most:
        answer, ok = (f"closer, but less than asked{way}" if high < 1 else "no"), False
    else:
        answer, ok = (f"closer, but perhaps less than asked{way}" if high < 1 else "cannot tell"), None
    return Judgement("Closer to your pictures?", answer, ok, detail, row.name)


def _follows(question: str, row: Row, control: str, model: str, margins: Margins) -> Judgement:
    change, least = row.changes[model], 1 - margins.max_agreement_loss
    _, low, high = change.ratio
    detail = (
        f"{row.label}: {control} {with_interval(row.scores[control])}, {model} {with_interval(row.scores[model])}. "
        f"That is {share(change.ratio)} of the first's agreement; asked for was at least {percent(least)}. "
        f"Mean change over {row.scores[model].count} pairs: {number(change.difference)} "
        f"({number(change.low)} to {number(change.high)}).{_chance(change)}"
    )
    answer, ok = ("yes", True) if low >= least else ("no", False) if high < least else ("cannot tell", None)
    return Judgement(question, answer, ok, detail, row.name)


def _copies(row: Row, control: str, model: str, most: float) -> Judgement:
    """Whether more pictures than allowed come nearer to training pictures than held back ones do."""
    return _rate("Copies training pictures?", "{} of its pictures", row, control, model, most)


def _redraws(row: Row, control: str, model: str, most: float) -> Judgement:
    """Whether training captions lead nearer to their pictures than unseen captions to theirs, more than allowed."""
    question = "Redraws training pictures when asked with their captions?"
    return _rate(question, "nearer to them than to unseen ones {} of the time", row, control, model, most)


def _rate(question: str, much: str, row: Row, control: str, model: str, most: float) -> Judgement:
    base, tuned, change = row.scores[control], row.scores[model], row.changes[model]
    detail = (
        f"{row.label}: {control} {_shares(base)}, {model} {_shares(tuned)}; at most {percent(most)} were allowed. "
        f"The first never saw the training pictures.{_sentence(tuned.note)}"
    )
    if tuned.high <= most:
        answer, ok = "no", True
    elif tuned.low > most and change.low > 0:
        answer, ok = f"yes: {much.format(percent(tuned.value))}", False
    elif tuned.value <= most:
        answer, ok = "hardly", True if change.low <= 0 else None
    else:
        answer, ok = "cannot tell", None
    return Judgement(question, answer, ok, detail, row.name)


def _burnt(rows: list[Row], model: str) -> Judgement:
    """Whether pictures go beyond the references and the control in what over-training drives up."""
    said = [row for row in rows if row.scores[model].note]
    question = "Over-trained, to judge by how its pictures look?"
    words = " ".join(row.scores[model].note for row in said)
    within = "Colour, contrast and detail stay within the spread of your own pictures or of the first model's."
    return Judgement(question, "yes" if said else "no", not said, words or within, said[0].name if said else LOOK)


def _chance(change: Change) -> str:
    if change.p is None:
        return ""
    corrected = change.corrected
    more = f", {corrected:.2g} corrected for all that is judged" if corrected is not None else ""
    return f" p = {change.p:.2g}{more}."


def number(value: float) -> str:
    """The number with three digits and a real minus sign."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def percent(value: float) -> str:
    """The share in per cent, with one decimal where there is something in it."""
    return f"{100 * value:z.1f} %".replace(".0 %", " %").replace("-", "\N{MINUS SIGN}")


def with_interval(score: Score) -> str:
    """The value and its interval."""
    return f"{number(score.value)} ({number(score.low)} to {number(score.high)})"


def share(ratio: Ratio) -> str:
    """A ratio and its interval in per cent; in words where it cannot be told."""
    value, low, high = ratio
    if not math.isfinite(value):
        return "an unknown part (the base's own cannot be told from nothing)"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{percent(value)} (interval unbounded: the base's own can hardly be told from nothing)"
    return f"{percent(value)} ({percent(low)} to {percent(high)})"


def _shares(score: Score) -> str:
    return f"{percent(score.value)} ({percent(score.low)} to {percent(score.high)})"


def _sentence(note: str) -> str:
    return f" It {note}." if note and not note.endswith(".") else f" {note}" if note else ""
