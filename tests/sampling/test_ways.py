"""Pictures from pictures, parts drawn anew, sizes, enlarging and clip skip: as plain diffusers has them."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from diffusers.configuration_utils import FrozenDict
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bespoke.encoding import TextEncoder
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, choices, draw
from bespoke.sampling.ways import size_of

QUICK = Sample(num_inference_steps=4, guidance_scale=2.0)


@pytest.fixture(scope="module")
def pipeline():
    return find("pico").pipeline(safety_checker=False)


@pytest.fixture(scope="module")
def red_square():
    image = Image.new("RGB", (64, 64), (230, 220, 60))
    ImageDraw.Draw(image).rectangle((16, 16, 48, 48), fill=(200, 30, 30))
    return image


def pixels(picture):
    return np.asarray(picture.convert("RGB")).astype(int)


def drawn(pipeline, requests, wish=QUICK, **changes):
    return [pixels(one.picture) for one in draw(pipeline, requests, wish.model_copy(update=changes))]


def seeded(seed):
    return torch.Generator("cpu").manual_seed(seed)


def test_a_picture_from_a_picture_is_that_of_plain_diffusers(pipeline, red_square):
    (ours,) = drawn(pipeline, [Request("a red apple", 3, red_square)], strength=0.5)
    plain = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    plain.set_progress_bar_config(disable=True)
    theirs = plain(
        "a red apple", image=red_square, strength=0.5, num_inference_steps=4, guidance_scale=2.0,
        negative_prompt="", generator=seeded(3),
    ).images[0]  # fmt: skip
    assert abs(ours - pixels(theirs)).max() <= 1


def test_guidance_may_end_early_where_a_mask_is(pipeline, red_square):
    half = Image.new("L", (64, 64))
    half.paste(255, (32, 0, 64, 64))
    requests = [Request("a blue whale", seed, red_square, half) for seed in (3, 4)]
    together = drawn(pipeline, requests, strength=1.0, guidance_end=0.5)
    for one, request in zip(together, requests, strict=True):
        (alone,) = drawn(pipeline, [request], strength=1.0, guidance_end=0.5)
        (whole,) = drawn(pipeline, [request], strength=1.0)
        assert abs(one - alone).max() <= 1 < abs(one - whole).max()


def test_the_less_is_drawn_anew_the_nearer_it_stays(pipeline, red_square):
    away = [
        abs(drawn(pipeline, [Request("a blue whale", 3, red_square)], strength=strength)[0] - pixels(red_square)).mean()
        for strength in (0.25, 0.5, 1.0)
    ]
    assert away[0] < away[1] < away[2]


def test_what_a_mask_leaves_out_is_as_it_was_and_the_rest_is_that_of_plain_diffusers(pipeline, red_square):
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)
    (ours,) = drawn(pipeline, [Request("a blue whale", 3, red_square, mask)], strength=1.0)
    assert (ours[:, :32] == pixels(red_square)[:, :32]).all()
    plain = StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    plain.set_progress_bar_config(disable=True)
    theirs = plain(
        "a blue whale", image=red_square, mask_image=mask, strength=1.0, num_inference_steps=4, guidance_scale=2.0,
        negative_prompt="", generator=seeded(3), width=64, height=64,
    ).images[0]  # fmt: skip
    assert abs(ours - pixels(theirs))[:, 32:].max() <= 1
    assert abs(ours - pixels(red_square))[:, 32:].mean() > 10


@pytest.mark.parametrize("kind", ["words", "picture", "mask", "ancestral", "enlarged", "wide"])
def test_a_picture_does_not_depend_on_its_batch(pipeline, red_square, kind):
    mask = Image.new("L", (64, 64), 255)
    begun = {"picture": (red_square,), "mask": (red_square, mask)}.get(kind, ())
    changes = {
        "ancestral": {"scheduler": "euler_a"}, "enlarged": {"hires_scale": 1.5}, "wide": {"width": 96, "height": 64},
    }.get(kind, {})  # fmt: skip
    requests = [Request(words, seed, *begun) for seed, words in enumerate(("a cat", "a red car", "a blue whale"))]
    together = drawn(pipeline, requests, batch_size=3, **changes)
    alone = drawn(pipeline, requests, batch_size=1, **changes)
    assert max(abs(a - b).max() for a, b in zip(together, alone, strict=True)) <= 1


@settings(deadline=None, max_examples=40)
@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_a_size_is_the_nearest_that_can_be_drawn(width, height):
    pipeline = _Shaped()
    found = size_of(pipeline, Sample(width=width, height=height))
    for asked, side in zip((width, height), found, strict=True):
        assert side % 16 == 0 and side >= 16
        assert abs(side - asked) <= 8 or side == 16
    assert size_of(pipeline, Sample()) == (64, 64)


class _Shaped:
    """What of a pipeline says which sizes it can draw."""

    vae_scale_factor = 8

    class unet:
        config = FrozenDict(sample_size=8, block_out_channels=(1, 1))


def test_a_wide_picture_is_wide(pipeline):
    (ours,) = drawn(pipeline, [Request("a red car", 1)], width=100, height=60)
    assert ours.shape[1] == 96 and ours.shape[0] in (64, 56)


def test_an_enlarged_picture_keeps_what_it_shows_and_is_drawn_over(pipeline):
    request = [Request("a red apple on a blue background", 1)]
    (small,), (plain,), (over,) = (
        drawn(pipeline, request, num_inference_steps=10, **changes)
        for changes in ({}, {"hires_scale": 2.0, "hires_strength": 0.0}, {"hires_scale": 2.0, "hires_strength": 0.4})
    )
    lanczos = pixels(Image.fromarray(small.astype(np.uint8)).resize((128, 128), Image.Resampling.LANCZOS))
    assert (plain == lanczos).all()
    assert over.shape == (128, 128, 3) and 1 < abs(over - lanczos).mean() < 40


def test_clip_skip_leaves_out_the_last_layers_as_diffusers_describes_it(pipeline):
    encoder, text = pipeline.text_encoder, "a red car"
    ids = pipeline.tokenizer(text, padding="max_length", max_length=pipeline.tokenizer.model_max_length).input_ids
    with torch.no_grad():
        hidden = encoder(torch.tensor([ids]), output_hidden_states=True).hidden_states[-2]
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        wanted = norm(hidden)
    ours = TextEncoder(pipeline.tokenizer, encoder, torch.device("cpu"), skip=1)([text])
    assert torch.allclose(ours, wanted, atol=1e-5)
    whole = TextEncoder(pipeline.tokenizer, encoder, torch.device("cpu"), skip=0)([text])
    assert not torch.allclose(ours, whole, atol=1e-2)
    (one,), (other,) = drawn(pipeline, [Request(text, 1)]), drawn(pipeline, [Request(text, 1)], clip_skip=1)
    assert abs(one - other).mean() > 1
    with pytest.raises(BespokeError, match="clip_skip is 99"):
        drawn(pipeline, [Request(text, 1)], clip_skip=99)


def test_rescaled_guidance_is_that_of_plain_diffusers_and_refused_where_it_means_nothing(pipeline, red_square):
    (ours,) = drawn(pipeline, [Request("a red car", 5)], guidance_rescale=0.7, guidance_scale=8.0)
    theirs = pipeline(
        "a red car", negative_prompt="", num_inference_steps=4, guidance_scale=8.0, guidance_rescale=0.7,
        generator=seeded(5),
    ).images[0]  # fmt: skip
    assert abs(ours - pixels(theirs)).max() <= 1
    with pytest.raises(BespokeError, match="from words alone"):
        drawn(pipeline, [Request("a red car", 5, red_square)], guidance_rescale=0.7)


def test_a_strength_that_leaves_no_step_is_refused(pipeline, red_square):
    with pytest.raises(BespokeError, match="are none"):
        drawn(pipeline, [Request("a red car", 5, red_square)], strength=0.05)


def test_what_decides_a_picture_is_told_and_nothing_else():
    plain = choices(QUICK)
    assert plain == choices(QUICK.model_copy(update={"seed": 9, "batch_size": 1, "format": "jpeg", "quality": 3}))
    for changed in (
        {"scheduler": "ddim"},
        {"width": 96},
        {"clip_skip": 1},
        {"hires_scale": 2.0},
        {"guidance_end": 0.5},
    ):
        assert choices(QUICK.model_copy(update=changed)) != plain
    # As it was when there were fewer settings: what was drawn then is found again.
    assert set(plain) == {"num_inference_steps", "guidance_scale", "guidance_end", "negative_prompt", "brackets"}
