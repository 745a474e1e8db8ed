"""A1111's interface, as the client webuiapi speaks it to a real server."""

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image

from bespoke.serving.keys import Keys, make
from tests.serving.easelstand import OTHER, OWN, Easel, opened, png
from tests.serving.listening import app_of, asking, awaited, served, until

BASE = "/sdapi/v1"
INPAINT = {"inpainting_fill": 1, "inpaint_full_res": False}
RED, BLUE = (200, 0, 0), (0, 0, 200)


@contextmanager
def client(address, **more):
    api = webuiapi.WebUIApi(baseurl=address + BASE, sampler="Euler a", steps=4, **more)
    with closing(api.session):
        yield api


@pytest.fixture
def easel():
    return Easel()


@pytest.fixture
def pool(easel):
    """Threads for what waits; whatever fails, nothing waits for ever."""
    with ThreadPoolExecutor() as made:
        yield made
        easel.going.set()


@pytest.fixture
def address(easel):
    with served(app_of(easel)) as found:
        yield found


@pytest.fixture
def api(address):
    with client(address) as found:
        yield found


def asked(easel):
    """The wish that was asked for last."""
    return easel.wishes[-1][0]


def test_a_picture_from_words_comes_as_the_client_wants_it(api, easel):
    done = api.txt2img(
        prompt="a (red:1.2) cat <lora:ink:0.5> <lora:style>", negative_prompt="blurry", seed=7, cfg_scale=3, width=96,
        height=32, sampler_name="DPM++ 2M", scheduler="Karras", steps=6, batch_size=2, n_iter=2,
    )  # fmt: skip
    wish = asked(easel)
    assert (wish.prompt, wish.adapters) == ("a (red:1.2) cat", {"ink": 0.5, "style": 1.0})
    assert (wish.model, wish.count, wish.seed, wish.image, wish.mask) == (OWN, 4, 7, None, None)
    assert wish.settings == {
        "num_inference_steps": 6, "guidance_scale": 3, "negative_prompt": "blurry", "width": 96, "height": 32,
        "scheduler": "dpm++_2m_karras",
    }  # fmt: skip
    assert [picture.size for picture in done.images] == [(96, 32)] * 4
    assert [picture.getpixel((0, 0))[0] for picture in done.images] == [7, 8, 9, 10]
    told = done.info
    assert told["all_seeds"] == [7, 8, 9, 10] and told["seed"] == 7
    assert (told["width"], told["height"], told["steps"], told["cfg_scale"]) == (96, 32, 6, 3)
    assert told["prompt"] == told["all_prompts"][3] == "a (red:1.2) cat <lora:ink:0.5> <lora:style>"
    assert told["all_negative_prompts"] == ["blurry"] * 4 and told["batch_size"] == 2
    assert (told["sampler_name"], told["extra_generation_params"]) == ("DPM++ 2M", {"Schedule type": "Karras"})
    assert told["sd_model_name"] == "my-style@7" and told["flagged"] == [False] * 4
    assert told["ids"] == ["picture-7", "picture-8", "picture-9", "picture-10"]
    assert told["infotexts"][1].startswith(
        "a (red:1.2) cat\nNegative prompt: blurry\nSteps: 6, Sampler: DPM++ 2M Karras"
    )
    assert done.parameters["cfg_scale"] == 3 and done.parameters["seed"] == 7


def test_what_is_not_said_is_as_the_model_draws_of_itself(easel, address):
    done = httpx.post(f"{address}{BASE}/txt2img", json={"prompt": "a cat", "seed": -1, "steps": None}).json()
    assert asked(easel).settings == {} and asked(easel).seed is None
    with Image.open(io.BytesIO(base64.b64decode(done["images"][0]))) as picture:
        assert (picture.size, picture.format) == ((64, 48), "PNG")
    assert '"seed": 1234' in done["info"] and '"sampler_name": "default"' in done["info"]


def test_pictures_are_enlarged_and_drawn_over(api, easel):
    done = api.txt2img(
        prompt="a cat", width=32, height=32, enable_hr=True, hr_scale=2, hr_upscaler="Lanczos", denoising_strength=0.25
    )
    assert asked(easel).settings["hires_scale"] == 2 and asked(easel).settings["hires_strength"] == 0.25
    assert done.image.size == (64, 64)
    assert (done.info["width"], done.info["height"], done.info["denoising_strength"]) == (32, 32, 0.25)
    api.txt2img(prompt="a cat", width=32, height=32, denoising_strength=0.25, hr_scale=2)
    assert not {"hires_scale", "hires_strength", "strength"} & asked(easel).settings.keys()


def test_a_picture_is_begun_with_and_its_mask_is_softened_and_inverted(api, easel):
    begun = Image.new("RGB", (64, 64), RED)
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    how = {"mask_image": mask, "mask_blur": 0, "width": 64, "height": 64, "seed": 3, **INPAINT}
    done = api.img2img([begun], prompt="a cat", denoising_strength=0.5, **how)
    wish = asked(easel)
    assert opened(wish.image).getpixel((5, 5)) == RED and wish.settings["strength"] == 0.5
    assert done.info["denoising_strength"] == 0.5
    assert done.image.getpixel((5, 32))[0] == 3 and done.image.getpixel((60, 32)) == RED
    turned = api.img2img([begun], inpainting_mask_invert=1, **how)
    assert turned.image.getpixel((5, 32)) == RED and turned.image.getpixel((60, 32))[0] == 3
    api.img2img([begun], **how | {"mask_blur": 4})
    soft = np.asarray(opened(asked(easel).mask).convert("L"))[32].astype(int)
    assert soft[0] > 250 and 100 < soft[32] < 140 and soft[63] < 5


def test_a_picture_alone_is_drawn_in_its_own_size(easel, address):
    bare = base64.b64encode(png(Image.new("RGB", (80, 40), BLUE))).decode()
    for sent in (bare, "data:image/png;base64," + bare, bare[:9] + "\n" + bare[9:]):
        done = httpx.post(f"{address}{BASE}/img2img", json={"init_images": [sent], "include_init_images": True}).json()
        assert opened(base64.b64decode(done["images"][0])).size == (80, 40)
        assert done["parameters"]["init_images"] == [sent]
    assert asked(easel).mask is None


def test_progress_is_told_to_the_caller_while_it_is_drawn(api, easel, address, pool):
    easel.hold()
    assert api.get_progress()["state"]["job_count"] == 0
    api.util_wait_for_ready()
    with client(address) as other:
        options = {"override_settings": {"show_progress_every_n_steps": 1}}
        drawing = pool.submit(other.txt2img, prompt="a cat", steps=4, n_iter=2, **options)
        assert easel.begun.wait(60)
        told = api.get_progress()
        assert told["progress"] == 0.5 and told["eta_relative"] > 0, "2 of 4 steps of both"
        state = told["state"]
        assert (state["job"], state["job_count"], state["job_no"]) == ("txt2img", 2, 0)
        assert (state["sampling_step"], state["sampling_steps"]) == (2, 4)
        shown = opened(base64.b64decode(told["current_image"]))
        assert shown.getpixel((0, 0)) == (2, 0, 0)
        without = httpx.get(f"{address}{BASE}/progress", params={"skip_current_image": True}).json()
        assert without["current_image"] is None and without["progress"] == 0.5
        easel.going.set()
        assert len(drawing.result(60).images) == 2
    assert api.get_progress()["progress"] == 0


def test_interrupting_leaves_off_what_is_drawn(api, easel, address, pool):
    easel.hold()
    with client(address) as other:
        drawing = pool.submit(other.txt2img, prompt="a cat")
        assert easel.begun.wait(60)
        assert api.interrupt() == {}
        with pytest.raises(RuntimeError, match="interrupted") as caught:
            drawing.result(60)
    assert caught.value.args[0] == 409 and len(easel.left) == 1
    easel.going.set()
    assert api.txt2img(prompt="a cat").image


@awaited
async def test_a_caller_that_hangs_up_lets_the_drawing_be_left_off():
    easel = Easel()
    easel.hold()
    async with asking(app_of(easel)) as some:
        asking_for = asyncio.create_task(some.post(f"{BASE}/txt2img", json={"prompt": "a cat"}))
        await until(easel.begun.is_set)
        asking_for.cancel()
        await asyncio.gather(asking_for, return_exceptions=True)
    await until(lambda: len(easel.left) == 1)


def test_a_connection_that_is_closed_lets_the_drawing_be_left_off(easel, address):
    easel.hold()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}{BASE}/txt2img", json={"prompt": "a cat"}, timeout=httpx.Timeout(30, read=0.3))
    asyncio.run(until(lambda: len(easel.left) == 1))


def test_models_are_listed_chosen_and_remembered(api, easel):
    assert api.util_get_model_names() == [OWN, OTHER]
    (first, _) = api.get_sd_models()
    assert first == {
        "title": OWN, "model_name": OWN, "filename": "my-style@7", "hash": "ab" * 5, "sha256": "ab" * 32,
        "config": None,
    }  # fmt: skip
    assert api.util_get_current_model() == OWN
    api.set_options({"sd_model_checkpoint": OTHER, "CLIP_stop_at_last_layers": 3, "samples_save": False})
    assert api.util_get_current_model() == OTHER
    done = api.txt2img(prompt="a cat")
    assert (asked(easel).model, asked(easel).settings["clip_skip"]) == (OTHER, 2)
    assert (done.info["sd_model_name"], done.info["clip_skip"]) == ("pico", 3)
    api.txt2img(prompt="a cat", override_settings={"sd_model_checkpoint": "my-style@7", "CLIP_stop_at_last_layers": 1})
    assert (asked(easel).model, asked(easel).settings["clip_skip"]) == (OWN, 0)
    assert api.util_get_current_model() == OTHER, "options of a request are its own"
    api.txt2img(override_settings={"sd_model_checkpoint": OWN}, override_settings_restore_afterwards=False)
    assert api.util_get_current_model() == OWN, "unless it says otherwise"
    assert api.set_options(api.get_options()) is None, "what was read can be sent back"


def test_models_that_are_promoted_meanwhile_are_drawn_with(api, easel):
    api.set_options({"sd_model_checkpoint": OWN})
    easel.models[OWN] = type(easel.models[OWN])("my-style@8", 32, 32)
    assert api.txt2img(prompt="a cat").info["sd_model_name"] == "my-style@8"


def test_what_clients_ask_lists_of_is_listed(api):
    names = api.util_get_sampler_names()
    assert "Euler a" in names and "DPM++ 2M" in names and "DPM++ 2M Karras" not in names
    assert {"name": "DPM++ 2M", "aliases": ["dpm++_2m"], "options": {"scheduler": "Karras"}} in api.get_samplers()
    assert api.util_get_scheduler_names() == ["automatic", "beta", "karras", "sgm_uniform", "uniform"]
    assert [lora["name"] for lora in api.get_loras()] == ["style", "ink"]
    assert all(lora["path"] == lora["alias"] == lora["name"] for lora in api.get_loras())
    assert [one["name"] for one in api.get_upscalers()] == ["Lanczos"]
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}} and api.get_cmd_flags() == {}
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.refresh_checkpoints() is None
    for asks in (
        "hypernetworks",
        "face_restorers",
        "prompt_styles",
        "realesrgan_models",
        "sd_vae",
        "latent_upscale_modes",
    ):
        assert getattr(api, f"get_{asks}")() == []


def test_a_picture_says_how_it_was_made_and_is_drawn_again_from_that(api, easel):
    done = api.txt2img(prompt="a cat", negative_prompt="blurry", seed=5, sampler_name="Euler", steps=8, cfg_scale=2)
    said = api.png_info(done.image)
    assert said.info == done.info["infotexts"][0]
    facts = said.parameters
    assert (facts["Prompt"], facts["Negative prompt"], facts["Seed"]) == ("a cat", "blurry", "5")
    assert (facts["Sampler"], facts["Steps"], facts["Size-1"], facts["Size-2"]) == ("Euler", "8", "512", "512")
    api.txt2img(
        prompt=facts["Prompt"], negative_prompt=facts["Negative prompt"], seed=int(facts["Seed"]),
        sampler_name=facts["Sampler"], steps=int(facts["Steps"]), cfg_scale=float(facts["CFG scale"]),
    )  # fmt: skip
    assert easel.wishes[0] == easel.wishes[1]
    silent = api.png_info(Image.new("RGB", (8, 8)))
    assert (silent.info, silent.parameters) == ("", {})


def test_pictures_are_sent_in_another_form_or_not_at_all(api, easel):
    done = api.txt2img(prompt="a cat", override_settings={"samples_format": "jpg", "jpeg_quality": 50})
    assert done.image.format == "JPEG" and asked(easel).settings["quality"] == 50
    assert api.txt2img(prompt="a cat", send_images=False, save_images=True).images == []


def test_callers_know_nothing_of_one_another(tmp_path, easel, pool):
    file = tmp_path / "keys.json"
    mine, yours, ruling = make(file, "me"), make(file, "you"), make(file, "boss", ("admin",))
    with served(app_of(easel, None, Keys(file))) as address:
        with (
            client(address, username="any", password=mine) as me,
            client(address, username="any", password=yours) as you,
            client(address, username="any", password=ruling) as boss,
        ):
            me.set_options({"sd_model_checkpoint": OTHER})
            assert (me.util_get_current_model(), you.util_get_current_model()) == (OTHER, OWN)
            easel.hold()
            drawing = pool.submit(me.txt2img, prompt="a cat")
            assert easel.begun.wait(60)
            assert you.get_progress()["state"]["job"] == "" and you.interrupt() == {}
            assert "scope admin" in you.session.post(f"{you.baseurl}/interrupt-all").json()["detail"]
            assert not easel.left
            assert boss.session.post(f"{boss.baseurl}/interrupt-all").json() == {"interrupted": 1}
            with pytest.raises(RuntimeError, match="interrupted"):
                drawing.result(60)
            assert easel.wishes[0][1] == "me"
        assert httpx.get(f"{address}{BASE}/samplers").status_code == 401
