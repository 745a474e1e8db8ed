"""What A1111's interface asks for and is not done here: it is refused in words, or changes nothing."""

import base64
import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bespoke.recipe.service import Serve
from bespoke.serving.wishes import Refusal
from tests.serving.easelstand import Easel, png
from tests.serving.listening import app_of, asking, awaited

BASE = "/sdapi/v1"
PICTURE = base64.b64encode(png(Image.new("RGB", (32, 32)))).decode()


@functools.cache
def stand():
    """An easel, and the application that draws with it; to make one for each test takes longer than the tests."""
    easel = Easel()
    return easel, app_of(easel, Serve(most_steps=150, most_pixels=1024 * 1024))


async def posted(path, content, app=None):
    """The answer to content as JSON that any client may write, be it no Unicode."""
    easel, usual = stand()
    easel.wishes.clear()
    async with asking(app or usual) as some:
        headers = {"Content-Type": "application/json"}
        return await some.post(BASE + path, content=json.dumps(content), headers=headers)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"tiling": True}, "tiling"),
        ({"restore_faces": True}, "restore_faces"),
        ({"subseed_strength": 0.5}, "subseed_strength"),
        ({"seed_resize_from_w": 64}, "seed_resize_from_w"),
        ({"styles": ["pretty"]}, "styles"),
        ({"script_name": "xyz"}, "script_name"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}}, "no script 'ControlNet'"),
        ({"refiner_checkpoint": "other"}, "refiner_checkpoint"),
        ({"s_churn": 1}, "s_churn"),
        ({"sampler_name": "Euler a", "s_noise": 0.9}, "s_noise"),
        ({"sampler_name": "Euler a", "eta": 0.5}, "eta: with this sampler 0.5 is not done here, but 1."),
        ({"sampler_name": "DDIM", "eta": 1}, "eta: with this sampler 1 is not done here, but 0."),
        ({"sampler_name": "Restart"}, "no sampler 'Restart'"),
        ({"sampler_name": "Euler", "scheduler": "Exponential"}, "'Exponential'"),
        ({"enable_hr": True, "hr_upscaler": "Latent"}, "hr_upscaler"),
        ({"enable_hr": True, "hr_resize_x": 64}, "hr_resize_x"),
        ({"enable_hr": True, "steps": 4, "hr_second_pass_steps": 2}, "hr_second_pass_steps"),
        ({"enable_hr": True, "hr_prompt": "a dog"}, "hr_prompt"),
        ({"distilled_cfg_scale": 3.5}, "distilled_cfg_scale"),
        ({"prompt": "a cat AND a dog"}, "'AND' means something else"),
        ({"prompt": "a [cat|dog]"}, "means something else"),
        ({"prompt": "a cat <hypernet:old:1>"}, "means something else"),
        ({"prompt": "a [cat:dog:0.5]"}, "cannot be read"),
        ({"prompt": "a cat <lora:ink:very>"}, "no weight that is a number"),
        ({"prompt": "a cat <lora:missing>"}, "no adapter 'missing'"),
        ({"override_settings": {"sd_vae": "other.pt"}}, "'sd_vae' is none here"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 0}}, "CLIP_stop_at_last_layers"),
        ({"override_settings": {"sd_model_checkpoint": "other"}}, "no model 'other'"),
        ({"steps": 151}, "serve.most_steps"),
        ({"width": 2048, "height": 2048}, "serve.most_pixels"),
        ({"batch_size": 3, "n_iter": 3}, "serve.most_images"),
        ({"steps": 0}, "steps"),
        ({"cfg_scale": -1}, "cfg_scale"),
        ({"denoising_strength": 1.5}, "denoising_strength"),
        ({"seed": -2}, "Seeds"),
        ({"prompt": "a \ud800"}, "prompt"),
        ({"\ud800": 1}, "unicode"),
        ({"prompt": 5}, "prompt"),
    ],
)
@awaited
async def test_what_would_change_a_picture_is_refused_in_words(content, words):
    answer = await posted("/txt2img", {"prompt": "a cat", **content})
    assert answer.status_code in (400, 404), answer.text
    said = answer.json()
    assert words in said["detail"] == said["errors"] and said["error"]
    assert not stand()[0].wishes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"init_images": []}, "init_images"),
        ({"init_images": [PICTURE] * 2}, "one picture"),
        ({"init_images": ["none"]}, "image is no picture"),
        ({"init_images": ["!"]}, "base64"),
        ({"init_images": ["http://127.0.0.1/a.png"]}, "nothing is fetched"),
        ({"init_images": ["file:///etc/passwd"]}, "nothing is fetched"),
        ({"resize_mode": 1}, "resize_mode"),
        ({"mask": PICTURE, "inpainting_fill": 0}, "inpainting_fill"),
        ({"mask": PICTURE, "inpaint_full_res": True}, "inpaint_full_res"),
        ({"mask": "none"}, "mask is no picture"),
        ({"mask_blur_x": 9}, "mask_blur_x"),
        ({"initial_noise_multiplier": 0.5}, "initial_noise_multiplier"),
    ],
)
@awaited
async def test_what_cannot_be_begun_with_is_refused_in_words(content, words):
    answer = await posted("/img2img", {"init_images": [PICTURE], **content})
    assert answer.status_code == 400 and words in answer.json()["detail"], answer.text
    assert not stand()[0].wishes


@awaited
async def test_a_picture_of_very_many_pixels_is_not_decoded():
    large = base64.b64encode(png(Image.new("1", (5000, 4000)))).decode()
    for path, content in (
        ("/img2img", {"init_images": [large]}),
        ("/img2img", {"init_images": [PICTURE], "mask": large}),
        ("/png-info", {"image": large}),
    ):
        answer = await posted(path, content)
        assert answer.status_code == 400 and "pixels" in answer.json()["detail"], answer.text


@pytest.mark.parametrize(
    "content",
    [
        {"tiling": False, "restore_faces": None, "styles": [], "subseed": 9, "subseed_strength": 0, "script_args": [1]},
        {"alwayson_scripts": {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}}, "script_name": "None"},
        {"seed_resize_from_h": -1, "seed_resize_from_w": 0, "do_not_save_samples": True, "s_tmax": 5, "s_noise": 1},
        {"sampler_name": "Euler a", "eta": 1}, {"sampler_name": "Euler", "eta": 0.7, "s_noise": 0},
        {"sampler_name": "DDIM", "eta": 0}, {"hr_upscaler": "Latent", "hr_resize_x": 9, "hr_scale": 2},
        {"override_settings": {"samples_save": False, "sd_vae": "Automatic", "eta_noise_seed_delta": 0}},
        {"enable_hr": True, "hr_upscaler": "None", "steps": 2, "hr_second_pass_steps": 2, "width": 32, "height": 32},
        {"sampler_index": "Euler", "denoising_strength": 0.4, "firstphase_width": 0, "hr_sampler_name": "other"},
    ],
)  # fmt: skip
@awaited
async def test_what_changes_nothing_is_let_through(content):
    answer = await posted("/txt2img", {"prompt": "a cat", **content})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["images"]) == 1


@awaited
async def test_options_that_are_none_here_are_not_kept():
    async with asking(app_of(Easel())) as some:
        answer = await some.post(f"{BASE}/options", json={"sd_vae": "other.pt", "samples_format": "webp"})
        assert answer.status_code == 400 and "'sd_vae' is none here" in answer.json()["detail"]
        assert (await some.get(f"{BASE}/options")).json()["samples_format"] == "png"
        assert (await some.post(f"{BASE}/options", json={"grid_save": True, "samples_format": "WEBP"})).json() is None
        assert (await some.get(f"{BASE}/options")).json()["samples_format"] == "webp"


@awaited
async def test_a_queue_that_is_full_says_when_to_ask_again():
    full = Easel(refusal=Refusal(429, "queue_full", "Too many pictures wait already.", retry_after=2.5))
    answer = await posted("/txt2img", {"prompt": "a cat"}, app_of(full))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["detail"] == "Too many pictures wait already."
    assert answer.json()["error"] == "queue_full"


@awaited
async def test_before_there_is_a_model_it_is_said_so():
    starting = Easel(models={}, state="starting")
    answer = await posted("/txt2img", {"prompt": "a cat"}, app_of(starting))
    assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
    async with asking(app_of(starting)) as some:
        assert (await some.get(f"{BASE}/sd-models")).json() == []
        assert (await some.get(f"{BASE}/options")).json()["sd_model_checkpoint"] == ""


@awaited
async def test_a_black_picture_of_the_safety_checker_is_told():
    answer = await posted("/txt2img", {"prompt": "unsafe"})
    assert '"flagged": [true]' in answer.json()["info"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([
    "prompt", "negative_prompt", "seed", "steps", "cfg_scale", "width", "height", "sampler_name", "scheduler", "eta",
    "s_noise", "batch_size", "n_iter", "denoising_strength", "enable_hr", "hr_scale", "hr_upscaler", "styles",
    "alwayson_scripts", "override_settings", "mask", "mask_blur", "resize_mode", "inpainting_fill", "script_args",
    "unheard_of",
])  # fmt: skip


@given(st.sampled_from(["/txt2img", "/img2img", "/options", "/png-info"]), st.dictionaries(NAMES, JSON, max_size=4))
@awaited
async def test_nothing_that_is_sent_breaks_it(path, content):
    more = {"init_images": [PICTURE], "image": PICTURE} if path in ("/img2img", "/png-info") else {}
    answer = await posted(path, more | content)
    assert answer.status_code in (200, 400, 404), answer.text
