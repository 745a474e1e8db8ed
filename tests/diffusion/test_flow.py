"""Flow matching against diffusers' scheduler and training functions."""

from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_loss_weighting_for_sd3
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.diffusion import Loss, Schedule, schedule_of
from bespoke.diffusion.flow import Flow, flow_noisy, flow_shifted, flow_target
from bespoke.diffusion.weighting import cosmap_weights, picture_weights
from bespoke.errors import BespokeError

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


# --- as a schedule ---


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_schedule_of_a_model_has_diffusers_sigmas_and_tells_its_timesteps(shift):
    theirs = scheduler(shift=shift)
    ours = schedule_of(dict(theirs.config) | {"_class_name": "FlowMatchEulerDiscreteScheduler"})
    assert isinstance(ours, Flow) and ours.steps == 1000
    torch.testing.assert_close(ours.sigmas.flip(0), theirs.sigmas, rtol=1e-6, atol=1e-7)
    times = torch.arange(1000)
    torch.testing.assert_close(ours.told(times).flip(0), theirs.timesteps, rtol=1e-6, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(seed=seeds, at=st.lists(st.integers(0, 999), min_size=3, max_size=3))
def test_noisy_latents_and_targets_at_timesteps_are_diffusers(seed, at):
    theirs = scheduler(shift=3.0)
    ours, (clean, noise), times = Flow.from_config(theirs.config), latents(seed), torch.tensor(at)
    noisy = ours.noisy(clean, noise, times)
    wanted = theirs.scale_noise(clean, theirs.timesteps.flip(0)[times], noise)
    torch.testing.assert_close(noisy, wanted, rtol=1e-5, atol=1e-6)
    back = noisy - ours.sigmas[times][:, None, None, None] * ours.target(clean, noise, times)
    torch.testing.assert_close(back, clean, rtol=1e-4, atol=1e-5)


def test_the_ratio_is_that_of_the_line_and_a_diffusion_with_betas_is_told_its_own_timesteps():
    flow, plain = Flow.from_config({"shift": 3.0}), Schedule.from_config({})
    times = torch.tensor([0, 100, 500, 998])
    ratio = ((1 - flow.sigmas[times]) / flow.sigmas[times]).square()
    torch.testing.assert_close(flow.signal_to_noise(times), ratio, rtol=1e-4, atol=1e-9)
    assert torch.equal(plain.told(times), times) and type(schedule_of({})) is Schedule
    clean, noise = latents(0)
    assert Loss("huber", 0.1, "snr").errors(clean, noise, times[:3], flow).isfinite().all()


def test_sigmas_that_move_by_size_are_refused():
    with pytest.raises(BespokeError, match="use_dynamic_shifting"):
        schedule_of({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True})


def test_weights_are_those_of_diffusers_script():
    """At each of its sigmas; `precondition_outputs` makes the answer a picture before errors are counted."""
    flow = Flow.from_config({"shift": 3.0})
    times = torch.arange(20, 999)
    ratio, sigmas = flow.signal_to_noise(times), flow.sigmas[times]
    theirs = compute_loss_weighting_for_sd3("cosmap", sigmas)
    torch.testing.assert_close(cosmap_weights(ratio, "flow"), theirs, rtol=1e-3, atol=1e-6)
    clean, noise = (torch.randn(len(times), 1, 1, 1, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    answer = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    noisy = flow.noisy(clean, noise, times)
    picture = answer * -sigmas[:, None, None, None] + noisy  # as the script has it
    theirs = (picture - clean).square().mean(dim=(1, 2, 3))
    ours = picture_weights(ratio, "flow") * (answer - flow.target(clean, noise, times)).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-5)
