"""Measurements of many pictures turned into one inline SVG histogram, with the limits that rules set drawn in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 360.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 14.0, 18.0, 44.0, 24.0
BARS = 24
LETTER = 5.6
"""About how wide a letter of a limit's words is drawn."""


@dataclass(frozen=True)
class Limit:
    """A value that a rule or the training draws a line at."""

    value: float
    words: str


@dataclass(frozen=True)
class Distribution:
    """One measurement of every picture, those kept and those set aside."""

    title: str
    explanation: str
    kept: tuple[float, ...]
    aside: tuple[float, ...] = ()
    limits: tuple[Limit, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    """What lies beyond `least` and `most` stands in the first and the last bar."""
    log: bool = False
    whole: bool = False
    """Whether the values are whole numbers."""


def histogram(measured: Distribution) -> str:
    """The distribution as SVG: bars of the kept pictures, those set aside on top; empty without measurements."""
    if not (measured.kept or measured.aside):
        return ""
    edges = _edges(measured)
    kept, aside = _counts(measured.kept, edges), _counts(measured.aside, edges)
    box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
    svg = Element("svg", {"class": "plot histogram", "role": "img", "aria-label": measured.title, "viewBox": box})
    SubElement(svg, "title").text = measured.title
    scale = _Scale(float(edges[0]), float(edges[-1]), measured.log)
    tallest = max(one + other for one, other in zip(kept, aside, strict=True))
    for number, (left, right) in enumerate(pairwise(map(float, edges))):
        words = f"{_span(left, right, whole=measured.whole)}: {kept[number]} kept, {aside[number]} set aside"
        bar = SubElement(svg, "g")
        SubElement(bar, "title").text = words
        below = _bar(bar, "kept", scale, left, right, 0.0, kept[number] / tallest)
        _bar(bar, "left-out", scale, left, right, below, aside[number] / tallest)
    _axis(svg, measured, scale)
    for row, limit in enumerate(each for each in measured.limits if scale.low <= each.value <= scale.high):
        _limit(svg, limit, scale.x(limit.value), row)
    return tostring(svg, encoding="unicode")


@dataclass(frozen=True)
class _Scale:
    """The horizontal axis."""

    low: float
    high: float
    log: bool

    def x(self, value: float) -> float:
        """The horizontal place of a value."""
        low, high, place = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return LEFT + (WIDTH - LEFT - RIGHT) * (place - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        if not self.log:
            from matplotlib.ticker import MaxNLocator

            found = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
            ticks = [float(tick) for tick in found]
        else:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            decades = math.log10(self.high / self.low)
            steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
            ticks = [step * 10.0**decade for decade in range(first, last + 1) for step in steps]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def _edges(measured: Distribution) -> NDArray[np.float64]:
    """The edges of the bars: over all values and limits, in equal steps, or in equal ratios on a logarithmic axis."""
    within = [min(max(value, measured.least), measured.most) for value in (*measured.kept, *measured.aside)]
    values = [*within, *(limit.value for limit in measured.limits)]
    low, high = min(values), max(values)
    if measured.whole and not measured.log:
        # A bar of a whole number of whole numbers: others would be taller for no reason.
        step = max(1, math.ceil((high - low + 1) / BARS))
        return np.arange(low - 0.5, high + step + 0.5, step)
    if measured.log:
        low, high = low / 1.06, high * 1.06
        return np.geomspace(low, high, BARS + 1)
    margin = 0.02 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, BARS + 1)


def _counts(values: Sequence[float], edges: NDArray[np.float64]) -> list[int]:
    """How many values fall into each bar; what lies beyond the axis counts for the bar at its end."""
    inner = np.clip(np.asarray(values, dtype=np.float64), edges[0], edges[-1])
    return np.histogram(inner, edges)[0].tolist()


def _bar(svg: Element, name: str, scale: _Scale, left: float, right: float, below: float, part: float) -> float:
    """Draws a bar on top of what is `below`, both as parts of the tallest; how far it reaches."""
    if part:
        room = HEIGHT - TOP - BOTTOM
        # One picture among thousands is seen, too.
        height = max(1.5, room * part)
        place = {"x": scale.x(left) + 0.5, "width": scale.x(right) - scale.x(left) - 1, "height": height}
        words = {key: f"{value:.1f}" for key, value in place.items()}
        SubElement(svg, "rect", {"class": name, "y": f"{HEIGHT - BOTTOM - room * below - height:.1f}", **words})
    return below + part


def _axis(svg: Element, measured: Distribution, scale: _Scale) -> None:
    ground = f"{HEIGHT - BOTTOM:.1f}"
    line = {"class": "grid", "x1": str(LEFT), "x2": str(WIDTH - RIGHT), "y1": ground, "y2": ground}
    SubElement(svg, "line", line)
    for tick in scale.ticks():
        beyond = "≤" if tick <= measured.least else "≥" if tick >= measured.most else ""
        _text(svg, scale.x(tick), HEIGHT - BOTTOM + 16, beyond + _number(tick), "tick", "middle")


def _limit(svg: Element, limit: Limit, x: float, row: int) -> None:
    """Draws a limit with its words above it, on the side that has room for them."""
    y = 12.0 + 15.0 * (row % 2)
    place = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": f"{y + 4:.1f}", "y2": f"{HEIGHT - BOTTOM:.1f}"}
    SubElement(svg, "line", {"class": "limit", **place})
    fits = x + LETTER * len(limit.words) < WIDTH
    _text(svg, x if fits else x + 1, y, limit.words, "note", "start" if fits else "end")


def _text(svg: Element, x: float, y: float, words: str, name: str, anchor: str) -> None:
    place = {"class": name, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    SubElement(svg, "text", place).text = words


def _span(left: float, right: float, *, whole: bool) -> str:
    """What a bar holds: of whole numbers the first and the last."""
    first, last = (float(math.ceil(left)), float(math.floor(right))) if whole else (left, right)
    return _number(first) if first == last else f"{_number(first)} to {_number(last)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
