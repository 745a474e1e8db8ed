"""What people may ask for, held against the limits of the service and against what a model is."""

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bespoke.recipe.schedulers import scheduler_names
from bespoke.recipe.service import Serve
from bespoke.serving.asked import LARGEST_SEED, checked, known, settled
from bespoke.serving.jobs import Facts
from bespoke.serving.wishes import Refusal, Wish

FACTS = Facts("my-style@7", 64, 48, (("num_inference_steps", 30), ("scheduler", "euler")))
LIMITS = Serve(most_images=4, most_steps=40, most_pixels=128 * 128)
WISH = Wish("my-style", "a cat")


def file(width=32, height=16, form="PNG", **how):
    made = io.BytesIO()
    Image.new("RGB", (width, height)).save(made, format=form, **how)
    return made.getvalue()


def asking(**more):
    return replace(WISH, **more)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (asking(count=5), "5 pictures: from 1 to 4"),
        (asking(count=0), "0 pictures"),
        (asking(settings={"num_inference_steps": 41}), "41 steps: from 1 to 40 .*serve.most_steps"),
        (asking(settings={"hires_scale": 1.5, "num_inference_steps": 40}), None),
        (asking(settings={"width": 129, "height": 128}), "16512 pixels"),
        (asking(settings={"hires_scale": 3.0, "num_inference_steps": 2}), "27648 pixels"),
        (asking(settings={"width": 0}), "width: "),
        (asking(settings={"guidance_scale": float("nan")}), "guidance_scale: "),
        (asking(settings={"num_inference_steps": True}), "num_inference_steps: "),
        (asking(settings={"scheduler": "eulr"}), "no scheduler 'eulr'. Did you mean euler"),
        (asking(settings={"compile": True}), "'compile' is nothing to ask for"),
        (asking(seed=-1), "Seeds are from 0"),
        (asking(seed=LARGEST_SEED, count=2), "Seeds are from 0"),
        (asking(prompt="a (cat"), "is not closed"),
        (asking(prompt="a cat \ud800"), "half of a pair"),
        (asking(prompt="a" * 32_001), "32001 letters"),
        (asking(settings={"negative_prompt": "a cat)"}), "closes nothing"),
        (asking(adapters={"missing": 1.0}), "no adapter 'missing' here. There are: ink, style"),
        (asking(adapters={"ink": float("inf")}), "no number"),
        (asking(image=b"GIF89a"), "no picture that can be read"),
        (asking(image=file(), mask=b""), None),
        (asking(image=file(), mask=b"none"), "The mask is no picture"),
        (asking(mask=file()), "no picture that it belongs to"),
        (asking(image=file(600, 600)), "image has more than 262144 pixels"),
        (asking(image=file(200, 100)), "20000 pixels"),
        (asking(image=file(200, 100), settings={"width": 64, "height": 64}), None),
        (asking(), None),
        (
            asking(count=4, settings={"num_inference_steps": 40, "width": 128, "height": 128}, adapters={"ink": -1.0}),
            None,
        ),
        (asking(seed=LARGEST_SEED), None),
    ],
)
def test_what_is_too_much_or_wrong_is_refused_in_words(wish, words):
    if words is None:
        checked(wish, LIMITS, FACTS, ("style", "ink"))
    else:
        with pytest.raises(Refusal, match=words) as caught:
            checked(wish, LIMITS, FACTS, ("style", "ink"))
        assert caught.value.status == 400 and len(caught.value.message) < 1000


def test_what_a_model_does_of_itself_is_not_refused():
    large = replace(FACTS, width=512, height=512, settings=(("num_inference_steps", 99),))
    checked(WISH, LIMITS, large)
    with pytest.raises(Refusal, match="262144 pixels"):
        checked(asking(settings={"height": 512}), LIMITS, large)


def test_brackets_are_looked_through_only_where_they_are_weights():
    checked(asking(prompt="a :) (cat"), LIMITS, replace(FACTS, settings=(("brackets", "letters"),)))


def test_what_is_not_said_is_the_models_or_the_pictures():
    found = settled(asking(settings={"guidance_scale": 3.0}), FACTS)
    assert (found.num_inference_steps, found.scheduler, found.guidance_scale) == (30, "euler", 3.0)
    assert (found.width, found.height) == (64, 48)
    begun = settled(asking(image=file(80, 40), settings={"scheduler": "DPM++ 2M Karras"}), FACTS)
    assert (begun.width, begun.height, begun.scheduler) == (80, 40, "dpm++_2m_karras")


def test_a_picture_that_lies_on_its_side_is_as_wide_as_it_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "PNG", "WEBP"):
        lying = settled(asking(image=file(80, 40, form, exif=exif)), FACTS)
        assert (lying.width, lying.height) == (40, 80)


def test_models_are_found_by_their_name_and_by_what_it_means():
    models = {"my-style@champion": FACTS, "pico": Facts("pico", 64, 64)}
    assert known(models, "my-style@7") == known(models, "my-style@champion") == "my-style@champion"
    with pytest.raises(Refusal, match="There are: my-style@champion, pico") as caught:
        known(models, "other")
    assert caught.value.status == 404
    with pytest.raises(Refusal) as caught:
        known({}, "")
    assert (caught.value.status, caught.value.code) == (503, "not_ready")


KEYS = st.sampled_from(
    ["width", "height", "num_inference_steps", "guidance_scale", "strength", "clip_skip", "hires_scale"]
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-9, 10**6), st.floats(), st.text(max_size=5))


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.integers(-5, 9), st.integers())
def test_whatever_is_asked_for_is_drawable_or_refused(settings, count, seed):
    wish = asking(settings=settings, count=count, seed=seed)
    try:
        checked(wish, LIMITS, FACTS)
    except Refusal as refusal:
        status = refusal.status
        assert status == 400
        return
    drawn = settled(wish, FACTS)
    pixels = (drawn.width or 0) * (drawn.height or 0) * drawn.hires_scale**2
    assert 1 <= count <= 4 and seed >= 0 and drawn.num_inference_steps <= 40 and pixels <= 128 * 128 * 1.1


def test_a_model_is_drawn_by_its_own_schedulers_and_as_large_as_its_family():
    xl, three = Facts("xl", 1024, 1024), Facts("three", 1024, 1024, schedulers=scheduler_names(flows=True))
    assert (settled(WISH, xl).width, settled(WISH, xl).height) == (1024, 1024)
    assert settled(asking(settings={"scheduler": "Euler a"}), xl).scheduler == "euler_a"
    assert settled(asking(settings={"scheduler": "Euler Beta"}), three).scheduler == "euler_beta"
    with pytest.raises(Refusal, match="not drawn by euler_a, but by: default, euler, ") as told:
        settled(asking(settings={"scheduler": "Euler a"}), three)
    assert (told.value.status, told.value.param) == (400, "scheduler")
    usual = Serve()
    for size in ((1024, 1024), (1216, 832), (1344, 768)):  # shapes that XL was trained in
        checked(asking(settings=dict(zip(("width", "height"), size, strict=True))), usual, xl)
    with pytest.raises(Refusal, match="most_pixels"):
        checked(asking(settings={"hires_scale": 1.5}), usual, xl)
