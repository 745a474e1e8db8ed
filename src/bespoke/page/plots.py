"""Curves and scores turned into inline SVG that the page's style sheet colours, in light and in dark."""

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from bespoke.page.wording import MINUS
from bespoke.records import Curve, Score

WIDTH, HEIGHT = 360.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 20.0, 24.0
MOST_POINTS = 500
FEW_DOTS = 60
"""More points than these make no dots: only the line."""
AVERAGED_PART = 15
"""The bold loss is averaged over this part of the curve: enough to see a trend of a tenth of the noise."""

Floats = NDArray[np.float64]


def loss(curve: Curve | None) -> str:
    """The training loss as SVG: each measurement faint, their running mean bold; empty without measurements."""
    steps, values = _finite(curve)
    if not len(steps):
        return ""
    smooth = _running_mean(values, max(1, len(values) // AVERAGED_PART))
    # Single steps of a diffusion loss vary tenfold with the timestep: the rarest would flatten everything else.
    low, high = np.percentile(values, [1, 99])
    axes = _Axes(steps, np.array([low, high, smooth.min(), smooth.max()]), "Training loss")
    axes.line(*_thinned(steps, np.clip(values, axes.low, axes.high)), "raw")
    axes.line(*_thinned(steps, smooth), "curve")
    return axes.svg()


def validation(curve: Curve | None, best_step: int | None, others: Sequence[Curve] = ()) -> str:
    """The validation log-ratio as SVG, with the base's line, the best step and other sets; empty without any."""
    steps, values = _finite(curve)
    if not len(steps):
        return ""
    beside = [(other.name, *_finite(other)) for other in others]
    axes = _Axes(steps, np.concatenate([values, [0.0], *(v for *_, v in beside)]), "Validation, log-ratio to the base")
    axes.level(0.0, "the base model")
    for name, at, measured in beside:
        axes.line(at, measured, "other")
        axes.named(at, measured, name, bool(len(measured) and measured[-1] <= values[-1]))
    axes.line(steps, values, "curve")
    axes.dots(steps, values)
    if best_step is not None and steps[0] <= best_step <= steps[-1]:
        axes.best(float(best_step), float(np.interp(best_step, steps, values)))
    return axes.svg()


def plain(curve: Curve | None, title: str) -> str:
    """A curve over the steps as SVG, with nothing in sight; empty without measurements."""
    steps, values = _finite(curve)
    if not len(steps):
        return ""
    axes = _Axes(steps, np.append(values, 0.0), title)
    axes.line(*_thinned(steps, values), "curve")
    if len(steps) == 1:
        axes.dots(steps, values)
    return axes.svg()


def learning_rate(curve: Curve | None) -> str:
    """The learning rate as SVG; empty without measurements."""
    return plain(curve, "Learning rate")


def bands(curves: Sequence[Curve]) -> str:
    """The validation log-ratio of each part of the timesteps as SVG, from little noise to much; empty without any."""
    found = [_finite(curve) for curve in curves]
    if not found or not len(found[0][0]):
        return ""
    axes = _Axes(found[0][0], np.concatenate([[0.0], *(v for _, v in found)]), "Validation, by how much noise there is")
    axes.level(0.0, "")
    for number, (steps, values) in enumerate(found):
        axes.line(steps, values, "band", opacity=0.2 + 0.8 * (number + 1) / len(found))
    if len(found) > 1:
        (_, least), (_, most) = found[0], found[-1]
        below = bool(len(least) and len(most) and least[-1] < most[-1])
        axes.named(*found[0], "least noise", below)
        axes.named(*found[-1], "most noise", not below)
    return axes.svg()


def gap(curves: tuple[Curve, Curve, Curve] | None) -> str:
    """The least, the middle and the most of the gap as SVG: a line in its interval; empty without any."""
    return course(curves, "Gap between held back and training pictures", 0.0, "no gap")


def course(curves: tuple[Curve, Curve, Curve] | None, title: str, level: float, words: str, unit: str = "step") -> str:
    """A line in its interval as SVG, over a level with a name; empty without measurements."""
    if curves is None or not len(_finite(curves[1])[0]):
        return ""
    (steps, low), (_, middle), (_, high) = (_finite(curve) for curve in curves)
    axes = _Axes(steps, np.concatenate([low, middle, high, [level]]), title, unit)
    axes.level(level, words)
    axes.area(steps, low, high)
    axes.line(steps, middle, "curve")
    axes.dots(steps, middle)
    return axes.svg()


def whiskers(scores: Sequence[Score], names: Sequence[str]) -> str:
    """The scores as dots on whiskers over one scale, as SVG that stretches; empty where one was not measured.

    The first is drawn as what the others are measured by.
    """
    bounds = [v for s in scores for v in (s.value, s.low, s.high)]
    if not bounds or not all(math.isfinite(v) for v in bounds):
        return ""
    low, span = min(bounds), (max(bounds) - min(bounds)) or 1.0

    def place(value: float) -> str:
        return f"{5 + 90 * (value - low) / span:.2f}%"

    shown = list(zip(names, scores, strict=True))
    words = "; ".join(f"{who} {s.value:.4g}, 95 % interval {s.low:.4g} to {s.high:.4g}" for who, s in shown)
    size = {"width": "100%", "height": str(6 + 14 * len(shown))}
    svg = Element("svg", {"class": "whiskers", "role": "img", "aria-label": words, **size})
    SubElement(svg, "title").text = words
    for number, (_, score) in enumerate(shown):
        y = str(10 + 14 * number)
        row = SubElement(svg, "g", {"class": "tuned" if number else "base"})
        SubElement(row, "line", {"class": "scale", "x1": "0", "x2": "100%", "y1": y, "y2": y})
        SubElement(row, "line", {"class": "whisker", "x1": place(score.low), "x2": place(score.high), "y1": y, "y2": y})
        SubElement(row, "circle", {"class": "dot", "cx": place(score.value), "cy": y, "r": "4.5"})
    return tostring(svg, encoding="unicode")


def trials(order: Curve) -> tuple[str, str]:
    """A title, and the scores of trainings in their order as SVG, with the best so far; empty without any."""
    numbers, values = _finite(order)
    if not len(numbers):
        return "", ""
    axes = _Axes(numbers, np.append(values, 0.0), "Scores in their order", "")
    axes.level(0.0, "the base model")
    axes.line(numbers, np.minimum.accumulate(values), "curve")
    axes.dots(numbers, values)
    return "In their order, with the best so far", axes.svg()


def courses(curves: Sequence[Curve]) -> tuple[str, str]:
    """A title, and the validation of trainings over percent of their steps as SVG; empty without any."""
    found = [(curve.name, *_finite(curve)) for curve in curves if len(_finite(curve)[0])]
    if not found:
        return "", ""
    every = [np.concatenate([each[place] for each in found]) for place in (1, 2)]
    axes = _Axes(every[0], np.append(every[1], 0.0), "Validation over the steps", "%")
    for name, steps, values in sorted(found, key=lambda each: each[0]):
        axes.line(steps, values, {"best": "curve", "default": "own"}.get(name, "other"))
        axes.named(steps, values, {"best": "best", "default": "the recipe's own"}.get(name, ""), name == "best")
    return "Validation over percent of the steps", axes.svg()


def scatter(points: Sequence[tuple[float, float]], title: str, marks: Sequence[tuple[float, str]]) -> tuple[str, str]:
    """The title, and scores by the place of a setting's value as SVG, with the places' words; empty without points."""
    if not points:
        return "", ""
    at, values = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    axes = _Axes(at, values, title, "", marks)
    axes.dots(at, values)
    return title, axes.svg()


def watched(
    values: Sequence[float], days: Sequence[str], title: str, level: float, words: str, rang: Sequence[int]
) -> str:
    """A figure over days as SVG, over a level with a name, with marks where it rang; empty without days."""
    if not len(values):
        return ""
    places, table = np.arange(len(values), dtype=np.float64), np.array(values, dtype=np.float64)
    told = sorted({round(part * (len(days) - 1)) for part in (0.0, 1 / 3, 2 / 3, 1.0)})
    # Where nothing ever moves, an axis needs a height all the same.
    span = [level, level + (abs(level) or 1.0)] if np.ptp(np.append(table, level)) == 0 else [level]
    axes = _Axes(places, np.append(table, span), title, "", [(float(place), days[place]) for place in told])
    axes.level(level, words)
    axes.line(*_thinned(places, table), "curve")
    if len(values) <= FEW_DOTS:
        axes.dots(places, table)
    axes.rung(places[list(rang)], table[list(rang)])
    return axes.svg()


class _Axes:
    """Axes over steps and values; what is drawn on them is kept until `svg`."""

    def __init__(
        self,
        steps: Floats,
        values: Floats,
        title: str,
        unit: str = "step",
        marks: Sequence[tuple[float, str]] | None = None,
    ) -> None:
        """`marks` are places with words below the axis; without any, whole steps stand there."""
        from matplotlib.ticker import MaxNLocator

        self.first, self.last = float(steps.min()), float(steps.max())
        rows = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(float(values.min()), float(values.max()))
        self.low, self.high = float(rows[0]), float(rows[-1])
        columns = MaxNLocator(4, steps=[1, 2, 5, 10], integer=True).tick_values(self.first, self.last)
        box = f"0 0 {WIDTH:.0f} {HEIGHT:.0f}"
        self.root = Element("svg", {"class": "plot", "role": "img", "aria-label": title, "viewBox": box})
        SubElement(self.root, "title").text = title
        for value in rows:
            self._row(float(value))
        steps_told = [(float(step), f"{step:.0f}") for step in columns]
        for step, words in steps_told if marks is None else marks:
            if self.first <= step <= self.last:
                at_end = marks is not None and step == self.last > self.first  # words may be wider than the margin
                self._text(self.x(step), HEIGHT - BOTTOM + 16, words, "tick", "end" if at_end else "middle")
        self._text(LEFT - 14, HEIGHT - BOTTOM + 16, unit, "tick", "end")

    def x(self, step: float) -> float:
        """The horizontal place of a step."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - self.first) / ((self.last - self.first) or 1.0)

    def y(self, value: float) -> float:
        """The vertical place of a value."""
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)

    def line(self, steps: Floats, values: Floats, name: str, opacity: float = 1.0) -> None:
        """Draws a line through the points."""
        faint = {"opacity": f"{opacity:.2f}"} if opacity < 1 else {}
        SubElement(self.root, "polyline", {"class": name, "points": self._points(steps, values), **faint})

    def area(self, steps: Floats, low: Floats, high: Floats) -> None:
        """Fills what lies between two lines."""
        around = f"{self._points(steps, high)} {self._points(steps[::-1], low[::-1])}"
        SubElement(self.root, "polygon", {"class": "area", "points": around})

    def named(self, steps: Floats, values: Floats, words: str, below: bool) -> None:  # noqa: FBT001 - a place
        """Writes what a line shows at its end, above or below it."""
        if len(steps):
            self._text(self.x(steps[-1]), self.y(values[-1]) + (14 if below else -7), words, "note", "end")

    def dots(self, steps: Floats, values: Floats) -> None:
        """Draws a dot at each point: a lone measurement has no line."""
        for step, value in zip(steps, values, strict=True):
            SubElement(self.root, "circle", {"class": "dot", **self._centre(step, value), "r": "2.2"})

    def level(self, value: float, words: str) -> None:
        """Draws a named horizontal line."""
        y = f"{self.y(value):.1f}"
        SubElement(self.root, "line", {"class": "level", "x1": str(LEFT), "x2": str(WIDTH - RIGHT), "y1": y, "y2": y})
        low = self.y(value) > HEIGHT - BOTTOM - 16  # where the words of the axis stand below it
        self._text(WIDTH - RIGHT, self.y(value) + (-5 if low else 14), words, "note", "end")

    def best(self, step: float, value: float) -> None:
        """Marks the step whose weights were kept."""
        x = f"{self.x(step):.1f}"
        SubElement(self.root, "line", {"class": "best", "x1": x, "x2": x, "y1": str(TOP), "y2": str(HEIGHT - BOTTOM)})
        SubElement(self.root, "circle", {"class": "best", **self._centre(step, value), "r": "5"})
        # Beside its line, on the side that has room.
        shift, anchor = (-6, "end") if self.x(step) > WIDTH / 2 else (6, "start")
        self._text(self.x(step) + shift, TOP - 6, f"best: step {step:.0f}", "note best", anchor)

    def rung(self, steps: Floats, values: Floats) -> None:
        """Marks points at which an alarm rang."""
        for step, value in zip(steps, values, strict=True):
            SubElement(self.root, "circle", {"class": "rang", **self._centre(step, value), "r": "4.5"})

    def svg(self) -> str:
        """The drawing."""
        return tostring(self.root, encoding="unicode")

    def _points(self, steps: Floats, values: Floats) -> str:
        return " ".join(f"{self.x(s):.1f},{self.y(v):.1f}" for s, v in zip(steps, values, strict=True))

    def _row(self, value: float) -> None:
        y = f"{self.y(value):.1f}"
        SubElement(self.root, "line", {"class": "grid", "x1": str(LEFT), "x2": str(WIDTH - RIGHT), "y1": y, "y2": y})
        self._text(LEFT - 7, self.y(value) + 4, _tick(value, max(abs(self.low), abs(self.high))), "tick", "end")

    def _text(self, x: float, y: float, words: str, name: str, anchor: str) -> None:
        place = {"class": name, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
        SubElement(self.root, "text", place).text = words

    def _centre(self, step: float, value: float) -> dict[str, str]:
        return {"cx": f"{self.x(step):.1f}", "cy": f"{self.y(value):.1f}"}


def _tick(value: float, largest: float) -> str:
    """The words at a line of the grid; powers of ten on the whole axis where the values are small."""
    if value == 0 or largest >= 0.01:
        return f"{value:.4g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)


def _finite(curve: Curve | None) -> tuple[Floats, Floats]:
    """The steps and values of the finite measurements, by step."""
    steps: Sequence[int] = curve.steps if curve else ()
    values: Sequence[float] = curve.values if curve else ()
    table = np.array([steps, values], dtype=np.float64)
    table = table[:, np.isfinite(table[1])]
    table = table[:, np.argsort(table[0], kind="stable")]
    return table[0], table[1]


def _running_mean(values: Floats, window: int) -> Floats:
    """The mean of the neighbours of each value, over fewer at the ends."""
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")


def _thinned(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """At most about `MOST_POINTS` points that keep the extremes: finer than a screen shows only makes the page slow."""
    if len(values) <= MOST_POINTS:
        return steps, values
    runs = np.array_split(np.arange(len(values)), MOST_POINTS // 2)
    kept = np.unique([int(pick(values[run]) + run[0]) for run in runs for pick in (np.argmin, np.argmax)])
    return steps[kept], values[kept]
