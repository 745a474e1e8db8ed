"""Which way a network's attention is computed: `install(network)` and `remove(network)`.

The network's own processors stay, with all that they do beside attention; only the one function that they call goes
another way. Names of modules, state dicts and adapters are as before. diffusers' own setting, `set_attention_backend`,
does not reach these processors: they call torch's function themselves.
"""

import copy
import types
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bespoke.models.backends import BLOCKS, TORCHS, Shape, shape_of, ways
from bespoke.models.chunked import Others, States, attend

FORMATS = (torch.bfloat16, torch.float32)
"""What attention in blocks computes in."""
FEW = 2**17
"""Scores of a head, at most, that are computed at once: a quarter of a megabyte in bfloat16."""


def install(network: Any, choices: Mapping[Shape, str] | None = None) -> int:
    """How many attention layers of a diffusers network now compute attention another way, in place.

    `choices` are ways by shape, as `backends.quickest` finds them for `shapes_of` the network. Without one for a shape
    attention on a processor in bfloat16 is in blocks, and else torch's own; with masks it is always torch's own.
    """
    functions = _Functions(choices or {})
    found = {name: _derived(_plain(processor), functions) for name, processor in network.attn_processors.items()}
    count = sum(isinstance(processor, _Derived) for processor in found.values())
    network.set_attn_processor(found)
    return count


def remove(network: Any) -> None:
    """Gives a network's attention layers back their own processors, in place."""
    network.set_attn_processor({name: _plain(processor) for name, processor in network.attn_processors.items()})


def shapes_of(network: Any, *inputs: Any, **named: Any) -> list[Shape]:
    """The shapes of attention that a network computes for such inputs, without computing it; without masks only."""
    with seen(network) as found:
        network(*inputs, **named)
    return list(found)


@contextmanager
def seen(network: Any) -> Generator[Mapping[Shape, None], None, None]:
    """A block in which nothing is computed, and the shapes of attention without masks that a network is asked for."""
    processors = dict(network.attn_processors)
    functions = _Functions({})
    network.set_attn_processor({name: _derived(_plain(one), functions) for name, one in processors.items()})
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            yield functions.seen
    finally:
        network.set_attn_processor(processors)


def suits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether attention without a mask can be computed in blocks."""
    same = query.dtype == key.dtype == value.dtype and value.shape == key.shape and query.shape[:2] == key.shape[:2]
    return same and query.ndim == 4 and query.device.type == "cpu" and query.dtype in FORMATS


def at_once(query: States, key: Others, value: Others) -> States:
    """The same as `attend`, with all scores in memory: where there are few of them, blocks only cost."""
    (batch, heads, rows, width), keys = query.shape, key.flatten(0, 1).mT
    # What is added to the scores counts for nothing: the scale comes with the product so.
    scores = torch.baddbmm(query.new_empty(1, 1, 1), query.flatten(0, 1), keys, beta=0, alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(batch, heads, rows, -1)


class _Derived:
    """Marks processors whose attention goes another way."""

    plain: type
    """What they were."""


class _Functions:
    """torch's functions, but for the one."""

    def __init__(self, choices: Mapping[Shape, str]) -> None:
        self.choices = choices
        self.seen = dict[Shape, None]()
        """The shapes of attention without a mask so far, in order."""
        self.kinds = dict[type, type]()
        """The kinds of processors that use these functions, by what they were: torch's compiler tells kinds apart."""

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    def scaled_dot_product_attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **others: Any
    ) -> Tensor:
        """As torch's."""
        if attn_mask is not None or any(others.values()):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, **others)
        shape = shape_of(query, key)
        if not torch.compiler.is_compiling():
            self.seen.setdefault(shape)
        known, blocks = ways(query.device), suits(query, key, value)
        if shape not in self.choices and blocks and query.dtype == torch.bfloat16:
            return (at_once if shape.rows * shape.keys <= FEW else attend)(query, key, value)
        way = self.choices.get(shape, TORCHS)
        if way not in known or (way == BLOCKS and not blocks):
            way = TORCHS
        return known[way](query, key, value)


def _derived(processor: Any, functions: _Functions) -> Any:
    """The same processor with another attention, where it is of a kind that calls torch's."""
    from diffusers.models.attention_processor import AttnProcessor2_0, JointAttnProcessor2_0

    kind: Any = type(processor)
    if kind not in (AttnProcessor2_0, JointAttnProcessor2_0):
        return processor
    if kind not in functions.kinds:
        functions.kinds[kind] = _kind(kind, functions)
    return _as(processor, functions.kinds[kind])


def _plain(processor: Any) -> Any:
    return _as(processor, processor.plain) if isinstance(processor, _Derived) else processor


def _as(processor: Any, kind: type) -> Any:
    found = copy.copy(processor)
    found.__class__ = kind
    return found


def _kind(plain: Any, functions: _Functions) -> type:
    """A kind of processors with the code of another, whose `F` has another attention.

    So the rest of what a processor does is diffusers' own, whatever its version; and what one network does, no other
    does.
    """
    code = plain.__call__
    known = {**code.__globals__, "F": functions}
    del known["__name__"]  # or torch's compiler looks for `F` in the module of that name
    call = types.FunctionType(code.__code__, known, code.__name__, code.__defaults__, code.__closure__)
    call.__kwdefaults__, call.__annotations__ = code.__kwdefaults__, code.__annotations__
    return type(f"Chosen{plain.__name__}", (_Derived, plain), {"__call__": call, "plain": plain})
