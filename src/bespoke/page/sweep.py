"""The trainings of a sweep, as frozen records, turned into one HTML page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.page import plots
from bespoke.page.rendering import render
from bespoke.records import Curve

FEW = 5
"""So many values of a setting stand side by side."""


@dataclass(frozen=True)
class SweepRow:
    """One training."""

    number: int
    name: str
    """"best", "the recipe's own", or nothing."""
    settings: tuple[str, ...]
    score: str
    state: str
    seconds: str
    link: Path | None
    """The run's own page."""


@dataclass(frozen=True)
class SweepReport:
    """All that the page shows."""

    title: str
    headline: str
    scores: str
    """What they are."""
    keys: tuple[str, ...]
    trials: tuple[SweepRow, ...]
    """The best first."""
    curves: tuple[Curve, ...]
    """The validation of each over percent of its steps; `best` and `default` by these names."""
    points: tuple[tuple[str, Sequence[tuple[float | int | str, float]]], ...]
    """For each setting its value and the score of each training."""
    order: Curve
    """The scores in the order in which trainings were made."""


def write_sweep(report: SweepReport, path: Path) -> Path:
    """The page, written to `path`; nothing but the page is written."""
    drawn = [plots.trials(report.order), plots.courses(report.curves)]
    drawn += [_scatter(key, points) for key, points in report.points if points]
    filters: dict[str, Callable[..., object]] = {}
    sections = {"plots": "Plots", "trials": "Trainings"}
    render("sweep.html", path, filters, report=report, sections=sections, plots=[each for each in drawn if each[1]])
    return path


def _scatter(key: str, points: Sequence[tuple[float | int | str, float]]) -> tuple[str, str]:
    """Scores by a setting: few values side by side, many numbers on an axis, that of powers where they span some."""
    values, scores = [value for value, _ in points], [score for _, score in points]
    distinct = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if len(distinct) <= FEW:
        places = [float(distinct.index(value)) for value in values]
        marks = [(float(place), _words(value)) for place, value in enumerate(distinct)]
    else:
        numbers = [float(value) for value in values]
        powers = min(numbers) > 0 and max(numbers) / min(numbers) > 10
        places = [math.log10(number) if powers else number for number in numbers]
        low, high = min(places), max(places)
        ends = [low + part * (high - low) for part in (0.0, 1 / 3, 2 / 3, 1.0)]
        marks = [(end, _words(10**end if powers else end)) for end in ends]
    return plots.scatter(list(zip(places, scores, strict=True)), key, marks)


def _words(value: float | int | str) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
