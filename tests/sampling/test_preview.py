"""Drawings that are watched: the same pictures, estimates that come nearer, colours that are right."""

import numpy as np
import pytest
import torch
from PIL import Image

from bespoke.pipeline.naming import named
from bespoke.pipeline.previews import FILE, Previews
from bespoke.pipeline.sample import sample
from bespoke.recipe.schedulers import SCHEDULERS
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.sampling.preview import Colours

REQUESTS = [Request("a red car", 3), Request("a blue house on a green background", 4)]


@pytest.fixture(scope="module")
def pipeline():
    return named("pico").pipeline(safety_checker=False)


def pixels(drawn):
    return np.stack([np.asarray(one.picture, int) for one in drawn])


@pytest.mark.parametrize("name", ["default", *SCHEDULERS])
def test_each_step_is_told_the_pictures_stay_the_same_and_the_estimate_becomes_the_picture(pipeline, name):
    wish = Sample(num_inference_steps=4, scheduler=name, guidance_scale=2.0)
    heard, estimates = [], []

    def watch(step):
        heard.append((step.number, step.steps, step.pictures))
        estimates.append(step.estimate().float())

    plain, watched = pixels(draw(pipeline, REQUESTS, wish)), pixels(draw(pipeline, REQUESTS, wish, watch))
    assert (plain == watched).all(), "ancestral ones, too: they still get their generators"
    last = heard[-1][0]
    assert last in (4, 5, 7, 8) and [number for number, *_ in heard] == list(range(1, last + 1))
    assert {one[1:] for one in heard} == {(last, 2)}
    with torch.no_grad():
        decoded = pipeline.vae.decode(estimates[-1] / pipeline.vae.config.scaling_factor).sample
    near = (decoded.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    off = [np.abs(near - watched).mean(), np.abs(near[::-1] - watched).mean()]
    assert off[0] < 0.5 * off[1], f"the last estimate shows the picture that is drawn: {off}"


@pytest.mark.parametrize("name", ["default", "ddim", "dpm++_2m"])
def test_steps_from_a_picture_are_counted_by_those_that_are_made(pipeline, name):
    wish, heard = Sample(num_inference_steps=10, strength=0.4, scheduler=name), []
    begun = [Request("a red car", 3, Image.new("RGB", (64, 64), "red"))]
    list(draw(pipeline, begun, wish, lambda step: heard.append((step.number, step.steps))))
    assert heard == [(n, 4) for n in range(1, 5)]


def test_what_a_watcher_raises_ends_the_drawing_and_the_pipeline_draws_on_as_before(pipeline):
    wish = Sample(num_inference_steps=3)
    before = pixels(draw(pipeline, REQUESTS, wish))

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(draw(pipeline, REQUESTS, wish.model_copy(update={"deep_cache": 2, "vae_tiling": True}), stop))
    assert (pixels(draw(pipeline, REQUESTS, wish)) == before).all()
    assert not pipeline.vae.use_tiling and "step" not in vars(pipeline.scheduler)


def test_colours_of_latents_are_nearly_those_of_the_decoded_picture(pipeline):
    colours = Colours(pipeline.vae)
    drawn = [one.picture for one in draw(pipeline, REQUESTS, Sample(num_inference_steps=8))]
    tensor = torch.stack([torch.from_numpy(np.array(each)).permute(2, 0, 1) for each in drawn]).float() / 127.5 - 1
    with torch.no_grad():
        latents = pipeline.vae.encode(tensor).latent_dist.mode() * pipeline.vae.config.scaling_factor
    for shown, whole, other in zip(colours(latents), drawn, reversed(drawn), strict=True):
        small, wrong = (np.asarray(each.resize(shown.size, Image.Resampling.BOX), float) for each in (whole, other))
        assert (
            np.abs(np.asarray(shown, float) - small).mean() < 20 < 40 < np.abs(np.asarray(shown, float) - wrong).mean()
        )


def test_a_preview_is_written_while_pictures_are_drawn_and_removed_when_they_are_there(pipeline, tmp_path):
    sizes, told = [], []

    def tell(words):
        told.append(words)

    with Previews(pipeline, tmp_path, tell, seconds=0.0) as previews:

        def watch(step):
            previews(step)
            with Image.open(tmp_path / FILE) as shown:
                sizes.append(shown.size)

        list(draw(pipeline, REQUESTS, Sample(num_inference_steps=3), watch))
    assert told == ["step 1 of 3", "step 2 of 3", "step 3 of 3"] and len(set(sizes)) == 1
    assert not (tmp_path / FILE).exists()


def test_the_command_shows_previews_only_when_asked(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Previews, "_show", lambda self, file, step: made.append((file, step.number)))
    wish = Sample(num_inference_steps=2)
    for preview in (False, True):
        sample("pico", ["a fox"], out=tmp_path / "a", settings=wish, safety_checker=False, preview=preview)
    assert made == [(tmp_path / "a" / FILE, 1)]
