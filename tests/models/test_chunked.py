"""Laws of attention in blocks: it is attention, its memory grows with the tokens, and it composes with torch."""

import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from bespoke.models import chunked
from bespoke.models.chunked import attend


def drawn(batch, heads, rows, keys, width, spread=1.0, shift=0.0, kind=torch.float64):
    """Queries, keys, values and a gradient, laid out as linear layers leave them; scores have about that spread."""
    source = torch.Generator().manual_seed(rows * keys + width)

    def states(count, scale=1.0):
        flat = torch.randn(batch, count, heads * width, generator=source, dtype=torch.float64) * scale + shift
        return flat.to(kind).double().view(batch, count, heads, width).transpose(1, 2)

    root = spread**0.5
    return states(rows, root), states(keys, root), states(keys), states(rows)


def answers(attention, given, kind):
    """The answer and the gradients of queries, keys and values, in float64."""
    query, key, value, grad = (one.to(kind).detach() for one in given)
    leaves = [one.requires_grad_() for one in (query, key, value)]
    answer = attention(*leaves)
    answer.backward(grad)
    return [one.double() for one in (answer.detach(), *(leaf.grad for leaf in leaves))]


def cosine(one, two):
    return float(F.cosine_similarity(one.flatten(), two.flatten(), dim=0))


batches, heads, rows = st.integers(1, 3), st.integers(1, 5), st.integers(1, 70)
spreads, shifts = st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from([0.0, 2.0])


@settings(max_examples=60)
@given(batches, heads, rows, st.integers(1, 90), st.sampled_from([1, 3, 8, 40, 48]), spreads, shifts)
def test_it_is_attention(batch, heads, rows, keys, width, spread, shift):
    given = drawn(batch, heads, rows, keys, width, spread, shift)
    exact = answers(F.scaled_dot_product_attention, given, torch.float64)
    found = answers(attend, given, torch.float32)
    for one, two in zip(found, exact, strict=True):
        assert one.shape == two.shape
        # With a single key, gradients of scores are differences of numbers as large as the answer's gradient.
        assert float((one - two).norm()) <= 1e-5 * float(two.norm() + given[3].norm())


@settings(max_examples=60)
@given(batches, heads, st.integers(16, 70), st.integers(8, 90), st.sampled_from([8, 40, 48, 80]), spreads, shifts)
def test_in_bfloat16_it_points_the_same_way(batch, heads, rows, keys, width, spread, shift):
    given = drawn(batch, heads, rows, keys, width, spread, shift, kind=torch.bfloat16)
    exact = answers(F.scaled_dot_product_attention, given, torch.float64)
    found = answers(attend, given, torch.bfloat16)
    theirs = answers(F.scaled_dot_product_attention, given, torch.bfloat16)
    for one, two, other in zip(found, exact, theirs, strict=True):
        # Where gradients of scores all but cancel out, only rounding is left, as of torch's.
        rounding = 3 * float((other - two).norm()) + 2.0**-6 * float(given[3].norm())
        assert cosine(one, two) >= 0.999 or float((one - two).norm()) <= rounding


@pytest.mark.parametrize(("rows", "keys"), [(600, 600), (1100, 2100), (3000, 77)])
def test_blocks_of_rows_are_one_answer(rows, keys):
    """Several blocks, the last of them smaller, and heads that go together."""
    given = drawn(1, 3, rows, keys, 8)
    exact = answers(F.scaled_dot_product_attention, given, torch.float64)
    for one, two in zip(answers(attend, given, torch.float32), exact, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    for one, two in zip(answers(attend, given, torch.bfloat16), exact, strict=True):
        assert cosine(one, two) >= 0.999


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_key_that_was_not_looked_at_may_be_far_above(kind):
    """One key in a hundred scores 300 more than the rest, far beyond what numbers of either format can hold."""
    query, key, value, grad = drawn(1, 1, 100, 100, 16, kind=torch.bfloat16)
    query[..., 0], key[..., 0] = 60.0, 0.0
    key[..., 1, 0] = 20.0
    given = query, key, value, grad
    exact = answers(F.scaled_dot_product_attention, given, torch.float64)
    found = answers(attend, given, kind)
    assert all(one.isfinite().all() for one in found)
    torch.testing.assert_close(found[0], exact[0], rtol=1e-2, atol=1e-2)
    assert cosine(found[3], exact[3]) >= 0.999


class Largest(TorchDispatchMode):
    """Notes the most numbers that one tensor holds."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.most = max([self.most, *(t.numel() for t in tree_leaves(found) if isinstance(t, torch.Tensor))])
        return found


def largest(tokens):
    """The most numbers in a tensor of both passes over so many tokens, in a thread that has kept no memory yet."""
    query, key, value, grad = (one.float() for one in drawn(1, 1, tokens, tokens, 2))
    most = []

    def run():
        with torch.no_grad(), Largest() as mode:
            answer, queries, sums = chunked._attend._init_fn(query, key, value)
            chunked._gradients._init_fn(grad, answer, queries, sums, key, value)
        most.append(mode.most)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return most[0]


def test_no_tensor_grows_with_the_square_of_the_tokens():
    small, large = largest(4096), largest(8192)
    assert small == chunked.ROWS * 4096, "this looks at what the blocks take"
    assert large == 2 * small


def test_torch_takes_it_for_an_operator():
    query, key, value, grad = (one.float().requires_grad_() for one in drawn(1, 2, 9, 11, 4))
    torch.library.opcheck(chunked._attend, (query, key, value))
    with torch.no_grad():
        answer, queries, sums = chunked._attend(query, key, value)
        torch.library.opcheck(chunked._gradients, (grad, answer, queries, sums, key, value))


def test_after_a_block_without_gradients_there_are_gradients():
    """Memory that was first made in torch's inference mode may be written to later."""
    given = drawn(1, 1, 40, 40, 8)
    wrong = []

    def run():
        try:
            with torch.inference_mode():
                attend(*(one.float() for one in given[:3]))
            answers(attend, given, torch.float32)
        except RuntimeError as error:
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not wrong


def test_it_may_be_computed_again_instead_of_kept():
    given = drawn(1, 2, 30, 30, 8)
    again = answers(lambda *states: checkpoint(attend, *states, use_reentrant=False), given, torch.float32)
    for one, two in zip(again, answers(attend, given, torch.float32), strict=True):
        assert torch.equal(one, two)
