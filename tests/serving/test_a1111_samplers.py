"""Samplers and types of schedules, ours and A1111's, held against the table that draws."""

import re
import subprocess
import sys
from inspect import signature

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from bespoke.recipe.schedulers import AUTOMATIC, FLOWING, OWN, SCHEDULERS, scheduler_names
from bespoke.sampling.schedulers import hushed, scheduler
from bespoke.serving.a1111.samplers import TYPES, as_a1111, from_a1111, samplers, steady, types
from bespoke.serving.wishes import Refusal

SAMPLERS = samplers(SCHEDULERS)


@given(st.sampled_from([OWN, *SCHEDULERS]))
def test_every_scheduler_goes_there_and_back(name):
    sampler, kind = as_a1111(name)
    assert from_a1111(sampler, kind) == name
    assert kind in TYPES.values() and (name == OWN or sampler in SAMPLERS)


@given(st.sampled_from(list(SAMPLERS)), st.sampled_from([None, "", *TYPES, *TYPES.values()]), st.booleans())
def test_every_pair_of_what_is_listed_is_one_of_ours_or_refused(sampler, kind, upper):
    meant = {None: "Uniform", "": "Uniform", "Automatic": SAMPLERS[sampler][1]}
    asked = TYPES.get(kind, kind)
    said = (sampler.upper() if upper else sampler, kind.upper() if upper and kind else kind)
    pair = (sampler, meant.get(asked, asked))
    if pair in {as_a1111(name) for name in SCHEDULERS}:
        assert as_a1111(from_a1111(*said)) == pair
        return
    with pytest.raises(Refusal, match=re.escape(sampler)) as caught:
        from_a1111(*said)
    assert caught.value.status == 400


@given(st.sampled_from(list(SCHEDULERS)))
def test_the_type_may_stand_in_the_samplers_name_as_before_1_9(name):
    title = SCHEDULERS[name].title
    assert from_a1111(title, None) == name
    assert from_a1111(title, as_a1111(name)[1]) == name
    if as_a1111(name)[1] != "Uniform":
        assert from_a1111(title, "Automatic") == name


@pytest.mark.parametrize(
    ("sampler", "kind", "name"),
    [
        ("Euler a", "automatic", "euler_a"),
        ("DPM++ 2M", "Karras", "dpm++_2m_karras"),
        ("DPM++ 2M", "Automatic", "dpm++_2m_karras"),
        ("DPM++ 2M", "Uniform", "dpm++_2m"),
        ("DPM++ 2M", None, "dpm++_2m"),
        ("DPM++ SDE", "automatic", "dpm++_sde_karras"),
        ("DPM++ 2M SDE", "SGM Uniform", None),
        ("Euler", "SGMUniform", "euler_sgm_uniform"),
        ("Euler", "sgm_uniform", "euler_sgm_uniform"),
        ("DDIM", "Karras", None),
        ("DPM++ 2M Karras", "Beta", None),
        ("Restart", None, None),
        ("Euler", "Exponential", None),
        (None, "Karras", None),
        ("default", "Karras", None),
    ],
)
def test_names_as_a1111_has_them(sampler, kind, name):
    if name is None:
        with pytest.raises(Refusal, match=r"There is no|has no schedule|needs a sampler"):
            from_a1111(sampler, kind)
    else:
        assert from_a1111(sampler, kind) == name


def test_for_flows_there_are_fewer_and_automatic_is_what_there_is():
    there = scheduler_names(flows=True)
    made = samplers(there)
    assert {
        from_a1111(name, kind, there)
        for name in made
        for kind in types(there).values()
        if kind in ("Automatic", "Uniform")
    } == {name for name in FLOWING if as_a1111(name)[1] == "Uniform"}
    assert made["DPM++ 2M"] == ("dpm++_2m", "Uniform") != SAMPLERS["DPM++ 2M"]
    assert set(types(there).values()) == {"Automatic", "Uniform", "Karras", "Beta"} and types(SCHEDULERS) == TYPES
    assert from_a1111("Euler", "Beta", there) == from_a1111("Euler Beta", None, there) == "euler_beta"
    assert from_a1111("default", "Automatic", there) == OWN and from_a1111(None, None, there) is None
    wrong = {("Euler a", None): "Those that do: Euler, Heun, ", ("DPM++ 2M Karras", None): "It has: Uniform",
             ("DPM++ 2M", "Karras"): "It has: Uniform", ("DDIM", "Automatic"): "DDIM does not draw"}  # fmt: skip
    for said, words in wrong.items():
        with pytest.raises(Refusal, match=re.escape(words)):
            from_a1111(*said, there)


def test_what_nobody_names_is_the_models_own():
    assert [from_a1111(*pair) for pair in ((None, None), ("", "Automatic"), (None, ""))] == [None] * 3
    assert from_a1111("default", "automatic") == OWN


def test_what_a1111_takes_of_itself_is_the_same_sampler():
    assert {as_a1111(name)[0] == as_a1111(other)[0] for name, other in AUTOMATIC.items()} == {True}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_those_said_to_draw_fresh_noise_are_those_that_do(name):
    """The oracle is diffusers: two generators give two results, from the same sample, where noise is drawn afresh."""
    with hushed():
        ended = [_drawn(name, seed) for seed in (1, 2)]
    fresh, sampler = not torch.equal(*ended), as_a1111(name)[0]
    assert steady(sampler, None)
    assert steady(sampler, 1.0) == (sampler != "DDIM")
    assert steady(sampler, 0.0) == (not fresh)
    assert steady(sampler, 0.5) == (not fresh and sampler != "DDIM"), "DDIM draws fresh noise once eta is more than 0"


def _drawn(name, seed):
    """What comes of the same noise, and a network that says the same always, with a seed for what is drawn later."""
    made = scheduler(name, DDIMScheduler())
    made.set_timesteps(6)
    takes = {"generator": torch.Generator().manual_seed(seed)} if "generator" in signature(made.step).parameters else {}
    latents = torch.ones(1, 4, 8, 8)
    for moment in made.timesteps:
        made.scale_model_input(latents, moment)
        latents = made.step(torch.full_like(latents, 0.5), moment, latents, **takes).prev_sample
    return latents


def test_the_service_learns_all_this_without_torch():
    code = "import sys, bespoke.serving.a1111.routes; print(sorted({'torch', 'diffusers', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
