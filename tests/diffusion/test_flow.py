"""Flow matching against diffusers' scheduler and training functions."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bespoke.diffusion.flow import (
    flow_noisy,
    flow_shifted,
    flow_target,
    flow_weights,
    logit_normal_sigmas,
    mode_sigmas,
)

seeds = st.integers(0, 2**31)


def scheduler(shift) -> Any:
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def latents(seed):
    source = torch.Generator().manual_seed(seed)
    return (torch.randn(3, 4, 5, 6, generator=source) for _ in range(2))


@settings(deadline=None, max_examples=20)
@given(seed=seeds, at=st.lists(st.integers(0, 999), min_size=3, max_size=3))
def test_noisy_latents_are_diffusers(seed, at):
    theirs = scheduler(shift=3.0)
    times = theirs.timesteps[at]
    clean, noise = latents(seed)
    found = flow_noisy(clean, noise, theirs.sigmas[at])
    torch.testing.assert_close(found, theirs.scale_noise(clean, times, noise), rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=20)
@given(seed=seeds)
def test_a_right_answer_leads_back_to_the_clean_latents(seed):
    """By diffusers' own steps: along a straight line any number of them will do."""
    theirs = scheduler(shift=3.0)
    theirs.set_timesteps(7)
    clean, noise = latents(seed)
    at = flow_noisy(clean, noise, theirs.sigmas[:1].expand(3))
    for time in theirs.timesteps:
        at = theirs.step(flow_target(clean, noise), time, at).prev_sample
    torch.testing.assert_close(at, clean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shifted_sigmas_are_diffusers(shift):
    plain, theirs = (scheduler(shift=s).sigmas for s in (1.0, shift))
    torch.testing.assert_close(flow_shifted(plain, shift), theirs, rtol=1e-6, atol=1e-7)


def test_logit_normal_sigmas_are_diffusers_draws():
    source = torch.Generator().manual_seed(0)
    theirs = compute_density_for_timestep_sampling("logit_normal", 5000, 0.4, 0.7, generator=source)
    u = torch.rand(5000, generator=source, dtype=torch.float64)
    ours = logit_normal_sigmas(u.float(), 0.4, 0.7)
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3
    exact = 1 / (1 + np.exp(-stats.norm.ppf(u.numpy(), 0.4, 0.7)))
    np.testing.assert_allclose(ours.numpy(), exact, rtol=1e-4)


@pytest.mark.parametrize("scale", [-0.5, 0.0, 1.29])
def test_mode_sigmas_are_diffusers(scale):
    theirs = compute_density_for_timestep_sampling(
        "mode", 100, mode_scale=scale, generator=torch.Generator().manual_seed(2)
    )
    u = torch.rand(100, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(mode_sigmas(u, scale), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighting", ["none", "logit_normal", "mode", "sigma_sqrt", "cosmap"])
def test_weights_are_diffusers(weighting):
    sigmas = torch.linspace(0.01, 1, 50)
    theirs = compute_loss_weighting_for_sd3(weighting, sigmas)
    torch.testing.assert_close(flow_weights(sigmas, weighting), theirs, rtol=1e-6, atol=0)
