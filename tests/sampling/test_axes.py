"""What a person types of axes: lists, ranges, names as people write them, and words replaced in the prompt."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.models import NewWords, Word, find
from bespoke.pipeline.axes import SETTINGS, Axis, Cell, axis, cell, different, replaced
from bespoke.pipeline.naming import Named, named
from bespoke.pipeline.warm import shared
from bespoke.recipe.schedulers import SCHEDULERS, scheduler_name
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request
from bespoke.sampling.schedulers import hushed, scheduler

PROMPT = "a dog beside a red car"


def read(given_, prompt=PROMPT, model="pico"):
    return axis(given_, model, prompt)


@pytest.mark.parametrize(
    ("given_", "setting", "values"),
    [
        ("cfg=1,2.5, 4", "guidance_scale", (1.0, 2.5, 4.0)),
        ("CFG Scale=0", "guidance_scale", (0.0,)),
        ("guidance_scale=1..20..5", "guidance_scale", (1.0, 5.75, 10.5, 15.25, 20.0)),
        ("steps=1..20..5", "num_inference_steps", (1, 6, 10, 15, 20)),
        ("num-inference-steps=5,10..20..2", "num_inference_steps", (5, 10, 20)),
        ("seed=7,7,9223372036854775807", "seed", (7, 2**63 - 1)),
        ("weight=0..1.5..4", "weight", (0.0, 0.5, 1.0, 1.5)),
        ("weight=-1", "weight", (-1.0,)),
        ("Sampler=DPM++ 2M Karras,Euler a,default", "scheduler", ("dpm++_2m_karras", "euler_a", "default")),
        ('prompt=dog,"cat, black",red car', "prompt", ("dog", "cat, black", "red car")),
        ({"steps": [2, 4]}, "num_inference_steps", (2, 4)),
        ({"cfg": (1, 2.5)}, "guidance_scale", (1.0, 2.5)),
        ({"cfg": "1..2..2"}, "guidance_scale", (1.0, 2.0)),
        ({"seed": 3}, "seed", (3,)),
        ({"prompt": ["dog", "a, b=c"]}, "prompt", ("dog", "a, b=c")),
    ],
)
def test_an_axis_is_read_as_people_write_it(given_, setting, values):
    found = read(given_)
    assert (found.setting, found.values) == (setting, values)
    assert [type(value) for value in found.values] == [type(value) for value in values]
    assert len(set(found.labels)) == len(found.labels) == len(values)


def test_labels_name_numbers_and_leave_words_as_they_are():
    assert read("guidance_scale=1,2.5").labels == ("cfg 1", "cfg 2.5")
    assert read("steps=5").labels == ("steps 5",)
    assert read("seed=1234567").labels == ("seed 1234567",)
    assert read("lora_weight=0.50").labels == ("weight 0.5",)
    assert read("prompt=dog,cat").labels == ("dog", "cat")


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(1, 30))
def test_a_range_has_its_ends_and_its_count_at_equal_distances(first, last, count):
    found = [float(value) for value in read(f"weight={first!r}..{last!r}..{count}").values]
    wanted = [first + (last - first) * place / max(1, count - 1) for place in range(count)]
    assert len(found) <= count
    assert all(any(math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-4) for other in found) for one in wanted)
    if abs(last - first) > 1:
        assert len(found) == count


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("stpes=1", "Did you mean steps?"),
        ("colour=red", "There are: guidance_scale (cfg)"),
        ("steps", "SETTING=VALUES"),
        ("steps=", "no values"),
        ("steps=0", "at least 1"),
        ("steps=2.5", "at least 1"),
        ("steps=1..5", "first..last..count"),
        ("steps=1..5..0", "first..last..count"),
        ("steps=1..5..2..2", "first..last..count"),
        ("cfg=-1", "at least 0"),
        ("cfg_end=1.5", "from 0 to 1"),
        ("cfg=nan", "at least 0"),
        ("cfg=1..inf..3", "first..last..count"),
        ("cfg=high", "'high'"),
        ("seed=-1", "from 0 to"),
        ("seed=9223372036854775808", "from 0 to"),
        ("weight=inf", "no number"),
        ("scheduler=dpm++_2m_karas", "Did you mean dpm++_2m_karras?"),
        ("prompt=cat,dog", PROMPT),
        ("checkpoint=all", "pico is none"),
        ("checkpoint=@last", "pico is none"),
        ("checkpoint=nowhere", "no model 'nowhere'"),
        ({"cfg": [1], "steps": [2]}, "not 2"),
        ({"cfg": []}, "no values"),
        ({"steps": [True]}, "at least 1"),
    ],
)
def test_what_no_axis_can_be_is_refused_with_a_hint(given_, words):
    with pytest.raises(BespokeError) as caught:
        read(given_)
    assert words in str(caught.value) and caught.value.hint


def test_schedulers_are_known_by_the_names_that_other_tools_give_them():
    for name, wanted in SCHEDULERS.items():
        for written in (name, name.upper(), wanted.title, name.replace("dpm++", "dpmpp"), name.replace("_", " ")):
            assert scheduler_name(written) == name
    with pytest.raises(BespokeError, match="eulr"):
        scheduler_name("eulr")


def test_steps_that_begin_in_noise_alone_are_given_to_models_whose_own_do_not():
    own = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    made = {name: scheduler(name, own) for name in ("euler", "euler_sgm_uniform", "dpm++_2m_sgm_uniform", "unipc_beta")}
    with hushed():
        for each in made.values():
            each.set_timesteps(5)
    assert int(made["euler"].timesteps[0]) < 900 and int(made["euler_sgm_uniform"].timesteps[0]) == 999
    assert int(made["dpm++_2m_sgm_uniform"].timesteps[0]) == 999
    gaps = np.diff(made["unipc_beta"].timesteps.numpy().astype(int))
    assert abs(gaps[0]) < abs(gaps[1]), "dense where noise is all"


# --- cells ---

START = Cell(named("pico"), Request(PROMPT, 5), Sample(num_inference_steps=3, guidance_scale=2.0))


def met(*axes_and_places):
    return cell(START, list(axes_and_places))


def test_a_cell_has_the_values_that_meet_in_it_and_all_else_as_before():
    assert met((Axis(), 0), (Axis(), 0)) == START
    one = met((read("cfg=1,4"), 1), (read("steps=2,8"), 0), (read("seed=1,2"), 1))
    assert (one.settings.guidance_scale, one.settings.num_inference_steps, one.request.seed) == (4.0, 2, 2)
    assert (one.source, one.request.prompt, one.settings.scheduler, one.weight) == (
        START.source,
        PROMPT,
        "default",
        1.0,
    )
    other = met((read("scheduler=ddim,lms"), 1), (read("weight=0.5"), 0))
    assert other.settings == START.settings.model_copy(update={"scheduler": "lms"})
    assert (other.weight, other.request) == (0.5, START.request)


def test_words_are_replaced_in_the_prompt_by_both_axes_at_once():
    animals, colours = read("prompt=dog,red,dog"), read("prompt=red,blue dog")
    different([animals, colours])
    prompts = [met((animals, a), (colours, c)).request.prompt for a in (0, 1) for c in (0, 1)]
    # What one axis puts in is not replaced by the other.
    assert prompts == [PROMPT, "a dog beside a blue dog car", "a red beside a red car", "a red beside a blue dog car"]


def test_words_within_the_words_of_another_axis_are_refused():
    assert replaced("red car, car", {"red car": "bus", "car": "van"}) == "bus, van"
    with pytest.raises(BespokeError, match="part of what another axis"):
        replaced("a red car", {"red car": "bus", "car": "van"})
    assert replaced("a.b axb", {"a.b": "c"}) == "c axb"


@pytest.mark.parametrize(
    "pair", [("cfg=1", "guidance_scale=2"), ("prompt=dog,cat", "prompt=dog,fox"), ("seed=1", "seed=1")]
)
def test_two_axes_of_one_setting_are_refused(pair):
    with pytest.raises(BespokeError, match="Two axes change"):
        different([read(one) for one in pair])
    different([Axis(), Axis(), read(pair[0])])


def test_every_setting_is_reached_by_all_its_names():
    values = {"checkpoint": "pico", "scheduler": "ddim", "prompt": "dog"}
    for setting, aliases in SETTINGS.items():
        for name in (setting, *aliases):
            assert read(f"{name}={values.get(setting, 1)}").setting == setting


# --- checkpoints ---


def test_all_checkpoints_of_a_run_are_its_base_and_the_epochs_it_keeps(run):
    every = read("checkpoint=all", model=str(run))
    assert every.labels == ("base", "epoch-1", "epoch-2")
    assert [source.adapter for source in every.values] == [
        None, *(run / "checkpoints" / f"epoch-{n}" / "adapter.safetensors" for n in (1, 2))
    ]  # fmt: skip
    assert read("checkpoint=all", model=f"{run}@epoch-1") == every
    some = read(f"checkpoint=base,@last,@step-4,{run},pico", model=str(run))
    assert some.labels == ("base", "last", "step-4", str(run), "pico")
    assert some.values[1].adapter == run / "last" / "adapter.safetensors"
    assert some.values[2].state == run / "state" / "step-000004"
    assert [source.adapted for source in some.values] == [False, True, True, True, False]
    with pytest.raises(BespokeError, match="no epoch-7"):
        read("checkpoint=@epoch-7", model=str(run))


def test_a_run_that_keeps_no_epochs_shows_its_best_weights(run, tmp_path):
    (tmp_path / "runs" / "two").mkdir(parents=True)
    for name in ("recipe.toml", "adapter.safetensors"):
        (tmp_path / "runs" / "two" / name).write_bytes((run / name).read_bytes())
    assert read("checkpoint=all", model=str(tmp_path / "runs" / "two")).labels == ("base", "best")


def test_models_with_other_words_are_other_networks(tmp_path):
    checkpoint = find("pico")
    NewWords.of(checkpoint.base, [(Word("halberd"), torch.ones(1, 160))]).save(tmp_path / "words.safetensors")
    plain, worded = Named("pico", checkpoint), Named("pico", checkpoint.with_words(tmp_path / "words.safetensors"))
    assert shared(plain) != shared(worded)
    assert shared(worded) == shared(Named("other", worded.checkpoint, tmp_path / "adapter.safetensors"))
