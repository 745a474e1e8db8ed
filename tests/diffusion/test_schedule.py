"""Schedules and objectives against diffusers, for every kind of schedule and prediction."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.diffusion import Schedule, min_snr_weights, squared_errors
from bespoke.errors import BespokeError

KINDS = [(kind, zero) for kind in ("linear", "scaled_linear", "squaredcos_cap_v2") for zero in (False, True)]
PREDICTIONS = ("epsilon", "v_prediction", "sample")
every_kind = pytest.mark.parametrize(("kind", "zero"), KINDS)


def config(kind, zero=False, prediction="epsilon", steps=1000):
    return {
        "num_train_timesteps": steps,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": kind,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero,
    }


def pair(*args, **kwargs):
    settings = config(*args, **kwargs)
    return Schedule.from_config(settings), DDIMScheduler(**settings)


def latents(seed, count=3):
    source = torch.Generator().manual_seed(seed)
    return (torch.randn(count, 4, 5, 6, generator=source) for _ in range(2))


seeds = st.integers(0, 2**31)
times = st.lists(st.integers(0, 999), min_size=3, max_size=3).map(torch.tensor)


@every_kind
@pytest.mark.parametrize("steps", [1000, 37])
def test_the_signal_is_diffusers_alpha_bar(kind, zero, steps):
    ours, theirs = pair(kind, zero, steps=steps)
    assert ours.steps == steps
    torch.testing.assert_close(ours.signal, theirs.alphas_cumprod, rtol=1e-6, atol=1e-9)


def test_ddpm_has_the_same_signal():
    """DDPM, which diffusers' training scripts use. It lifts a terminal signal of nothing a little, so none is asked."""
    for kind in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        theirs = DDPMScheduler(**config(kind)).alphas_cumprod
        torch.testing.assert_close(Schedule.from_config(config(kind)).signal, theirs, rtol=1e-6, atol=1e-9)


def test_what_a_configuration_leaves_out_is_what_diffusers_takes():
    ours, theirs = Schedule.from_config({}), DDIMScheduler()
    torch.testing.assert_close(ours.signal, theirs.alphas_cumprod, rtol=1e-6, atol=1e-9)
    assert ours.prediction == theirs.config["prediction_type"]


@every_kind
@settings(max_examples=10, deadline=None)
@given(seed=seeds, at=times)
def test_noisy_latents_are_diffusers(kind, zero, seed, at):
    ours, theirs = pair(kind, zero)
    clean, noise = latents(seed)
    torch.testing.assert_close(ours.noisy(clean, noise, at), theirs.add_noise(clean, noise, at), rtol=1e-5, atol=1e-6)


@every_kind
@settings(max_examples=10, deadline=None)
@given(seed=seeds, at=times)
def test_targets_are_what_diffusers_trains_towards(kind, zero, seed, at):
    clean, noise = latents(seed)
    _, theirs = pair(kind, zero)
    wanted = {"epsilon": noise, "sample": clean, "v_prediction": theirs.get_velocity(clean, noise, at)}
    for prediction in PREDICTIONS:
        ours = Schedule.from_config(config(kind, zero, prediction))
        assert ours.prediction == prediction
        torch.testing.assert_close(ours.target(clean, noise, at), wanted[prediction], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@settings(max_examples=10, deadline=None)
@given(seed=seeds, at=st.lists(st.integers(1, 990), min_size=3, max_size=3).map(torch.tensor))
def test_a_right_answer_leads_back_to_the_clean_latents(prediction, seed, at):
    """The law that target and noisy latents obey together, by diffusers' own step back."""
    ours, theirs = pair("scaled_linear", prediction=prediction)
    theirs = DDIMScheduler(**config("scaled_linear", prediction=prediction), clip_sample=False)
    theirs.set_timesteps(1000)
    clean, noise = latents(seed)
    noisy, target = ours.noisy(clean, noise, at), ours.target(clean, noise, at)
    for n in range(3):
        found = theirs.step(target[n], int(at[n]), noisy[n]).pred_original_sample
        torch.testing.assert_close(found, clean[n], rtol=1e-3, atol=2e-3)


@every_kind
def test_signal_to_noise_is_diffusers(kind, zero):
    ours, theirs = pair(kind, zero)
    at = torch.arange(1000)
    torch.testing.assert_close(ours.signal_to_noise(at), compute_snr(theirs, at), rtol=2e-4, atol=1e-9)
    assert (float(ours.signal_to_noise(at)[-1]) == 0) == zero


def script_weights(snr, prediction, gamma):
    """As in diffusers' examples/text_to_image/train_text_to_image.py."""
    weights = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    if prediction == "epsilon":
        return weights / snr
    if prediction == "v_prediction":
        return weights / (snr + 1)
    return weights


ratios = st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=20).map(torch.tensor)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(snr=ratios, gamma=st.floats(0.1, 50))
def test_min_snr_weights_are_those_of_diffusers_script(prediction, snr, gamma):
    torch.testing.assert_close(
        min_snr_weights(snr, prediction, gamma), script_weights(snr, prediction, gamma), rtol=1e-5, atol=0
    )


@given(snr=ratios)
def test_without_a_cap_the_weights_are_the_objectives_own(snr):
    assert torch.equal(min_snr_weights(snr, "epsilon", 1e9), torch.ones_like(snr))
    torch.testing.assert_close(min_snr_weights(snr, "v_prediction", 1e9), snr / (snr + 1))
    assert torch.equal(min_snr_weights(snr, "sample", 1e9), snr)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weights_are_numbers_where_no_signal_is_left(prediction):
    ours = Schedule.from_config(config("scaled_linear", True, prediction))
    weights = min_snr_weights(ours.signal_to_noise(torch.arange(1000)), prediction, 5.0)
    assert bool(weights.isfinite().all()) and bool((weights >= 0).all())
    assert float(weights[-1]) == (1.0 if prediction == "epsilon" else 0.0)


def test_squared_errors_are_the_mean_of_each_picture_in_float32():
    a, b = latents(1)
    ours = squared_errors(a, b)
    each = [torch.nn.functional.mse_loss(x, y) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(ours, torch.stack(each))
    low = squared_errors(a.bfloat16(), b.bfloat16())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, squared_errors(a.bfloat16().float(), b.bfloat16().float()))


@pytest.mark.parametrize(
    ("key", "value"), [("prediction_type", "flow"), ("beta_schedule", "sigmoid"), ("prediction_type", None)]
)
def test_an_unknown_kind_is_refused_with_those_known(key, value):
    with pytest.raises(BespokeError) as caught:
        Schedule.from_config({**config("linear"), key: value})
    assert repr(value) in caught.value.problem
    assert "v_prediction" in caught.value.hint and "squaredcos_cap_v2" in caught.value.hint


def test_moving_to_a_device_keeps_the_schedule():
    ours, _ = pair("linear", prediction="v_prediction")
    moved = ours.to(torch.device("cpu"))
    assert torch.equal(moved.signal, ours.signal) and moved.prediction == "v_prediction"
