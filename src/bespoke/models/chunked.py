"""Attention in blocks of queries: matrix products in the numbers' own format, exact softmax with sums in float32.

For processors: torch's own fused attention gains nothing there from bfloat16, and these products do. A block sees all
keys, and no tensor grows with the square of the tokens. Scores are written into memory that each thread keeps: where
the system hands out fresh pages, those cost as much as the product that fills them.

Softmax is 2^(s - m) / l, for any m. Here m is the highest score of some keys; it is one more column of the queries,
against ones in the keys, so that the product takes it off before a score is rounded. What softmax's derivative takes
off its gradient is subtracted in the same way. Those gradients of a row sum up to 0, so that the keys' mean may be
taken off the keys that they are multiplied with: then it does not multiply their rounding.
Source: Milakov and Gimelshein 2018, section 2; Dao et al. 2022, appendix B.2 (the backward pass).
"""

import math
import threading
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

ROWS = 512
"""Queries in a block, at most, where there are many keys; with fewer, products are slower."""
SCORES = 2**20
"""Scores in a block of several heads, or of few keys, at most: 2 MB in bfloat16."""
LOOKED_AT = 32
"""Keys that are looked at for a row's highest score, about."""
HIGHEST = 2.0**64
"""A row's sum from which on all keys are looked at: half of the exponents that bfloat16 and float32 have."""
PARTS = 16
"""Of a row, each summed in float32 and rounded to the scores' format once before all are added in float32."""
LOG2E = math.log2(math.e)

States = Float[Tensor, "b heads n width"]
Others = Float[Tensor, "b heads m width"]


def attend(query: States, key: Others, value: Others) -> States:
    """The values' means by softmax(query · key / √width), as `torch.nn.functional.scaled_dot_product_attention` has it.

    All three are in one format, bfloat16 or float32. Source: Vaswani et al. 2017, equation 1.
    """
    return _attend(query, key, value)[0]


@torch.library.custom_op("bespoke::chunked_attention", mutates_args=(), device_types="cpu")
def _attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The answer; the scaled queries [b·heads n width+1] with what is taken off scores; rows' sums [b·heads n 1]."""
    queries, keys, values = _scaled(query), _beside(key, 1), value.flatten(0, 1)
    answer, sums = torch.empty(values.shape[0], *query.shape[2:], dtype=query.dtype), torch.empty(*queries.shape[:2], 1)
    for step in (max(1, keys.shape[1] // LOOKED_AT), 1):
        _answer(queries, keys, values, answer, sums, step)
        if float(sums.max()) < HIGHEST:
            break
    return answer.view(query.shape), queries, sums


@_attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001 - as the operator
    heads, rows, width = query.shape[0] * query.shape[1], query.shape[2], query.shape[3]
    queries, sums = query.new_empty(heads, rows, width + 1), query.new_empty(heads, rows, 1, dtype=torch.float32)
    return query.new_empty(query.shape), queries, sums


@torch.library.custom_op("bespoke::chunked_attention_backward", mutates_args=(), device_types="cpu")
def _gradients(
    grad: Tensor, answer: Tensor, queries: Tensor, sums: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values."""
    keys, values, centred = _beside(key, 1), _beside(value, 2), (key - key.mean(-2, keepdim=True)).flatten(0, 1)
    by_query, by_key, by_value = (key.new_empty(one.flatten(0, 1).shape) for one in (answer, key, value))
    head_grad, head_answer = grad.flatten(0, 1), answer.flatten(0, 1)
    for heads, blocks in _blocks(queries, keys):
        sides = _room("sides", (2, *by_key[heads].mT.shape), torch.float32).zero_()
        for rows in blocks:
            at = heads, rows
            grads = _relative(head_grad[at], head_answer[at], sums[at])
            _derive(grads, queries[at], keys[heads], values[heads], centred[heads], by_query[at], sides)
        by_key[heads], by_value[heads] = sides[0].mul_(1 / LOG2E).mT, sides[1].mT
    by_query *= key.shape[3] ** -0.5
    return by_query.view(grad.shape), by_key.view(key.shape), by_value.view(value.shape)


@_gradients.register_fake
def _(grad: Tensor, *kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    *_, key, value = kept
    return grad.new_empty(grad.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output, *inputs[1:])
    ctx.mark_non_differentiable(*output[1:])


def _back(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(grad, *ctx.saved_tensors)


_attend.register_autograd(_back, setup_context=_keep)


def _answer(queries: Tensor, keys: Tensor, values: Tensor, answer: Tensor, sums: Tensor, step: int) -> None:
    """Puts in the answer [heads n width], and the sum of each row's weights, [heads n 1] in float32.

    A row's weights are relative to the highest score among every `step`th key, which is put beside its query.
    """
    looked_at = keys[:, ::step, :-1]
    for heads, blocks in _blocks(queries, keys):
        for rows in blocks:
            query = queries[heads, rows]
            seen = _scores("scores", query[..., :-1], looked_at[heads])
            torch.neg(seen.amax(-1), out=query[..., -1])
            weights = _scores("scores", query, keys[heads]).exp2_()
            total = _total(weights)
            mean = torch.bmm(weights, values[heads], out=answer[heads, rows])
            mean.copy_(_room("rows", mean.shape, torch.float32).copy_(mean).div_(total))
            sums[heads, rows] = total


def _total(weights: Tensor) -> Tensor:
    """The sums of rows [heads n 1] in float32; where rows are long, without a copy of them in that format."""
    if weights.shape[2] % PARTS:
        weights = _room("weights", weights.shape, torch.float32).copy_(weights)
    else:
        weights = weights.unflatten(-1, (PARTS, -1)).sum(-1)
    return weights.sum(-1, keepdim=True, dtype=torch.float32)


def _relative(grad: Tensor, answer: Tensor, sums: Tensor) -> Tensor:
    """The answer's gradients by the rows' sums [heads n width+2], and what softmax's derivative takes off them.

    That is in two columns, so that it is as exact as float32.
    """
    found = _room("grads", (*grad.shape[:2], grad.shape[2] + 2), grad.dtype)
    scaled = _room("rows", grad.shape, torch.float32).copy_(grad).div_(sums)
    found[..., :-2] = scaled
    # Of the numbers as they were rounded, or what should cancel out would not.
    taken = scaled.copy_(found[..., :-2]).mul_(answer).sum(-1).neg_()
    found[..., -2] = taken
    found[..., -1] = taken - found[..., -2]
    return found


def _derive(
    grads: Tensor, query: Tensor, key: Tensor, value: Tensor, centred: Tensor, by_query: Tensor, sides: Tensor
) -> None:
    """Puts in the gradients of a block's queries, and adds to those of keys and values, `sides` [2 heads width m]."""
    weights = _scores("scores", query, key).exp2_()
    part = _room("part", sides[0].shape, key.dtype)
    part32 = _room("part", part.shape, torch.float32) if part.dtype != torch.float32 else part
    sides[1] += part32.copy_(torch.bmm(_whole(grads[..., :-2]).mT, weights, out=part))
    weights *= _scores("beside", grads, value)
    sides[0] += part32.copy_(torch.bmm(_whole(query[..., :-1]).mT, weights, out=part))
    torch.bmm(weights, centred, out=by_query)


def _blocks(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """Heads that are computed at once, with the places of their rows: of several heads all, or of one head some."""
    heads, count, wide = len(queries), queries.shape[1], keys.shape[1]
    rows = min(count, max(ROWS, SCORES // wide))
    together = max(1, SCORES // (count * wide)) if rows == count else 1
    for head in range(0, heads, together):
        yield slice(head, head + together), [slice(row, row + rows) for row in range(0, count, rows)]


def _scores(name: str, left: Tensor, right: Tensor) -> Tensor:
    """The products of rows with rows, [heads n m], in memory that the thread keeps."""
    return torch.bmm(left, right.mT, out=_room(name, (*left.shape[:2], right.shape[1]), left.dtype))


def _whole(columns: Tensor) -> Tensor:
    """A copy without gaps: with them, products of several heads are slow."""
    return _room("whole", columns.shape, columns.dtype).copy_(columns)


class _Kept(threading.local):
    """Memory of one thread, by its use and format."""

    def __init__(self) -> None:
        self.memory = dict[tuple[str, torch.dtype], Tensor]()


_KEPT = _Kept()


def _room(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in memory that the thread keeps; its contents last until the next of that name and format."""
    size, held = math.prod(shape), _KEPT.memory.get((name, dtype))
    if held is None or len(held) < size:
        with torch.inference_mode(mode=False):  # or it could not be written to outside of that mode
            held = _KEPT.memory[name, dtype] = torch.empty(size, dtype=dtype)
    return held[:size].view(shape)


def _scaled(query: Tensor) -> Tensor:
    """The queries [b·heads n width+1], so that products with keys are exponents of 2; the last column is not set."""
    batch, heads, rows, width = query.shape
    found = query.new_empty(batch, heads, rows, width + 1)
    torch.mul(query, width**-0.5 * LOG2E, out=found[..., :-1])
    return found.flatten(0, 1)


def _beside(states: Tensor, ones: int) -> Tensor:
    """The states [b·heads n width+ones] with columns of ones."""
    batch, heads, rows, width = states.shape
    found = states.new_empty(batch, heads, rows, width + ones)
    found[..., :width], found[..., width:] = states, 1
    return found.flatten(0, 1)
