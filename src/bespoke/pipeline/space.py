"""What a sweep tries: a recipe's `[sweep]`, or what suits its method, turned into ranges and choices of settings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models.kinds import LORA
from bespoke.recipe import Recipe

HINT = 'Write "1e-5 .. 1e-3 log", "0 .. 0.2", "4 .. 64" or "4 | 8 | 16".'
Value = float | int | str


@dataclass(frozen=True)
class Range:
    """All numbers between two ends; whole ones where both ends are written so."""

    low: float
    high: float
    log: bool
    whole: bool

    def suggested(self, trial: Any, key: str) -> Value:
        """What an Optuna trial takes."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def holds(self, value: object) -> bool:
        """Whether a value lies in it."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Value, ...]:
        """What a recipe must be able to hold."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def suggested(self, trial: Any, key: str) -> Value:
        """What an Optuna trial takes."""
        return trial.suggest_categorical(key, self.values)

    def holds(self, value: object) -> bool:
        """Whether a value is among them."""
        return value in self.values

    @property
    def ends(self) -> tuple[Value, ...]:
        """What a recipe must be able to hold."""
        return self.values


Space = Mapping[str, Range | Choice]


def space_of(recipe: Recipe) -> Space:
    """What a resolved recipe's sweep tries: its `[sweep]`'s space or, without one, what suits its method.

    Raises: BespokeError when the space is not written as it should be.
    """
    if recipe.sweep.space:
        return {key: _read(key, text) for key, text in recipe.sweep.space.items()}
    rate, size = recipe.train.learning_rate or 1e-4, recipe.train.train_batch_size or 1
    found: dict[str, Range | Choice] = {
        "train.learning_rate": Range(rate / 10, rate * 4, log=True, whole=False),
        "train.train_batch_size": Choice(tuple(sorted({max(1, size // 2), size, 2 * size}))),
        "train.adam_weight_decay": Choice((0.0, 0.01, 0.1)),
    }
    if recipe.model.method in LORA:
        found |= {"model.rank": Choice((4, 8, 16, 32)), "model.dropout": Choice((0.0, 0.1))}
    if recipe.model.method == "full":
        found |= {"train.unet_dropout": Choice((0.0, 0.1))}
    return found


def written(key: str, value: Value) -> str:
    """The setting as `--set` has it."""
    return f"{key}={json.dumps(value) if isinstance(value, str) else value}"


def default_of(recipe: Recipe, key: str) -> object:
    """What a resolved recipe has for a key of its sections."""
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section, None), name, None)


def _read(key: str, text: str) -> Range | Choice:
    low, dots, rest = text.partition("..")
    if not dots:
        return Choice(tuple(_value(part.strip()) for part in text.split("|")))
    high, _, word = rest.strip().partition(" ")
    try:
        ends = float(low), float(high)
    except ValueError:
        raise BespokeError(f"sweep.space says {text!r} of {key}, which is no range.", HINT) from None
    log = word.strip() == "log"
    if word.strip() not in ("", "log") or not ends[0] < ends[1] or (log and ends[0] <= 0):
        raise BespokeError(f"sweep.space says {text!r} of {key}, which is no range.", HINT)
    whole = all(part.strip().lstrip("-").isdecimal() for part in (low, high))
    return Range(*ends, log=log, whole=whole)


def _value(text: str) -> Value:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else text
