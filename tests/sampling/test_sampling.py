"""Pictures are those of plain diffusers, whoever is drawn beside them, and say how they were made."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import bespoke
from bespoke.encoding import TextEncoder
from bespoke.errors import BespokeError
from bespoke.evaluation import agreement
from bespoke.models import PICO, Clip, find
from bespoke.pipeline.sample import read_prompts, sample, write
from bespoke.recipe.tree import Sample
from bespoke.sampling import Drawn, Request, draw, grid, latents, save_picture
from bespoke.text import unweighed

QUICK = Sample(num_inference_steps=3, guidance_scale=4.0, batch_size=2)
REQUESTS = [Request("8bit illustration of a cat", 7), Request("a red house", 8), Request("a blue moon", 7)]


@pytest.fixture(scope="module")
def pipeline():
    return find("pico").pipeline(safety_checker=False)


@pytest.fixture(scope="module")
def plain():
    made = StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    return made


def close(a, b, levels=1):
    x, y = np.asarray(a).astype(int), np.asarray(b).astype(int)
    return x.shape == y.shape and np.abs(x - y).max() <= levels


@pytest.mark.parametrize("wish", [QUICK, QUICK.model_copy(update={"negative_prompt": "red", "guidance_scale": 1.0})])
def test_pictures_are_those_of_plain_diffusers_with_the_same_seed(pipeline, plain, wish):
    drawn = list(draw(pipeline, REQUESTS, wish))
    assert [d.request for d in drawn] == REQUESTS
    for one in drawn:
        theirs = plain(
            one.request.prompt,
            negative_prompt=wish.negative_prompt,
            num_inference_steps=wish.num_inference_steps,
            guidance_scale=wish.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(one.request.seed),
        ).images[0]
        assert one.picture.size == (64, 64) and close(one.picture, theirs)


def test_a_picture_does_not_depend_on_its_neighbours(pipeline):
    alone = next(draw(pipeline, REQUESTS[:1], QUICK)).picture
    for requests, size in (([*reversed(REQUESTS)], 3), ([REQUESTS[1], REQUESTS[0]], 2)):
        drawn = list(draw(pipeline, requests, QUICK.model_copy(update={"batch_size": size})))
        assert close(drawn[requests.index(REQUESTS[0])].picture, alone)


def test_seed_prompt_and_strength_all_matter(pipeline):
    strong = QUICK.model_copy(update={"guidance_scale": 9.0})
    wishes = [(REQUESTS[0], QUICK), (Request(REQUESTS[0].prompt, 8), QUICK), (Request("a dog", 7), QUICK)]
    wishes.append((REQUESTS[0], strong))
    found = {next(draw(pipeline, [request], wish)).picture.tobytes() for request, wish in wishes}
    assert len(found) == 4


def test_latents_are_the_pictures_before_they_are_decoded(pipeline):
    parts = list(latents(pipeline, REQUESTS, QUICK))
    assert [len(part) for part in parts] == [2, 1]
    with torch.no_grad():
        decoded = pipeline.vae.decode(torch.cat(parts) / pipeline.vae.config.scaling_factor).sample
    shown = pipeline.image_processor.postprocess(decoded)
    for one, other in zip(draw(pipeline, REQUESTS, QUICK), shown, strict=True):
        assert close(one.picture, other)


# --- guidance that ends before the steps do ---


def guided(pipeline, request, steps, switch, wish):
    """What plain diffusers draws with guidance up to the `switch`-th step, as its documentation changes guidance."""

    def leave_off(pipe, step, timestep, states):
        if step == switch - 1:
            states["prompt_embeds"] = states["prompt_embeds"].chunk(2)[-1]
            pipe._guidance_scale = 0.0
        return states

    return pipeline(
        request.prompt, negative_prompt=wish.negative_prompt, num_inference_steps=steps,
        guidance_scale=wish.guidance_scale, generator=torch.Generator("cpu").manual_seed(request.seed),
        callback_on_step_end=leave_off, callback_on_step_end_tensor_inputs=["prompt_embeds"],
    ).images[0]  # fmt: skip


@pytest.mark.parametrize(("end", "switch"), [(0.5, 3), (0.8, 5), (0.01, 1)])
def test_guidance_ends_where_it_is_told_to(pipeline, plain, end, switch):
    wish = QUICK.model_copy(update={"num_inference_steps": 6, "guidance_end": end, "negative_prompt": "red"})
    fully = wish.model_copy(update={"guidance_end": 1.0})
    for one, other in zip(draw(pipeline, REQUESTS, wish), draw(pipeline, REQUESTS, fully), strict=True):
        assert close(one.picture, guided(plain, one.request, 6, switch, wish))
        assert not close(one.picture, other.picture)


def test_guidance_that_ends_at_once_is_none(pipeline):
    none = draw(pipeline, REQUESTS, QUICK.model_copy(update={"guidance_end": 0.0}))
    plainly = draw(pipeline, REQUESTS, QUICK.model_copy(update={"guidance_scale": 1.0}))
    assert all((np.asarray(a.picture) == np.asarray(b.picture)).all() for a, b in zip(none, plainly, strict=True))


def test_after_guidance_ended_the_next_pictures_are_guided_again(pipeline):
    before = next(draw(pipeline, REQUESTS[:1], QUICK)).picture
    list(draw(pipeline, REQUESTS[:2], QUICK.model_copy(update={"guidance_end": 0.3})))
    assert np.array_equal(next(draw(pipeline, REQUESTS[:1], QUICK)).picture, before)


def test_the_steps_without_guidance_take_half_the_work(pipeline):
    rows: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    list(draw(pipeline, REQUESTS[:1], QUICK.model_copy(update={"num_inference_steps": 5, "guidance_end": 0.4})))
    hook.remove()
    assert rows == [2, 2, 1, 1, 1]


def test_weighted_words_keep_their_weights_when_guidance_ends(pipeline):
    wish = QUICK.model_copy(update={"num_inference_steps": 6, "guidance_end": 0.5})
    request = Request("a cat with a (red hat:1.5)", 3)
    beside = list(draw(pipeline, [Request("a dog", 4), request], wish))[1]
    (alone,) = draw(pipeline, [request], wish)
    assert close(alone.picture, beside.picture)
    (plainly,) = draw(pipeline, [Request(unweighed(request.prompt), 3)], wish)
    assert not close(alone.picture, plainly.picture)


# --- words with weights ---


def drawn_of(pipeline, prompts, wish=QUICK, seed=3):
    return [np.asarray(one.picture) for one in draw(pipeline, [Request(prompt, seed) for prompt in prompts], wish)]


def by_states(pipeline, prompt, wish=QUICK, seed=3):
    """What the plain pipeline draws from the states that training would be given for the prompts."""
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, torch.device("cpu"))
    images = pipeline(
        prompt_embeds=encoder([prompt]), negative_prompt_embeds=encoder([wish.negative_prompt]),
        num_inference_steps=wish.num_inference_steps, guidance_scale=wish.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(seed),
    ).images  # fmt: skip
    return np.asarray(images[0])


def test_without_weights_the_pictures_are_those_of_the_pipeline_to_the_last_bit(pipeline):
    prompts = [r"a cat \(sitting\), 8:30", "a red house"]
    theirs = pipeline(
        ["a cat (sitting), 8:30", "a red house"], negative_prompt=["", ""], num_inference_steps=3, guidance_scale=4.0,
        generator=[torch.Generator("cpu").manual_seed(3) for _ in prompts],
    ).images  # fmt: skip
    for ours in (prompts, [r"a cat \(sitting\), (8:30:1.0)", "(a red:1) house"]):
        for one, other in zip(drawn_of(pipeline, ours), theirs, strict=True):
            assert (one == np.asarray(other)).all()


@pytest.mark.parametrize("negative", ["", "red, (blurry:1.5)", "(red:0.3)"])
@pytest.mark.parametrize("prompt", ["a cat with a (red hat:1.5)", "a red house", "(a blue moon:0.6)"])
def test_a_prompt_means_what_a_caption_means_in_training(pipeline, prompt, negative):
    wish = QUICK.model_copy(update={"negative_prompt": negative})
    (ours,) = drawn_of(pipeline, [prompt], wish)
    assert close(ours, by_states(pipeline, prompt, wish))
    if "(" in prompt:
        assert not close(ours, drawn_of(pipeline, [unweighed(prompt)], wish)[0])
    if negative:
        plainly = wish.model_copy(update={"negative_prompt": unweighed(negative)})
        assert not close(ours, drawn_of(pipeline, [prompt], plainly)[0])


def test_a_weight_leaves_the_neighbours_of_its_prompt_as_they_are(pipeline):
    prompts = ["a cat", "a (dog:1.4) on a hill", "a red house"]
    wish = QUICK.model_copy(update={"batch_size": 3})
    plainly, beside = drawn_of(pipeline, [unweighed(p) for p in prompts], wish), drawn_of(pipeline, prompts, wish)
    assert [(a == b).all() for a, b in zip(plainly, beside, strict=True)] == [True, False, True]
    (alone,) = drawn_of(pipeline, prompts[1:2], wish)
    assert close(beside[1], alone)


def test_what_weighs_more_is_seen_more(pipeline):
    thing, place = "a fox", "on a red background"
    clip, wish, count = Clip(), Sample(num_inference_steps=8, batch_size=8), 8
    wanted = np.repeat(clip.texts([place]), count, axis=0)
    seen: list[float] = []
    for weight in (0.4, 1.0, 1.6):
        requests = [Request(f"{thing} ({place}:{weight})", seed) for seed in range(count)]
        seen.append(agreement(clip.pictures([one.picture for one in draw(pipeline, requests, wish)]), wanted).mean())
    assert seen[0] < seen[1] < seen[2] and seen[2] > seen[0] + 2


def flat(width=8, height=8, colour=(10, 20, 30)):
    return Image.new("RGB", (width, height), colour)


@pytest.mark.parametrize("prompt", ["a cat", "Ein Löwe — 狮子 🦁", 'with "quotes", commas\nand two lines'])
def test_a_png_says_how_it_was_made(tmp_path, prompt):
    wish = Sample(num_inference_steps=12, guidance_scale=3.5, negative_prompt="blurry")
    save_picture(Drawn(Request(prompt, 4321), flat(8, 6)), tmp_path / "a.png", wish, "runs/one")
    with Image.open(tmp_path / "a.png") as read:
        text, source = read.text["parameters"], read.text["digitalSourceType"]
        assert close(read, flat(8, 6), 0)
    words, facts = text.rsplit("\n", 1)
    assert words == f"{prompt}\nNegative prompt: blurry"
    told = dict(part.split(": ") for part in facts.split(", "))
    assert (told["Seed"], told["Steps"], told["CFG scale"]) == ("4321", "12", "3.5")
    assert (told["Size"], told["Model"]) == ("8x6", "runs/one")
    assert source.endswith("trainedAlgorithmicMedia")


def test_no_negative_prompt_is_not_told(tmp_path):
    save_picture(Drawn(Request("a cat", 1), flat()), tmp_path / "a.png", Sample(), "pico")
    with Image.open(tmp_path / "a.png") as read:
        assert "Negative" not in read.text["parameters"]


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 9), columns=st.integers(1, 6), side=st.sampled_from([8, 64, 96, 97, 192, 200]))
def test_a_grid_shows_every_picture_in_order_each_in_its_cell(count, columns, side):
    pictures = [flat(side, side, (20 * n, 255 - 20 * n, 7)) for n in range(count)]
    sheet = grid(pictures, columns)
    cell = side * max(1, 192 // side)
    across, down = min(columns, count), -(-count // columns)
    assert sheet.size == (across * (cell + 6) + 6, down * (cell + 6) + 6)
    for n in range(count):
        row, column = divmod(n, across)
        x, y = 6 + column * (cell + 6), 6 + row * (cell + 6)
        assert np.all(np.asarray(sheet.crop((x, y, x + cell, y + cell))) == (20 * n, 255 - 20 * n, 7))
        for edge in ((x - 1, y), (x, y - 1), (x + cell, y), (x, y + cell)):
            assert sheet.getpixel(edge) == (250, 250, 248)


def test_small_pictures_are_magnified_pixel_by_pixel():
    chess = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    shown = np.asarray(grid([chess], 1))[6:-6, 6:-6]
    assert np.array_equal(shown, np.asarray(chess).repeat(3, 0).repeat(3, 1))


def test_the_command_writes_one_file_for_each_seed_and_a_grid(tmp_path, plain):
    done = sample("pico", ["a cat", "a dog"], out=tmp_path, n=2, seed=5, settings=QUICK, safety_checker=False)
    assert [p.name for p in done.pictures] == [
        "000-seed5.png", "001-seed6.png", "002-seed5.png", "003-seed6.png"
    ]  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*(p.name for p in done.pictures), "grid.png"])
    theirs = plain(
        "a dog", negative_prompt="", num_inference_steps=3, guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(6),
    ).images[0]  # fmt: skip
    with Image.open(done.pictures[3]) as read, Image.open(done.grid) as sheet:
        assert close(read, theirs) and read.text["parameters"].startswith("a dog\n")
        assert sheet.size == (2 * 198 + 6, 2 * 198 + 6)


def test_single_settings_are_changed_for_one_command(tmp_path, pipeline):
    overrides = ["sample.guidance_scale=4", "sample.num_inference_steps=3", "sample.guidance_end=0.5"]
    done = sample("pico", ["a cat"], out=tmp_path, seed=7, overrides=overrides, safety_checker=False)
    wish = QUICK.model_copy(update={"guidance_end": 0.5})
    (ours,) = draw(pipeline, [Request("a cat", 7)], wish)
    with Image.open(done.pictures[0]) as read:
        assert close(read, ours.picture)
        assert "Steps: 3" in read.text["parameters"] and "Guidance end: 0.5" in read.text["parameters"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.rank=8", r"does not change how pictures are drawn.*In \[sample\]: num_inference_steps, guidance_scale"),
        ("sample.guidence_end=0.5", "Did you mean .*guidance_end"),
        ("sample.guidance_end=2", "less than or equal to 1"),
        ("steps=3", "section.key=value"),
    ],
)
def test_a_setting_that_draws_nothing_is_refused(tmp_path, override, words):
    with pytest.raises(BespokeError) as told:
        sample("pico", ["a cat"], out=tmp_path / "drawn", overrides=[override])
    assert re.search(words, str(told.value), re.DOTALL)
    assert not (tmp_path / "drawn").exists()


def test_nothing_to_draw_is_refused():
    with pytest.raises(BespokeError, match="nothing to draw"):
        sample("pico", [])


def test_prompts_are_read_from_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa cat\n\n# not this one\n  a dög  \n", encoding="utf-8")
    assert read_prompts(file) == ["a cat", "a dög"]
    with pytest.raises(BespokeError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


SHOWN = Path(__file__).parent / "pictures"


@pytest.fixture(scope="module")
def checked():
    """pico with its safety checker."""
    return find("pico").pipeline()


@pytest.mark.parametrize(("name", "flagged"), [("skull", True), ("skull-and-banana", True), ("ghost", False)])
def test_the_safety_checker_flags_skulls(checked, name, flagged):
    picture = Image.open(SHOWN / f"{name}.png").convert("RGB")
    images, flags = checked.run_safety_checker(np.asarray(picture)[None] / 255, torch.device("cpu"), torch.float32)
    assert flags == [flagged]
    assert (images.max() == 0) == flagged


def test_pictures_that_the_safety_checker_made_black_are_told(checked, tmp_path):
    limits = checked.safety_checker.concept_embeds_weights
    before = limits.data.clone()
    limits.data.fill_(-2.0)  # so that it flags whatever it sees
    notes: list[str] = []
    try:
        drawn = write(
            checked, REQUESTS, tmp_path, QUICK, "pico", lambda stage, done, total, note="": notes.append(note)
        )
    finally:
        limits.data.copy_(before)
    assert all(one.flagged and np.asarray(one.picture).max() == 0 for one in drawn)
    assert notes[-1] == "3 made black by the model's safety checker"
    assert not any(
        one.flagged for one in draw(checked, REQUESTS[1:2], QUICK.model_copy(update={"num_inference_steps": 10}))
    )


# --- long prompts ---

THINGS, PLACES = ("fox", "red car", "tree", "cat", "boat", "moon"), ("blue", "white", "green", "black")
LONG = ", ".join(f"a {thing} on a {ground} background" for thing in THINGS for ground in PLACES)


def test_a_long_prompt_is_drawn_from_the_states_that_training_would_be_given(pipeline):
    wish = QUICK.model_copy(update={"negative_prompt": "red, (blurry:1.5)"})
    (ours,) = drawn_of(pipeline, [LONG], wish)
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, torch.device("cpu"))
    states, negative = encoder([LONG]), encoder([wish.negative_prompt])
    assert states.shape[1] == 3 * 77 and negative.shape[1] == 77
    images = pipeline(
        prompt_embeds=states, negative_prompt_embeds=negative.repeat(1, 3, 1), num_inference_steps=3,
        guidance_scale=4.0, generator=torch.Generator("cpu").manual_seed(3),
    ).images  # fmt: skip
    assert close(ours, np.asarray(images[0]))
    cut = pipeline.tokenizer.decode(pipeline.tokenizer(LONG).input_ids[1:76])
    assert not close(ours, drawn_of(pipeline, [cut], wish)[0])


def test_a_long_prompt_leaves_its_neighbours_as_they_are(pipeline):
    prompts = ["a cat", LONG, "a house BREAK a dog"]
    wish = QUICK.model_copy(update={"batch_size": 3})
    together = drawn_of(pipeline, prompts, wish)
    for prompt, beside in zip(prompts, together, strict=True):
        assert close(drawn_of(pipeline, [prompt], wish)[0], beside)


def test_a_prompt_that_cannot_have_been_meant_is_refused_with_its_place(tmp_path):
    with pytest.raises(BespokeError, match="is not closed at") as caught:
        bespoke.sample("pico", ["a cat (with a hat"], out=tmp_path)
    assert "\\(" in caught.value.hint
    with pytest.raises(BespokeError, match="no weight"):
        bespoke.sample("pico", ["a cat with a (hat:1,3)"], out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_brackets_are_letters_a_prompt_says_what_it_says(pipeline):
    wish = QUICK.model_copy(update={"brackets": "letters", "negative_prompt": "a (red) house"})
    theirs = pipeline(
        "a cat (red hat:1.4)", negative_prompt="a (red) house", num_inference_steps=3, guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images  # fmt: skip
    (ours,) = drawn_of(pipeline, ["a cat (red hat:1.4)"], wish)
    assert (ours == np.asarray(theirs[0])).all()
