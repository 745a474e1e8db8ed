"""Both ways that are timed compute the same."""

import torch
from benchmarks.stacked import Stacked, Sum


def test_one_product_of_three_layers_has_their_answers_and_gradients():
    torch.manual_seed(0)
    x, weight = torch.randn(5, 8, dtype=torch.float64), torch.randn(24, 8, dtype=torch.float64)
    down, up = torch.randn(6, 8, dtype=torch.float64), torch.randn(3, 8, 2, dtype=torch.float64)
    out = torch.randn(5, 24, dtype=torch.float64)
    leaves = [each.clone().requires_grad_() for each in (x, down, up)]
    one = Stacked.apply(leaves[0], weight, leaves[1], leaves[2])
    one.backward(out)
    apart = [each.clone().requires_grad_() for each in (x, down, up)]
    parts = zip(weight.chunk(3), apart[1].chunk(3), apart[2], strict=True)
    three = torch.cat([Sum.apply(apart[0], *part) for part in parts], 1)
    three.backward(out)
    plain = x @ weight.T + torch.cat([x @ a.T @ b.T for a, b in zip(down.chunk(3), up, strict=True)], 1)
    torch.testing.assert_close(one, plain)
    torch.testing.assert_close(three, plain)
    for one_leaf, apart_leaf in zip(leaves, apart, strict=True):
        torch.testing.assert_close(one_leaf.grad, apart_leaf.grad)
