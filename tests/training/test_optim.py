"""Learning rates against diffusers' schedulers, AdamW's settings, and the running average against its formula."""

import pytest
import torch
from diffusers.optimization import get_scheduler
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bespoke.recipe.training import Train
from bespoke.training.average import Average
from bespoke.training.optim import optimizer_of, rate_at

THEIRS = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant_with_warmup",
    "cosine_with_restarts": "cosine_with_restarts",
    "polynomial": "polynomial",
}


@pytest.mark.parametrize("name", sorted(THEIRS))
@settings(deadline=None, max_examples=20)
@given(
    total=st.integers(1, 120),
    warmup=st.integers(0, 40),
    rate=st.floats(1e-6, 1.0),
    cycles=st.integers(1, 4),
    power=st.floats(0.5, 3.0),
)
def test_rates_are_those_of_diffusers_at_every_step(name, total, warmup, rate, cycles, power):
    assume(name != "polynomial" or total > warmup)  # diffusers divides by the steps after the warm-up
    train = Train(
        lr_scheduler=name, max_train_steps=total, lr_warmup_steps=warmup, learning_rate=rate, lr_num_cycles=cycles,
        lr_power=power,
    )  # fmt: skip
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_scheduler(
        THEIRS[name], optimizer, num_warmup_steps=warmup, num_training_steps=total, num_cycles=cycles, power=power
    )
    for step in range(total):
        assert rate_at(step, train) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15), step
        optimizer.step()
        scheduler.step()


def test_the_optimizer_is_adamw_with_the_recipes_settings():
    train = Train(learning_rate=0.01, adam_beta1=0.8, adam_beta2=0.95, adam_weight_decay=0.3, adam_epsilon=1e-6)
    start = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = optimizer_of({"unet.weight": ours}, train)
    plain = torch.optim.AdamW([theirs], lr=0.01, betas=(0.8, 0.95), weight_decay=0.3, eps=1e-6)
    for step in range(5):
        gradient = torch.randn(5, 4, generator=torch.Generator().manual_seed(10 + step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        plain.step()
    assert not torch.equal(ours.detach(), start)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def walk(decay, steps):
    """A parameter on a random walk with its average, and the average by the formula in float64."""
    weights = {"w": torch.nn.Parameter(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))}
    average, plain = Average(weights, decay), weights["w"].detach().double().clone()
    for step in range(1, steps + 1):
        with torch.no_grad():
            weights["w"].add_(torch.randn(3, 2, generator=torch.Generator().manual_seed(step)))
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        plain = kept * plain + (1 - kept) * weights["w"].detach().double()
    return weights, average, plain


@settings(deadline=None, max_examples=20)
@given(decay=st.floats(0, 0.999), steps=st.integers(1, 60))
def test_the_average_is_its_formula(decay, steps):
    weights, average, plain = walk(decay, steps)
    torch.testing.assert_close(average.values["w"].double(), plain, rtol=1e-5, atol=1e-5)
    with average.in_place():
        assert torch.equal(weights["w"], average.values["w"])


def test_the_weights_come_back_bit_for_bit_even_after_an_error():
    weights, average, _ = walk(0.9, 5)
    before, mean = weights["w"].detach().clone(), average.values["w"].clone()
    assert not torch.equal(before, mean)
    with pytest.raises(RuntimeError), average.in_place():
        raise RuntimeError
    assert torch.equal(weights["w"], before) and torch.equal(average.values["w"], mean)


def test_without_decay_the_average_is_the_weights_themselves():
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    average = Average(weights, None)
    with torch.no_grad():
        weights["w"].add_(1)
    average.update(1)
    with average.in_place():
        assert weights["w"].tolist() == [2.0, 2.0]
    assert average.values == {} and weights["w"].tolist() == [2.0, 2.0]
