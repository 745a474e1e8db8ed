"""What was watched of a version, turned into its page."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.feedback.canaries import Return
from bespoke.feedback.drift import BY_NAME, Of, Reading
from bespoke.page.drift import CanaryCard, DriftReport, WatchedDay, WatchedFigure, WatchedGroup, write_drift
from bespoke.page.scores import Fact, Finding
from bespoke.page.wording import MINUS, number

if TYPE_CHECKING:
    from bespoke.pipeline.drift import Drifted

GROUPS: dict[Of, tuple[str, str]] = {
    "pictures": ("What the model draws", ""),
    "prompts": ("What people ask for", ""),
    "service": ("How the service does", ""),
}
BECAME = {
    "same": ("yes, bit for bit", True),
    "other bits": ("yes, but for the last bits", None),
    "changed": ("no", False),
}


def write(done: "Drifted") -> Path:
    """The page, written."""
    report = DriftReport(
        title=done.version,
        headline=headline(done).replace("e-", f"e{MINUS}"),  # a line must not break there
        findings=tuple(_findings(done)),
        groups=tuple(_groups(done)),
        canaries=tuple(
            _card(one, first, now)
            for one, first, now in zip(done.flight.returns, done.flight.first, done.flight.now, strict=True)
        ),
        facts=tuple(_facts(done)),
    )
    return write_drift(report, done.page)


def headline(done: "Drifted") -> str:
    """How it stands, in a sentence or two."""
    if done.note:
        return f"Nothing is compared yet. {done.note}"
    if not done.days:
        return "The reference is there; no day after it is over yet."
    newest = done.days[-1]
    since = _since(done)
    if not newest.alarms:
        before = f" The last alarm was on {since}." if since else ""
        return f"On {newest.day} nothing had changed that rings.{before}"
    told = "; ".join(one.words for one in newest.alarms)
    return f"Alarm on {newest.day}: {told}."


def _since(done: "Drifted") -> str:
    return next((day.day for day in reversed(done.days) if day.alarms), "")


def _findings(done: "Drifted") -> Iterator[Finding]:
    if done.flight.worst:
        answer, ok = BECAME[done.flight.worst]
        yield Finding("Does the model still draw its canaries?", answer, ok)
    if done.days:
        moved = {BY_NAME[one.figure].of for one in done.alarms}
        for of, question in (
            ("pictures", "Are its pictures as they were?"),
            ("prompts", "Do people ask for the same things?"),
            ("service", "Is it as fast as it was?"),
        ):
            if any(BY_NAME[one.figure].of == of for one in done.days[-1].readings):
                yield Finding(question, "no" if of in moved else "nothing says otherwise", of not in moved)
    for sentence in done.advice:
        yield Finding("What to do:", "", None, sentence)


def _groups(done: "Drifted") -> Iterator[WatchedGroup]:
    for of, (title, explanation) in GROUPS.items():
        names = [one.figure for one in (done.days[-1].readings if done.days else ()) if BY_NAME[one.figure].of == of]
        if names:
            yield WatchedGroup(title, explanation, tuple(_figure(name, done) for name in names))


def _figure(name: str, done: "Drifted") -> WatchedFigure:
    read = [(day.day, one) for day in done.days for one in day.readings if one.figure == name]
    now = read[-1][1]
    psi = "–" if now.psi is None else f"{now.psi:.2f} ({now.psi_by_chance:.2f})"
    days = tuple(WatchedDay(day, one.value, max(one.sums) / one.h, one.rang) for day, one in read)
    figure = BY_NAME[name]
    return WatchedFigure(
        figure.label, figure.explanation, number(now.value), number(now.usual), psi, _p(now), now.usual, days
    )


def _p(reading: Reading) -> str:
    return f"{reading.p:.2f}" if reading.p >= 0.01 else f"{reading.p:.1e}".replace("-", MINUS)


def _card(one: Return, first: Path, now: Path) -> CanaryCard:
    words = {
        "same": "the same bits",
        "other bits": f"other bits, the same picture: {one.distance:.1e} apart, rounding makes {one.rounding:.1e}",
        "changed": f"another picture: {one.distance:.2g} apart, rounding makes {one.rounding:.1e}",
    }[one.became]
    return CanaryCard(f"{one.canary.prompt}, seed {one.canary.seed}", words, BECAME[one.became][1], first, now)


def _facts(done: "Drifted") -> Iterator[Fact]:
    against = "its own first pictures" if done.against == "reference" else f"the last pictures of {done.against}"
    yield Fact("Compared with", against + (f", {done.pictures} of them" if done.pictures else ""))
    if done.days:
        yield Fact("Days", f"{len(done.days)}, from {done.days[0].day} to {done.days[-1].day}")
        rang = sum(bool(day.alarms) for day in done.days)
        yield Fact("Days with an alarm", f"{rang}")
    budget = done.budget
    yield Fact(
        "False alarms",
        f"at most {budget.false_alarms:g} expected in {budget.days} days, over all figures, if nothing changes",
    )
    if done.level:
        yield Fact("Rings at once", f"below p = {done.level:.1e}")
