"""What checks the types of every call of bespoke's functions: jaxtyping where shapes are declared, else beartype alone.

pyproject.toml asks jaxtyping to have beartype check all functions. It also sets up each call for shapes, in which most
functions have none: that took a tenth of the tests' time.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype

_shaped = jaxtyping.jaxtyped


def be_sparing() -> None:
    """From now on, functions that declare no shapes are left to beartype alone. Comes before bespoke is read."""
    jaxtyping.jaxtyped = _jaxtyped


def _jaxtyped(*things: Any, **how: Any) -> Any:
    """jaxtyping's own decorator, as its hook puts it on every function and class."""
    return _shaped(*things, **how) if things else functools.partial(_decorated, _shaped(**how))


def _decorated(shaped: Callable[[Any], Any], thing: Any) -> Any:
    if isinstance(thing, types.FunctionType) and _is_plain(thing):
        return beartype(thing)
    made: Any = vars(thing).get("__init__") if inspect.isclass(thing) and dataclasses.is_dataclass(thing) else None
    if isinstance(made, types.FunctionType) and _is_plain(made):
        thing.__init__ = beartype(made)
        return thing
    return shaped(thing)


def _is_plain(function: types.FunctionType) -> bool:
    """Whether nothing of its annotations is a shape, or a name that jaxtyping looks up in its own way."""
    waits = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    own = inspect.isgeneratorfunction(function) or waits
    return not own and all(map(_knows_no_shape, function.__annotations__.values()))


def _knows_no_shape(hint: Any) -> bool:
    if isinstance(hint, str | typing.ForwardRef | typing.TypeVar | typing.ParamSpec):
        return False
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return False
    if typing.get_origin(hint) is typing.Literal:
        return True
    return all(map(_knows_no_shape, hint if isinstance(hint, list) else typing.get_args(hint)))
