"""Laws of changes of low rank."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bespoke.models.lowrank import LowRank

shapes = st.sampled_from([(6, 9), (9, 6), (5, 4, 3, 3), (7, 7, 1, 1)])


def of_rank(rank, shape, seed):
    """A change of that rank as the product of two matrices, in the layer's shape."""
    source = torch.Generator().manual_seed(seed)
    wide = torch.Size(shape[1:]).numel()
    flat = torch.randn(shape[0], rank, generator=source) @ torch.randn(rank, wide, generator=source)
    return flat.reshape(shape)


@given(rank=st.integers(1, 4), shape=shapes, seed=st.integers(0, 99))
def test_the_nearest_of_a_changes_own_rank_is_exact(rank, shape, seed):
    change = of_rank(rank, shape, seed)
    low = LowRank.nearest(change, rank)
    assert low.rank == rank and low.change().shape == change.shape
    torch.testing.assert_close(low.change(), change, rtol=1e-5, atol=1e-5)


@given(rank=st.integers(1, 3), shape=shapes, seed=st.integers(0, 99))
def test_what_is_missing_is_the_singular_values_left_out(rank, shape, seed):
    """Eckart and Young: no change of that rank lies nearer."""
    change = of_rank(4, shape, seed)
    missing = (change - LowRank.nearest(change, rank).change()).norm()
    left_out = torch.linalg.svdvals(change.flatten(1).double())[rank:].norm()
    assert float(missing) == pytest.approx(float(left_out), rel=1e-3, abs=1e-4)


@given(rank=st.integers(1, 5), more=st.integers(0, 3), shape=shapes, seed=st.integers(0, 99), alpha=st.floats(0.5, 8))
def test_the_same_or_a_larger_rank_changes_nothing(rank, more, shape, seed, alpha):
    low = LowRank.nearest(of_rank(rank, shape, seed), rank)
    low = LowRank(low.down, low.up, alpha)
    assert low.resized(low.rank + more) is low
    smaller = low.resized(max(1, low.rank - 1))
    nearest = LowRank.nearest(low.change(), max(1, low.rank - 1)).change()
    torch.testing.assert_close(smaller.change(), nearest, rtol=1e-5, atol=1e-5)
