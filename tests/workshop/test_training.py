"""The small trainer that makes pico: gradients of one batch, orthogonal updates, pictures that come again."""

import numpy as np
import pytest
import torch
from pico import training
from torch import nn


@pytest.fixture
def trainer(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    budget = training.Budget(1.0, 4, 1e-2, muon_rate=1e-2, processes=1, warmup_steps=1, clip=1e9)
    return training.Trainer({"net": network}, tmp_path, budget, 0)


def loss(network):
    return network(torch.ones(4, 6)).square().mean()


def test_a_step_sees_the_gradient_of_its_own_batch_alone(trainer):
    """Of the matrices that Muon moves, too, which AdamW's own clearing would pass over."""
    network = trainer.parts["net"]
    trainer.optimize(loss(network))
    trainer.optimize(loss(network))
    held = [parameter.grad.clone() for parameter in network.parameters()]
    trainer.optimize(loss(network) * 0)
    assert all(gradient.abs().max() > 0 for gradient in held)
    assert all(parameter.grad.abs().max() == 0 for parameter in network.parameters())


def test_both_optimizers_move_what_is_theirs_at_the_rate_that_was_set(trainer):
    network = trainer.parts["net"]
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    trainer._set_rates()
    trainer.optimize(loss(network))
    moved = {name: (value - before[name]).detach() for name, value in network.named_parameters()}
    assert {name for name, change in moved.items() if change.abs().max() == 0} == set()
    for name in ("0.weight", "2.weight"):
        _, sizes, _ = torch.linalg.svd(moved[name])
        expected = 0.2 * max(moved[name].shape) ** 0.5 * 1e-2
        assert sizes.max() < 1.4 * expected
    assert moved["0.bias"].abs().max() == pytest.approx(1e-2, rel=1e-2)


def test_orthogonal_gives_all_directions_about_the_same_length():
    matrices = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 9))).float()
    for matrix in (*training.orthogonal(matrices), *training.orthogonal(matrices.mT)):
        _, sizes, _ = torch.linalg.svd(matrix.float())
        assert sizes.min() > 0.5 and sizes.max() < 1.4


def test_each_picture_comes_as_often_as_it_should_and_old_ones_go():
    fresh = (torch.full((4, 1), float(number)) for number in range(400))
    seen = torch.cat(list(training.reused(fresh, batch=16, room=64))).flatten().int()
    counts = torch.bincount(seen, minlength=400)
    assert counts[40:-40].float().mean() == pytest.approx(16, rel=0.05)  # four of a number, four times each
    assert int(counts[-1]) > 0
    ages = [number - batch.min() for number, batch in zip(range(15, 400), seen.view(-1, 16), strict=True)]
    assert max(int(age) for age in ages) < 64 // 4
