"""Weights against the scripts they come from, and the laws that tie them together."""

from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from bespoke.diffusion import Schedule, min_snr_weights
from bespoke.diffusion.weighting import debiased_weights, p2_weights, soft_min_snr_weights

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SD15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
ALL = {
    "min": partial(min_snr_weights, gamma=5.0),
    "soft": partial(soft_min_snr_weights, gamma=5.0),
    "debiased": debiased_weights,
    "p2": partial(p2_weights, gamma=1.0, k=1.0),
}
ratios = st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=20).map(torch.tensor)


@pytest.mark.parametrize("name", ["min", "soft", "p2"])
@given(snr=ratios)
def test_one_weighting_is_the_same_objective_for_every_prediction(name, snr):
    """Errors of noise, v and clean latents are each other's by the ratio: so must the weights be."""
    epsilon, v, clean, flow = (ALL[name](snr, prediction) for prediction in (*PREDICTIONS, "flow"))
    torch.testing.assert_close(epsilon * snr, clean, rtol=1e-5, atol=0)
    torch.testing.assert_close(flow * (snr.sqrt() + 1) ** 2, clean, rtol=1e-5, atol=0)
    torch.testing.assert_close(v * (snr + 1), clean, rtol=1e-5, atol=0)


def test_the_errors_are_each_others_by_the_ratio():
    """What the law above rests on, by the schedule itself: a network that errs by the same clean latents."""
    source = torch.Generator().manual_seed(0)
    clean, noise, wrong = (torch.randn(4, 4, 3, 3, generator=source) for _ in range(3))
    times = torch.tensor([10, 300, 600, 950])
    errors = {}
    for prediction in PREDICTIONS:
        schedule = Schedule.from_config({**SD15, "prediction_type": prediction})
        noisy, signal = schedule.noisy(clean, noise, times), schedule.signal[times][:, None, None, None]
        implied = (noisy - signal.sqrt() * (clean + wrong)) / (1 - signal).sqrt()
        answer = schedule.target(clean + wrong, implied, times)
        errors[prediction] = (answer - schedule.target(clean, noise, times)).square().mean(dim=(1, 2, 3))
    snr = schedule.signal_to_noise(times)
    torch.testing.assert_close(errors["epsilon"], snr * errors["sample"], rtol=1e-3, atol=0)
    torch.testing.assert_close(errors["v_prediction"], (snr + 1) * errors["sample"], rtol=1e-3, atol=0)


@pytest.mark.parametrize("zero", [False, True])
def test_debiased_weights_are_kohyas(zero):
    """library/custom_train_functions.py of sd-scripts, `apply_debiased_estimation`, at each of the timesteps."""
    config = {**SD15, "rescale_betas_zero_snr": zero}
    snr = compute_snr(DDIMScheduler(**config), torch.arange(1000))
    capped = torch.minimum(snr, torch.full_like(snr, 1000.0))
    ratio = Schedule.from_config(config).signal_to_noise(torch.arange(1000))
    torch.testing.assert_close(debiased_weights(ratio, "v_prediction"), 1 / (capped + 1), rtol=2e-4, atol=1e-9)
    there = snr > 1e-3
    assert bool(there.all()) != zero
    torch.testing.assert_close(
        debiased_weights(ratio, "epsilon")[there], (1 / capped.sqrt())[there], rtol=2e-4, atol=1e-9
    )
    torch.testing.assert_close(debiased_weights(ratio, "sample")[there], capped.sqrt()[there], rtol=2e-4, atol=1e-9)


@given(snr=ratios, gamma=st.floats(0.1, 2), k=st.floats(0.1, 5))
def test_p2_weights_are_those_of_the_papers_code(snr, gamma, k):
    """guided_diffusion/gaussian_diffusion.py of P2-weighting: 1 / (k + snr) ** gamma of the noise's error."""
    torch.testing.assert_close(p2_weights(snr, "epsilon", gamma, k), 1 / (k + snr) ** gamma, rtol=1e-5, atol=0)


@given(snr=ratios, gamma=st.floats(0.5, 20))
def test_the_soft_weight_is_below_the_hard_one_and_meets_it_far_from_the_corner(snr, gamma):
    soft, hard = (f(snr, "sample", gamma) for f in (soft_min_snr_weights, min_snr_weights))
    assert bool((soft <= hard * (1 + 1e-5)).all()) and bool((soft >= hard / 2 * (1 - 1e-5)).all())
    far = (snr / gamma > 100) | (gamma / snr > 100)
    torch.testing.assert_close(soft[far], hard[far], rtol=0.011, atol=0)


def test_the_soft_weight_is_that_of_its_paper():
    """Of the clean latents' error, 1 / (sigma² + 1 / gamma), for the sigmas of EDM: one over the ratio's root."""
    sigma, gamma = torch.tensor([0.01, 0.3, 1.0, 20.0]), 4.0
    torch.testing.assert_close(soft_min_snr_weights(sigma**-2, "sample", gamma), 1 / (sigma**2 + 1 / gamma))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ALL)
def test_weights_are_numbers_where_no_signal_is_left(name, prediction):
    for zero in (False, True):
        schedule = Schedule.from_config({**SD15, "prediction_type": prediction, "rescale_betas_zero_snr": zero})
        weights = ALL[name](schedule.signal_to_noise(torch.arange(1000)), prediction)
        assert bool(weights.isfinite().all()) and bool((weights >= 0).all())
        assert weights.dtype == torch.float32
