"""What was watched of a version's pictures, as frozen records, turned into one HTML page."""

from dataclasses import dataclass
from pathlib import Path

from bespoke.page import plots
from bespoke.page.rendering import render
from bespoke.page.scores import Fact, Finding


@dataclass(frozen=True)
class WatchedDay:
    """A figure on one day."""

    day: str
    value: float
    filled: float
    """How much of the limit its chart has used up, 0 to 1; above that it rings."""
    rang: str = ""
    """"at once", "over days", or nothing."""


@dataclass(frozen=True)
class WatchedFigure:
    """A figure over the days."""

    label: str
    explanation: str
    now: str
    usual: str
    psi: str
    """With what chance alone makes; a dash for features."""
    p: str
    usually: float
    days: tuple[WatchedDay, ...]

    @property
    def last(self) -> WatchedDay:
        """The newest day."""
        return self.days[-1]

    @property
    def alarms(self) -> int:
        """On how many days it rang."""
        return sum(bool(day.rang) for day in self.days)


@dataclass(frozen=True)
class WatchedGroup:
    """Figures that say something of the same thing."""

    title: str
    explanation: str
    figures: tuple[WatchedFigure, ...]


@dataclass(frozen=True)
class CanaryCard:
    """A canary as it was drawn first and now."""

    prompt: str
    words: str
    ok: bool | None
    first: Path
    now: Path


@dataclass(frozen=True)
class DriftReport:
    """All that the page shows."""

    title: str
    headline: str
    findings: tuple[Finding, ...] = ()
    groups: tuple[WatchedGroup, ...] = ()
    canaries: tuple[CanaryCard, ...] = ()
    facts: tuple[Fact, ...] = ()


def write_drift(report: DriftReport, path: Path) -> Path:
    """The page, written to `path`; nothing but the page is written."""
    there = {"now": report.groups, "time": report.groups, "canaries": report.canaries}
    names = {"now": "The newest day", "time": "Over time", "canaries": "Canaries"}
    sections = {anchor: name for anchor, name in names.items() if there[anchor]}
    render("drift.html", path, {"course": _course, "filling": _filling}, report=report, sections=sections)
    return path


def _course(figure: WatchedFigure) -> str:
    values = [day.value for day in figure.days]
    return plots.watched(
        values, _days(figure), figure.label, figure.usually, "usual", _rang(figure, "at once", "over days")
    )


def _filling(figure: WatchedFigure) -> str:
    values = [100 * day.filled for day in figure.days]
    title = f"{figure.label}: how much of its limit the chart has used up, in percent"
    return plots.watched(values, _days(figure), title, 100.0, "limit", _rang(figure, "over days"))


def _days(figure: WatchedFigure) -> list[str]:
    return [day.day[5:] for day in figure.days]


def _rang(figure: WatchedFigure, *kinds: str) -> list[int]:
    return [number for number, day in enumerate(figure.days) if day.rang in kinds]
