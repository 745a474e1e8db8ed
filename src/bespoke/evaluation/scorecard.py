"""Rows of scores of several models turned into one scorecard: what each scored, and what tuning changed."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bespoke.evaluation.membership import Membership
from bespoke.evaluation.memorisation import Copies
from bespoke.evaluation.significance import Change, holm
from bespoke.records import Score


@dataclass(frozen=True)
class Row:
    """One score of every model, and what each tuned model changed against the control."""

    part: str
    """Which part of the scorecard it belongs to: "distance", "agreement", "likeness", "copying", "look", "objects"."""
    name: str
    label: str
    """What it is called for people."""
    explanation: str
    scores: Mapping[str, Score]
    """By model."""
    changes: Mapping[str, Change] = field(default_factory=dict[str, Change])
    """By tuned model."""
    main: bool = False
    """Whether a verdict rests on it: p is corrected for all of these."""


@dataclass(frozen=True)
class Instrument:
    """What exactly made features: figures of two instruments cannot be compared."""

    name: str
    mark: str
    """A mark of its weights."""
    resizer: str
    is_fid: bool = False
    """Whether its weights are those of published FID."""

    @property
    def slug(self) -> str:
        """Its name as part of a score's name."""
        return re.sub("[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Scorecard:
    """Everything that was measured of some models over the same prompts and seeds."""

    control: str
    """The model that the others are compared with."""
    models: tuple[str, ...]
    """All of them, the control first."""
    rows: tuple[Row, ...]
    instruments: tuple[Instrument, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many pictures of each kind it rests on."""
    seeds: tuple[int, ...] = ()
    """The first noises that each prompt was drawn from."""
    distance: str = ""
    """The name of the distance that the verdict rests on."""
    nearest: Mapping[str, Copies] = field(default_factory=dict[str, Copies])
    """By tuned model: which of its pictures are nearest to training pictures."""
    redrawn: Mapping[str, Membership] = field(default_factory=dict[str, Membership])
    """By tuned model: whether it redraws training pictures when asked with their captions."""
    unmeasured: Mapping[str, str] = field(default_factory=dict[str, str])
    """What could not be measured, and why."""

    def __getitem__(self, name: str) -> Row:
        """The row of that name. Raises: KeyError when it was not measured."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        """Whether there is a row of that name."""
        return any(row.name == name for row in self.rows)

    @property
    def tuned(self) -> tuple[str, ...]:
        """The models that are compared with the control."""
        return tuple(model for model in self.models if model != self.control)

    def of(self, model: str) -> dict[str, Score]:
        """All scores of a model, by name."""
        return {row.name: row.scores[model] for row in self.rows if model in row.scores}

    def corrected(self) -> "Scorecard":
        """The scorecard with each model's main p-values corrected for how many there are. Source: Holm 1979."""
        rows = list(self.rows)
        for model in self.tuned:
            tested = [n for n, row in enumerate(rows) if row.main and model in row.changes]
            known = [n for n in tested if rows[n].changes[model].p is not None]
            for n, p in zip(known, holm([rows[n].changes[model].p or 0.0 for n in known]), strict=True):
                change = replace(rows[n].changes[model], corrected=p)
                rows[n] = replace(rows[n], changes={**rows[n].changes, model: change})
        return replace(self, rows=tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """The scorecard as a report holds it; what could not be told is null, for JSON knows no infinity."""
        return {
            "control": self.control,
            "models": list(self.models),
            "scores": {
                model: {name: score.to_json() for name, score in self.of(model).items()} for model in self.models
            },
            "changes": {
                model: {row.name: change_to_json(row.changes[model]) for row in self.rows if model in row.changes}
                for model in self.tuned
            },
            "labels": {row.name: row.label for row in self.rows},
            "instruments": [asdict(one) for one in self.instruments],
            "counts": dict(self.counts),
            "seeds": list(self.seeds),
            "distance": self.distance,
            "nearest": {model: asdict(found) for model, found in self.nearest.items()},
            "redrawn": {model: asdict(found) for model, found in self.redrawn.items()},
            "unmeasured": dict(self.unmeasured),
        }


def combined(control: str, models: Sequence[str], rows: Iterable[Row], **more: Any) -> Scorecard:
    """The scorecard of these rows, its p-values corrected."""
    return Scorecard(control, tuple(models), tuple(rows), **more).corrected()


def change_to_json(change: Change) -> dict[str, Any]:
    """What changed, with nulls for what could not be told."""
    return _finite(asdict(change))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value
