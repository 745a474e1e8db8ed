"""Values of other trainers' options read, and the usual ways in which one becomes ours: the words of tables."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bespoke.recipe.peers.table import Convert, Epochs, Left, Needless, Options, Part, Put, Result

OFF = ("", "none", "null", "false", "0", "-0", "0.0", "off", "[]", "{}", "never")
OFF_THERE = "it is off in the file"


def off(value: Any) -> bool:
    """Whether a value says nothing, or no."""
    return value is None or str(value).strip().lower() in OFF or value in ([], {}, (), 0)


def number(value: Any) -> float:
    """The value as a number. Raises: ValueError when it is none, or not finite."""
    found = float(_alone(value))
    if isinstance(value, bool) or not math.isfinite(found):
        raise ValueError(f"{value} is no number")
    return found


def whole(value: Any) -> int:
    """The value as a whole number. Raises: ValueError when it is none."""
    found = number(value)
    if found != int(found):
        raise ValueError(f"{value} is not whole")
    return int(found)


def truth(value: Any) -> bool:
    """The value as yes or no. Raises: ValueError when it is neither."""
    said = str(_alone(value)).strip().lower()
    if said in ("true", "1", "yes", "on"):
        return True
    if said in ("false", "0", "no", "off", "", "none"):
        return False
    raise ValueError(f"{value} is neither true nor false")


def text(value: Any) -> str:
    """The value as a text, words with spaces between them."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _alone(value: Any) -> Any:
    """The value, or the only one of a list."""
    if isinstance(value, list):
        if len(value) != 1:
            raise ValueError(f"{value} are several values")
        return value[0]
    return value


def to(key: str, read: Callable[[Any], Any] = number, why: str = "") -> Convert:
    """A value that means the same under our key."""
    return lambda value, _: Put({key: read(value)}, why)


def above_zero(key: str, read: Callable[[Any], Any] = number, why: str = "") -> Convert:
    """A value that means the same under our key, where nothing and 0 mean that it is off, as it is here by default."""

    def convert(value: Any, options: Options) -> Result:
        return Needless(OFF_THERE) if off(value) else to(key, read, why)(value, options)

    return convert


def epochs_to(key: str) -> Convert:
    """A number of epochs where our key wants steps."""

    def convert(value: Any, _: Options) -> Result:
        return Needless(OFF_THERE) if off(value) else Put({key: Epochs(number(value))}, "counted in steps here")

    return convert


def count_or_part(value: Any) -> int | Part:
    """Steps or, below 1, a part of them."""
    found = number(value)
    return Part(found) if 0 < found < 1 else int(found)


def one_of(key: str, choices: Mapping[str, Any], otherwise: str) -> Convert:
    """A word that has another name here, whatever its capitals; others are left, and `otherwise` says what happens."""
    small = {name.lower(): value for name, value in choices.items()}

    def convert(value: Any, _: Options) -> Result:
        said = str(_alone(value)).strip().lower()
        if said not in small:
            return Needless(OFF_THERE) if off(value) else Left(otherwise)
        found = small[said]
        return found if isinstance(found, (Put, Left, Needless)) else Put({key: found})

    return convert


def when_true(keys: Mapping[str, Any], why: str = "") -> Convert:
    """A switch that sets our keys where it is on."""
    return lambda value, _: Put(keys, why) if truth(value) else Needless(OFF_THERE)


def needless(why: str) -> Convert:
    """Never needed here."""
    return lambda _value, _options: Needless(why)


def left(why: str) -> Convert:
    """Without a counterpart here."""
    return lambda value, _: Needless(OFF_THERE) if off(value) else Left(why)


def every(names: str, convert: Convert) -> dict[str, Convert]:
    """The same row for several options, whose names are divided by spaces."""
    return dict.fromkeys(names.split(), convert)


def pairs(said: Any) -> dict[str, str]:
    """`key=value` texts, in a list or divided by spaces, as a dictionary. Raises: ValueError for other forms."""
    words: Iterable[str] = shlex.split(said) if isinstance(said, str) else map(str, said or ())
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word} is not of the form key=value")
        found[name.strip()] = value.strip().strip("\"'")
    return found
