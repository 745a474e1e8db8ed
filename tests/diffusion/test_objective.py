"""Losses against kohya's definitions, written anew here with torch, and what they do at their limits."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.diffusion import Loss, Schedule, squared_errors
from bespoke.diffusion.objective import huber_errors, huber_thresholds, smooth_errors

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
seeds = st.integers(0, 2**31)
limits = st.floats(1e-3, 1.0)


def pair(seed, scale=1.0):
    source = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(3, 4, 5, 6, generator=source) for _ in range(2))


def as_in_kohya(answer, target, kind, c):
    """library/train_util.py of sd-scripts, `conditional_loss`, in float64."""
    answer, target, c = answer.double(), target.double(), c.double().view(-1, 1, 1, 1)
    factor = c if kind == "huber" else 1.0
    return (2 * factor * (torch.sqrt((answer - target) ** 2 + c**2) - c)).mean(dim=(1, 2, 3)).float()


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
@settings(max_examples=25, deadline=None)
@given(seed=seeds, c=st.lists(limits, min_size=3, max_size=3).map(torch.tensor))
def test_errors_are_kohyas(kind, seed, c):
    answer, target = pair(seed)
    ours = (huber_errors if kind == "huber" else smooth_errors)(answer, target, c)
    torch.testing.assert_close(ours, as_in_kohya(answer, target, kind, c), rtol=1e-5, atol=1e-7)


@given(seed=seeds)
def test_huber_is_squared_below_its_threshold_and_straight_above(seed):
    answer, target = pair(seed)
    far, near = torch.full((3,), 1e4), torch.full((3,), 1e-4)
    torch.testing.assert_close(huber_errors(answer, target, far), squared_errors(answer, target), rtol=1e-4, atol=0)
    straight = (answer - target).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(smooth_errors(answer, target, near), 2 * straight, rtol=1e-3, atol=0)
    assert bool((huber_errors(answer, target, torch.full((3,), 0.3)) < squared_errors(answer, target)).all())


def test_gradients_are_numbers_where_nothing_is_wrong():
    answer = torch.zeros(3, 4, 5, 6, requires_grad=True)
    for errors in (huber_errors, smooth_errors):
        (slope,) = torch.autograd.grad(errors(answer, torch.zeros(3, 4, 5, 6), torch.full((3,), 0.1)).sum(), answer)
        assert bool((slope == 0).all())


def test_small_differences_lose_no_digits():
    """What `sqrt(d² + c²) − c` gives in float32 for such is 0."""
    answer = torch.full((1, 4, 2, 2), 1e-5)
    found = huber_errors(answer, torch.zeros_like(answer), torch.tensor([1.0]))
    torch.testing.assert_close(found, torch.tensor([1e-10]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("zero", [False, True])
@settings(deadline=None, max_examples=15)
@given(c=limits)
def test_thresholds_are_kohyas(zero, c):
    """library/train_util.py of sd-scripts, `get_huber_threshold_if_needed`, from diffusers' own schedule."""
    config = {**CONFIG, "rescale_betas_zero_snr": zero}
    ours, theirs = Schedule.from_config(config), DDIMScheduler(**config)
    at = torch.arange(1000)
    sigmas = ((1 - theirs.alphas_cumprod) / theirs.alphas_cumprod) ** 0.5
    wanted = {
        "constant": torch.full((1000,), c),
        "exponential": torch.exp(math.log(c) / 1000 * at),
        "snr": (1 - c) / (1 + sigmas) ** 2 + c,
    }
    for kind, values in wanted.items():
        found = huber_thresholds(c, kind, at, ours)
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-7)
        assert float(found.min()) >= c * (1 - 1e-4) and float(found.max()) <= 1 + 1e-6
        assert float(found[-1]) == pytest.approx(c, rel=0.02 if kind == "exponential" else 4, abs=0.02)


@pytest.mark.parametrize("zero", [False, True])
def test_a_loss_takes_each_picture_by_its_timestep(zero):
    schedule = Schedule.from_config({**CONFIG, "rescale_betas_zero_snr": zero})
    answer, target = pair(3)
    times = torch.tensor([0, 500, 999])
    assert torch.equal(Loss().errors(answer, target, times, schedule), squared_errors(answer, target))
    for kind in ("huber", "smooth_l1"):
        for over_time in ("constant", "exponential", "snr"):
            c = huber_thresholds(0.1, over_time, times, schedule)
            found = Loss(kind, 0.1, over_time).errors(answer, target, times, schedule)
            assert bool(found.isfinite().all())
            torch.testing.assert_close(found, as_in_kohya(answer, target, kind, c), rtol=1e-5, atol=1e-7)


def test_errors_are_in_float32_whatever_the_network_computed_in():
    answer, target = pair(1)
    found = huber_errors(answer.bfloat16(), target.bfloat16(), torch.full((3,), 0.1))
    assert found.dtype == torch.float32
    exact = huber_errors(answer.bfloat16().float(), target.bfloat16().float(), torch.full((3,), 0.1))
    assert torch.equal(found, exact)
