"""Which way a network's attention is computed: `install(network)` and `remove(network)`.

The network's own processors stay, with all that they do beside attention; only the one function that they call goes
another way. Names of modules, state dicts and adapters are as before.
"""

import copy
import functools
import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bespoke.models.chunked import Others, States, attend

FORMATS = (torch.bfloat16, torch.float32)
"""What attention in blocks computes in."""
FEW = 2**17
"""Scores of a head, at most, that are computed at once: a quarter of a megabyte in bfloat16."""


def install(network: Any) -> int:
    """How many attention layers of a diffusers network now compute attention in blocks on a processor, in place.

    They do so in bfloat16; in float32, with masks and on a GPU attention is torch's own. Where that was done before,
    nothing changes.
    """
    found = {name: _derived(processor) for name, processor in network.attn_processors.items()}
    network.set_attn_processor(dict(found))  # which empties what it is given
    return sum(isinstance(processor, _Derived) for processor in found.values())


def remove(network: Any) -> None:
    """Gives a network's attention layers back their own processors, in place."""
    network.set_attn_processor({name: _plain(processor) for name, processor in network.attn_processors.items()})


def suits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether attention without a mask can be computed in blocks."""
    same = query.dtype == key.dtype == value.dtype and value.shape == key.shape and query.shape[:2] == key.shape[:2]
    return same and query.ndim == 4 and query.device.type == "cpu" and query.dtype in FORMATS


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **others: Any) -> Tensor:
    """As `scaled_dot_product_attention`."""
    plain = attn_mask is None and not any(others.values()) and query.dtype == torch.bfloat16
    if plain and suits(query, key, value):
        return (at_once if query.shape[2] * key.shape[2] <= FEW else attend)(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, **others)


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

    scaled_dot_product_attention = staticmethod(_attention)

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)


def _derived(processor: Any) -> Any:
    """The same processor with attention another way, where it is of a kind that calls torch's function."""
    from diffusers.models.attention_processor import AttnProcessor2_0, JointAttnProcessor2_0

    return (
        _as(processor, _kind(type(processor)))
        if type(processor) in (AttnProcessor2_0, JointAttnProcessor2_0)
        else processor
    )


def _plain(processor: Any) -> Any:
    return _as(processor, processor.plain) if isinstance(processor, _Derived) else processor


def _as(processor: Any, kind: type) -> Any:
    found = copy.copy(processor)
    found.__class__ = kind
    return found


@functools.cache
def _kind(plain: Any) -> type:
    """A kind of processors with the code of another, whose `F` has another attention.

    So the rest of what a processor does is diffusers' own, whatever its version; and what one network does, no other
    does.
    """
    code = plain.__call__
    call = types.FunctionType(
        code.__code__, {**code.__globals__, "F": _Functions()}, code.__name__, code.__defaults__, code.__closure__
    )
    call.__kwdefaults__, call.__annotations__ = code.__kwdefaults__, code.__annotations__
    return type(f"Chosen{plain.__name__}", (_Derived, plain), {"__call__": call, "plain": plain})
