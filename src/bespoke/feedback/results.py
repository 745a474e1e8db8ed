"""Ratings turned into what they say: win rates, strengths, agreement; and into CSV and JSON."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from bespoke.evaluation.preference import (
    Agreement,
    Strength,
    Vote,
    WinRate,
    agreement,
    strengths,
    unbounded,
    wilson,
    win_rate,
)
from bespoke.feedback.ratings import Rating
from bespoke.feedback.trials import Comparison, Item

COLUMNS = (
    "rater", "position", "item", "prompt", "left", "right", "choice", "preferred", "repeated", "rated_at",
)  # fmt: skip


@dataclass(frozen=True)
class Rater:
    """How far a rater is, and how the rater rates."""

    name: str
    done: int
    total: int
    repeated: int
    """Pairs that were rated twice."""
    same: int
    """Those of them that were rated the same."""
    lefts: int
    rights: int
    """How often the left and the right picture was chosen."""

    @property
    def finished(self) -> bool:
        """Whether all is rated."""
        return self.done >= self.total

    @property
    def one_sided(self) -> bool:
        """Whether one side was chosen more often than chance explains: sides are balanced, so pictures do not."""
        low, high = wilson(self.lefts, self.lefts + self.rights, 0.99)
        return not low <= 0.5 <= high


@dataclass(frozen=True)
class Results:
    """What the ratings say so far. Pairs shown again count for nothing but a rater's agreement with themselves."""

    models: tuple[str, ...]
    raters: tuple[Rater, ...]
    win_rates: tuple[WinRate, ...]
    """Of each two models."""
    strengths: tuple[Strength, ...]
    """Of more than two models, strongest first."""
    between: Agreement | None
    """Between raters; nothing with one rater."""
    within: Agreement | None
    """Of raters with themselves; nothing before a pair was shown twice."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The results as a file holds them; what could not be told is null, for JSON knows no infinity."""
        content: dict[str, Any] = {
            **asdict(self),
            "raters": [{**asdict(r), "finished": r.finished} for r in self.raters],
        }
        return finite(content)


def results(comparison: Comparison, ratings: Sequence[Rating], names: Mapping[str, str] | None = None) -> Results:
    """What ratings of a comparison say; `names` puts other names in place of the models'."""
    called = dict(names or {model: model for model in comparison.models})
    models = tuple(called[m] for m in comparison.models) if names is None else tuple(sorted(called.values()))
    votes = [_vote(rating, comparison.items[rating.item], called) for rating in ratings]
    first = [vote for vote, rating in zip(votes, ratings, strict=True) if not rating.repeated]
    several = len(models) > 2 and bool(first)
    raters = _raters(comparison, ratings)
    found = strengths(first, models, seed=comparison.seed) if several else ()
    return Results(
        models=models,
        raters=raters,
        win_rates=tuple(win_rate(first, one, other) for one, other in combinations(models, 2)),
        strengths=tuple(sorted(found, key=lambda strength: -strength.value)),
        between=_between(first, comparison.seed),
        within=_within(votes, ratings, comparison.seed),
        notes=(*_warnings(raters), *(unbounded(first, models) if several else ())),
    )


def to_csv(comparison: Comparison, ratings: Iterable[Rating]) -> str:
    """The ratings as a table, one a row, in the order in which they were given."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rating in ratings:
        item = comparison.items[rating.item]
        sides = (rating.left, rating.right, rating.choice, rating.chosen)
        row = (rating.rater, rating.position, item.name, item.prompt, *sides, int(rating.repeated), rating.rated_at)
        writer.writerow([_inert(cell) for cell in row])
    return table.getvalue()


def _inert(cell: str | int) -> str | int:
    """The cell so that no spreadsheet takes it for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) else cell


def _vote(rating: Rating, item: Item, called: Mapping[str, str]) -> Vote:
    """The answer, seen from the model whose name comes first, whichever side it was on."""
    first, second = sorted((called[rating.left], called[rating.right]))
    chosen = called.get(rating.chosen, "")
    return Vote(rating.rater, item.group, item.name, first, second, {first: 1.0, second: 0.0}.get(chosen, 0.5))


def _between(votes: Sequence[Vote], seed: int) -> Agreement | None:
    raters = sorted({vote.rater for vote in votes})
    if len(raters) < 2:
        return None
    units = sorted({_unit(vote) for vote in votes})
    said = {(vote.rater, _unit(vote)): round(2 * vote.score) for vote in votes}
    labels = np.array([[said.get((rater, unit), -1) for unit in units] for rater in raters])
    return agreement(labels, [prompt for prompt, *_ in units], seed=seed)


def _within(votes: Sequence[Vote], ratings: Sequence[Rating], seed: int) -> Agreement | None:
    """The agreement of first with second answers, over all raters."""
    pairs = _twice(votes, ratings)
    if not pairs:
        return None
    labels = np.array([[round(2 * vote.score) for vote in pair] for pair in pairs]).T
    return agreement(labels, [first.prompt for first, _ in pairs], seed=seed)


def _twice(votes: Sequence[Vote], ratings: Sequence[Rating]) -> list[tuple[Vote, Vote]]:
    """First and second answers of raters to equal pairs."""
    sides: tuple[dict[Any, Vote], dict[Any, Vote]] = ({}, {})
    for vote, rating in zip(votes, ratings, strict=True):
        sides[rating.repeated][vote.rater, *_unit(vote)] = vote
    return [(sides[0][key], again) for key, again in sides[1].items() if key in sides[0]]


def _unit(vote: Vote) -> tuple[str, str, str, str]:
    return vote.prompt, vote.pair, vote.first, vote.second


def _raters(comparison: Comparison, ratings: Sequence[Rating]) -> tuple[Rater, ...]:
    by_rater: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        by_rater[rating.rater].append(rating)
    same = {model: model for model in comparison.models}
    found: list[Rater] = []
    for name, own in sorted(by_rater.items()):
        twice = _twice([_vote(r, comparison.items[r.item], same) for r in own], own)
        equal = sum(first.score == second.score for first, second in twice)
        sides = [sum(r.choice == side for r in own) for side in ("left", "right")]
        found.append(Rater(name, len(own), len(comparison.trials(name)), len(twice), equal, *sides))
    return tuple(found)


def _warnings(raters: Sequence[Rater]) -> tuple[str, ...]:
    return tuple(
        f"{rater.name} chose the left picture {rater.lefts} times and the right one {rater.rights} times: "
        "more unequal than chance explains."
        for rater in raters
        if rater.one_sided
    )


def finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The same for JSON, which knows no infinity: what is none or no number is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value
