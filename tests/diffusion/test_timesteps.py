"""Timesteps come as often as their density says: against scipy's distributions and diffusers' own draws."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from bespoke.diffusion.timesteps import Sampling, chances, cumulative, timestep
from bespoke.errors import BespokeError
from bespoke.seeds import uniform

STEPS = 1000
samplings = st.fixed_dictionaries(
    {},
    optional={
        "distribution": st.sampled_from(["uniform", "logit_normal"]),
        "mean": st.floats(-2, 2),
        "std": st.floats(0.2, 3),
        "shift": st.floats(0.1, 10),
        "first": st.integers(0, 400),
        "end": st.one_of(st.none(), st.integers(600, STEPS)),
        "bands": st.lists(st.floats(0.01, 10), max_size=7).map(tuple),
    },
)
CASES = {
    "logit-normal": Sampling("logit_normal"),
    "noisy logit-normal": Sampling("logit_normal", 0.8, 0.6),
    "shifted": Sampling(shift=3.0),
    "both, in a range": Sampling("logit_normal", -0.5, 1.2, 1.7, 100, 900),
    "in a range": Sampling(first=200, end=350),
    "bands": Sampling(bands=(1.0, 0.0, 2.0, 4.0)),
    "all": Sampling("logit_normal", 0.2, 0.9, 0.5, 30, 970, (3.0, 1.0, 1.0)),
}
each = pytest.mark.parametrize("sampling", CASES.values(), ids=CASES.keys())


def drawn(sampling, count=4000, steps=STEPS):
    table = cumulative(sampling, steps)
    return np.array([timestep(table, uniform("test", n)) for n in range(count)])


@each
def test_what_is_drawn_follows_the_chances(sampling):
    wanted, found = chances(sampling, STEPS), drawn(sampling)
    seen = np.bincount(found, minlength=STEPS)
    assert seen[wanted == 0].sum() == 0
    parts = np.minimum((np.cumsum(wanted) - wanted / 2) * 40, 39).astype(int)  # forty parts, about equally likely
    expected = np.bincount(parts, weights=wanted, minlength=40) * len(found)
    counts = np.bincount(parts, weights=seen, minlength=40)
    there = expected > 5
    scale = counts[there].sum() / expected[there].sum()
    assert stats.chisquare(counts[there], expected[there] * scale).pvalue > 1e-3


def test_another_density_would_be_noticed():
    found = np.bincount(drawn(Sampling("logit_normal")) // 100, minlength=10)
    assert stats.chisquare(found).pvalue < 1e-9


@given(sampling=samplings)
def test_chances_are_chances_and_the_range_is_kept(sampling):
    sampling = Sampling(**sampling)
    found = chances(sampling, STEPS)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    end = STEPS if sampling.end is None else sampling.end
    assert (found[: sampling.first] == 0).all() and (found[end:] == 0).all()
    table = cumulative(sampling, STEPS)
    if table is not None:
        lowest, highest = timestep(table, 0.0), timestep(table, np.nextafter(1.0, 0.0))
        assert sampling.first <= lowest <= highest < end
        assert found[lowest] > 0 and found[highest] > 0


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.5), (-1.0, 1.4)])
def test_logit_normal_chances_are_diffusers_draws(mean, std):
    source = torch.Generator().manual_seed(0)
    theirs = compute_density_for_timestep_sampling("logit_normal", 4000, mean, std, generator=source).numpy()
    ours = (drawn(Sampling("logit_normal", mean, std)) + 0.5) / STEPS
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


@pytest.mark.parametrize("scale", [-0.5, 0.0, 1.29])
def test_mode_chances_are_diffusers_draws(scale):
    source = torch.Generator().manual_seed(0)
    theirs = compute_density_for_timestep_sampling("mode", 4000, mode_scale=scale, generator=source).numpy()
    ours = (drawn(Sampling("mode", scale=scale)) + 0.5) / STEPS
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


def test_logit_normal_chances_are_the_density_integrated():
    """The density as the SD3 paper writes it, equation 19."""
    mean, std = 0.3, 0.8

    def density(t):
        return stats.norm.pdf(np.log(t / (1 - t)), mean, std) / (t * (1 - t))

    found = chances(Sampling("logit_normal", mean, std), 20)
    wanted = [integrate.quad(density, max(1e-12, n / 20), min(1 - 1e-12, (n + 1) / 20))[0] for n in range(20)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_the_shift_is_that_of_diffusers_flow_scheduler(shift):
    """Its shifted sigmas are as many as timesteps: ours must lie among them as they lie among themselves."""
    sigmas = FlowMatchEulerDiscreteScheduler(num_train_timesteps=STEPS, shift=shift).sigmas.numpy()
    found = chances(Sampling(shift=shift), 20)
    wanted = np.histogram(sigmas, bins=20, range=(0, 1))[0] / STEPS
    np.testing.assert_allclose(found, wanted, atol=2.5 / STEPS)


def test_bands_say_how_often_each_part_comes():
    found = chances(Sampling(bands=(1.0, 0.0, 3.0, 4.0)), STEPS).reshape(4, -1).sum(axis=1)
    np.testing.assert_allclose(found, np.array([1, 0, 3, 4]) / 8)
    uneven = chances(Sampling(bands=(1.0, 0.0, 1.0)), STEPS)
    assert (uneven[334:667] == 0).all() and (uneven[:334] > 0).all() and (uneven[667:] > 0).all()


@given(sampling=samplings, factor=st.floats(0.1, 10))
def test_only_the_proportions_of_bands_count(sampling, factor):
    more = {**sampling, "bands": tuple(factor * band for band in sampling.get("bands", ()))}
    np.testing.assert_allclose(chances(Sampling(**more), STEPS), chances(Sampling(**sampling), STEPS), rtol=1e-9)


def test_nothing_said_is_no_table():
    assert cumulative(Sampling(), STEPS) is None
    np.testing.assert_allclose(chances(Sampling(), STEPS), 1 / STEPS)


@pytest.mark.parametrize("wrong", [Sampling(first=500, end=500), Sampling(first=1000), Sampling(bands=(0.0, 0.0))])
def test_no_timestep_left_is_refused(wrong):
    with pytest.raises(BespokeError, match="No timestep is left") as caught:
        cumulative(wrong, STEPS)
    assert "timestep_bias" in caught.value.hint


def test_a_range_far_from_where_the_density_lies_keeps_its_form():
    """Nine standard deviations out nearly nothing is left of a whole; of the range, all."""
    found = chances(Sampling("logit_normal", mean=-2.0, std=0.25, first=600), STEPS)
    assert found.argmax() == 600 and (np.diff(found[600:]) <= 0).all()
    assert found[600:700].sum() > 0.99
