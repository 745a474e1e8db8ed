"""The trainings of a sweep, as frozen records, turned into one HTML page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.page import plots
from bespoke.page.rendering import render
from bespoke.records import Curve


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
    drawn += [plots.scatter(_numbers(points), _title(key, points)) for key, points in report.points if points]
    filters: dict[str, Callable[..., object]] = {}
    sections = {"plots": "Plots", "trials": "Trainings"}
    render("sweep.html", path, filters, report=report, sections=sections, plots=[each for each in drawn if each[1]])
    return path


def _title(key: str, points: Sequence[tuple[float | int | str, float]]) -> str:
    texts = [value for value, _ in points if isinstance(value, str)]
    if texts:
        return f"{key}: " + ", ".join(f"{place} {text}" for place, text in enumerate(sorted(set(texts))))
    return f"{key}, power of ten" if _by_powers([float(value) for value, _ in points]) else key


def _numbers(points: Sequence[tuple[float | int | str, float]]) -> list[tuple[float, float]]:
    """Places on an axis: texts by their order, numbers over more than a power of ten by their logarithm."""
    texts = sorted({value for value, _ in points if isinstance(value, str)})
    if texts:
        return [(float(texts.index(str(value))), score) for value, score in points]
    values = [float(value) for value, _ in points]
    powers = _by_powers(values)
    return [(math.log10(value) if powers else value, score) for value, (_, score) in zip(values, points, strict=True)]


def _by_powers(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 10
