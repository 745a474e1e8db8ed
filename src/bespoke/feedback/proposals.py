"""What is known of a champion in use turned into whether to train anew, with reasons for and against in plain words.

Train anew = (drift, and enough use) or worse ratings or enough new pictures or age, unless nothing is new, people took
back what the dataset rests on, the last update is too recent or the budget is used up. More of any of the first never
turns a yes into a no, and none of them outweighs the latter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import floor, hypot
from typing import Literal

from bespoke.evaluation.preference import wilson
from bespoke.recipe.update import Update

About = Literal[
    "drift", "ratings", "predecessor", "flags", "new pictures", "age", "nothing new", "consent", "cool-down", "budget"
]
STEPS = "train.max_train_steps"
NEGLIGIBLE_HOURS = 1e-6


@dataclass(frozen=True)
class Heard:
    """What people say of one version."""

    model: str
    ups: int = 0
    thumbs: int = 0
    raters: int = 0
    flagged: int = 0
    kept: int = 0
    """Its pictures that were kept at any time: a part of those that were served."""


@dataclass(frozen=True)
class Facts:
    """What speaks for or against training a champion anew."""

    heard: Heard
    """The champion, and what is said of it."""
    days: float
    """Since it took over."""
    pictures: int
    """Those of the dataset that it was trained on."""
    before: Heard | None = None
    """The version that was champion before it."""
    alarms: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The figures of pictures and prompts that rang since then, by day."""
    fresh: int = 0
    """Pictures that its dataset did not have: in the project's now, or accepted from feedback."""
    accepted: int = 0
    """Those of them that are accepted, and not in the project's dataset yet."""
    gone: int = 0
    """Pictures that its dataset had and the project's has no more."""
    reworded: int = 0
    """Pictures with another caption than it learnt."""
    withdrawn: int = 0
    """Pictures in the project's dataset that their raters let be learnt from, and do not any more."""
    steps: int = 0
    """Of its training; 0 where its recipe counts otherwise."""
    hours: float | None = None
    """What training as long, and measuring it, takes; nothing where that is not known."""
    spent: float = 0.0
    """Hours that updates took in the days that the budget is for."""
    idle: float | None = None
    """Days since the last update, also a failed one; nothing where there was none."""

    @property
    def growth(self) -> float:
        """How many times as many pictures there are as the champion learnt from."""
        return (self.pictures - self.gone + self.fresh) / self.pictures


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for a training, or against it."""

    about: About
    words: str


@dataclass(frozen=True)
class Change:
    """One setting of the champion's recipe that is another in the update's."""

    key: str
    before: int
    now: int
    why: str


@dataclass(frozen=True)
class Cost:
    """What a training would take, in hours."""

    hours: float | None
    """Nothing where it is not known."""
    spent: float
    budget: float


@dataclass(frozen=True)
class Proposal:
    """Whether to train anew."""

    retrain: bool
    reasons_for: tuple[Reason, ...]
    reasons_against: tuple[Reason, ...]
    changes: tuple[Change, ...]
    """What the champion's recipe is changed by."""
    cost: Cost


def propose(facts: Facts, rule: Update) -> Proposal:
    """Whether to train a champion anew by what is known, with every reason."""
    asked, held = tuple(_asked(facts, rule)), tuple(_held(facts, rule))
    speak = tuple(reason for counts, reason in asked if counts)
    silent = tuple(reason for counts, reason in asked if not counts)
    against = tuple(reason for counts, reason in held if counts)
    changes, factor = _changes(facts, rule)
    hours = None if facts.hours is None else facts.hours * factor
    cost = Cost(hours, facts.spent, rule.budget_hours)
    return Proposal(bool(speak) and not against, speak, (*against, *silent), changes, cost)


def fall(now: Heard, before: Heard) -> tuple[float, float, float]:
    """How much larger the part of thumbs that are up is now, with its 95 % interval; each from −1 to 1.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    (mine, low, high), (theirs, least, most) = _share(now), _share(before)
    value = mine - theirs
    return value, value - hypot(mine - low, most - theirs), value + hypot(high - mine, theirs - least)


def _asked(facts: Facts, rule: Update) -> Iterator[tuple[bool, Reason]]:
    """What may be a reason to train, and whether it is one."""
    yield _drift(facts, rule)
    yield _liked(facts, rule)
    if facts.before is not None:
        yield _predecessor(facts, facts.before, rule)
    yield _flagged(facts, rule)
    yield _fresh(facts, rule)
    yield _age(facts, rule)


def _drift(facts: Facts, rule: Update) -> tuple[bool, Reason]:
    rang = len(facts.alarms)
    told = "; ".join(f"{day}: {', '.join(figures)}" for day, figures in sorted(facts.alarms.items())[-3:])
    words = (
        f"Drift rang on {rang} days since {facts.heard.model} took over{f' ({told})' if told else ''}; "
        f"{rule.alarm_days} are asked. {facts.heard.kept} of its pictures were kept; {rule.least_served} are asked."
    )
    return rang >= rule.alarm_days and facts.heard.kept >= rule.least_served, Reason("drift", words)


def _liked(facts: Facts, rule: Update) -> tuple[bool, Reason]:
    value, low, high = _share(facts.heard)
    if not facts.heard.thumbs:
        return False, Reason("ratings", f"Nobody rated {facts.heard.model}.")
    words = (
        f"{_percent(value)} of {facts.heard.model}'s {facts.heard.thumbs} thumbs are up ({_percent(low)} to "
        f"{_percent(high)}), from {facts.heard.raters} people; surely below {_percent(rule.least_liked)} counts"
        f"{_enough(rule)}."
    )
    return high < rule.least_liked and _heard(facts.heard, rule), Reason("ratings", words)


def _predecessor(facts: Facts, before: Heard, rule: Update) -> tuple[bool, Reason]:
    if not (facts.heard.thumbs and before.thumbs):
        return False, Reason("predecessor", f"Ratings of {facts.heard.model} and {before.model} cannot be compared.")
    value, low, high = fall(facts.heard, before)
    words = (
        f"{facts.heard.model} is liked by {100 * value:+.3g} points ({100 * low:+.3g} to {100 * high:+.3g}) against "
        f"{before.model}; surely below 0 counts{_enough(rule)}."
    )
    worse = high < 0 and _heard(facts.heard, rule) and _heard(before, rule)
    return worse, Reason("predecessor", words)


def _flagged(facts: Facts, rule: Update) -> tuple[bool, Reason]:
    heard = facts.heard
    low, high = wilson(heard.flagged, heard.kept)
    if not heard.kept:
        return False, Reason("flags", f"None of {heard.model}'s pictures were kept.")
    words = (
        f"{_percent(heard.flagged / heard.kept)} of {heard.kept} kept pictures were flagged ({_percent(low)} to "
        f"{_percent(high)}); surely above {_percent(rule.most_flagged)} counts."
    )
    return low > rule.most_flagged, Reason("flags", words)


def _fresh(facts: Facts, rule: Update) -> tuple[bool, Reason]:
    share = facts.fresh / facts.pictures
    words = (
        f"{facts.fresh} pictures are new ({facts.accepted} of them accepted from feedback), {_percent(share)} of the "
        f"{facts.pictures} that {facts.heard.model} was trained with; {_percent(rule.new_share)} are asked."
    )
    return share >= rule.new_share, Reason("new pictures", words)


def _age(facts: Facts, rule: Update) -> tuple[bool, Reason]:
    words = (
        f"{facts.heard.model} took over {facts.days:.0f} days ago; {rule.most_age_days} are asked, and a new picture."
    )
    return facts.days >= rule.most_age_days and facts.fresh > 0, Reason("age", words)


def _held(facts: Facts, rule: Update) -> Iterator[tuple[bool, Reason]]:
    """What may hold a training back, and whether it does."""
    same = not (facts.fresh or facts.gone or facts.reworded)
    words = (
        f"The dataset is that of {facts.heard.model}: the same recipe on the same pictures gives the same model. "
        "Add pictures, or accept some: bespoke feedback review."
    )
    yield same, Reason("nothing new", words)
    words = (
        f"{facts.withdrawn} pictures of the dataset rest on opinions that were taken back. Make it anew without them: "
        "bespoke feedback list names them."
    )
    yield facts.withdrawn > 0, Reason("consent", words)
    ago = f"{facts.idle:.1f} days ago" if facts.idle is not None else "never"
    words = f"The last update was tried {ago}; {rule.cool_down_days:g} days must lie between two."
    yield facts.idle is not None and facts.idle < rule.cool_down_days, Reason("cool-down", words)
    wanted = facts.spent + (facts.hours or 0.0)
    takes = f"another takes {_hours(facts.hours)}" if facts.hours is not None else "what another takes is not known"
    words = (
        f"Updates took {_hours(facts.spent)} in {rule.budget_days} days, and {takes}; {rule.budget_hours:g} hours may "
        "be used."
    )
    yield wanted > rule.budget_hours or facts.spent >= rule.budget_hours, Reason("budget", words)


def _changes(facts: Facts, rule: Update) -> tuple[tuple[Change, ...], float]:
    """What of the recipe changes, and how many times as long it takes then.

    As each picture is to be learnt from as often as before, more pictures take more steps; what the budget has no room
    for is left out, so that new pictures never keep an update from being made.
    """
    if not facts.steps or facts.hours is None:
        return (), 1.0
    room = max(1.0, (rule.budget_hours - facts.spent) / max(facts.hours, NEGLIGIBLE_HOURS))
    steps = floor(facts.steps * min(max(1.0, facts.growth), room))
    if steps <= facts.steps:
        return (), 1.0
    short = facts.growth > room
    why = f"{facts.growth:.3g} times as many pictures" + (", as far as the budget goes" if short else "")
    return (Change(STEPS, facts.steps, steps, why),), steps / facts.steps


def _heard(heard: Heard, rule: Update) -> bool:
    return heard.thumbs >= rule.least_ratings and heard.raters >= rule.least_raters


def _enough(rule: Update) -> str:
    return f", from {rule.least_ratings} thumbs of {rule.least_raters} people on"


def _share(heard: Heard) -> tuple[float, float, float]:
    """The part of its thumbs that are up, with Wilson's 95 % interval."""
    return heard.ups / heard.thumbs if heard.thumbs else 0.5, *wilson(heard.ups, heard.thumbs)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
