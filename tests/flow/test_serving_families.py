"""XL and Stable Diffusion 3.5, tiny and random, behind one service: by OpenAI's protocol and by A1111's."""

import base64
import threading

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.pipeline.registering import register_model
from bespoke.pipeline.sample import sample
from bespoke.recipe.tree import Sample
from bespoke.records import Dataset
from tests.flow.test_serving import apart, opened, served
from tests.flow.tiny import family_project

XL, THREE = "my-xl@champion", "sd35"
PROMPT = "a red cat"
QUICK = {"num_inference_steps": 3, "guidance_scale": 4.0}
BOTH = (("sdxl-one", 0.5), ("sdxl-all", -0.7))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A version of an XL in use, a 3.5 beside it, and adapters for both."""
    folder = family_project(tmp_path_factory, ("sdxl", THREE))
    run = folder / "runs" / "sdxl"
    (run / "result.json").write_text("{}")
    (folder / "dataset").mkdir()
    (folder / "dataset" / "dataset.json").write_text("".join(Dataset().to_json()))
    (folder / "recipe.toml").write_text('[serve]\nport = 0\nadapters = "loras"\n')
    register_model(run, "my-xl", store=str(folder / "bespoke.db"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("BESPOKE_STORE", raising=False)
        done = CliRunner().invoke(app, ["models", "promote", "my-xl", "1", "--force", "it is random"])
        assert done.exit_code == 0, done.output
        yield folder


@pytest.fixture(scope="module")
def service(project):
    with served(project, XL, THREE) as process:
        yield process
    assert not [line for line in process.lines if '"batch failed"' in line]


@pytest.fixture(scope="module")
def client(service):
    return openai.OpenAI(base_url=f"{service.address}v1", api_key=service.key, max_retries=0)


def asked(client, model, prompt=PROMPT, **more):
    answer = client.images.generate(model=model, prompt=prompt, extra_body={**QUICK, "seed": 3, **more})
    return opened(base64.b64decode(answer.data[0].b64_json))


def by_command(project, model, prompt, out, **more):
    wish = {"settings": Sample(**QUICK), "seed": 3, "loras": project / "loras", **more}
    return opened(sample(model, [prompt], out=out, **wish).pictures[0].read_bytes())


def test_each_name_says_what_it_is_and_which_samplers_it_has(client):
    xl, three = (client.models.retrieve(name) for name in (XL, THREE))
    assert (xl.title, xl.facts["family"]) == ("my-xl@1", "Stable Diffusion XL") and "euler_a" in xl.schedulers
    assert three.facts["family"] == "Stable Diffusion 3.x" and "euler_a" not in three.schedulers
    assert (xl.width, xl.height, three.width, three.height) == (64,) * 4


def test_pictures_are_those_of_the_command_with_several_adapters(client, project, tmp_path):
    lora = [{"id": name, "scale": weight} for name, weight in BOTH]
    ours, bare = asked(client, XL, lora=lora), asked(client, XL)
    calls = "".join(f" <lora:{name}:{weight}>" for name, weight in BOTH)
    assert apart(ours, by_command(project, XL, PROMPT + calls, tmp_path / "a")) <= 1
    assert apart(bare, by_command(project, XL, PROMPT, tmp_path / "b")) <= 1 < apart(ours, bare)
    three = asked(client, THREE, f"{PROMPT} <lora:sd35-all:0.8>", size="96x64")
    wish = {"settings": Sample(**QUICK, width=96, height=64)}
    assert apart(three, by_command(project, THREE, f"{PROMPT} <lora:sd35-all:0.8>", tmp_path / "c", **wish)) <= 1


def test_a_picture_is_begun_with(client, project, tmp_path):
    colours = np.random.default_rng(1).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((96, 64)).save(tmp_path / "begun.png")
    for model in (XL, THREE):
        answer = client.images.edit(
            model=model, prompt=PROMPT, image=tmp_path / "begun.png", extra_body={**QUICK, "seed": 3, "strength": 0.7}
        )
        wish = {"settings": Sample(**QUICK, strength=0.7), "image": tmp_path / "begun.png"}
        ours = opened(base64.b64decode(answer.data[0].b64_json))
        assert apart(ours, by_command(project, model, PROMPT, tmp_path / "drawn", **wish)) <= 1


def test_a_picture_is_the_same_whoever_shares_its_batch(client, service):
    prompts = [PROMPT, f"{'a very long prompt, ' * 20}and a tree", "(red:1.4) apple", "a"]
    models = [XL] * len(prompts) + [THREE] * len(prompts)
    wishes = list(enumerate(zip(models, prompts * 2, strict=True)))
    alone = [asked(client, model, prompt, seed=number) for number, (model, prompt) in wishes]
    together = [*alone]

    def keep(number, model, prompt):
        together[number] = asked(client, model, prompt, seed=number)

    threads = [threading.Thread(target=keep, args=(number, *wish)) for number, wish in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(apart(one, other) for one, other in zip(alone, together, strict=True)) <= 1
    assert len({one.tobytes() for one in alone}) == len(alone)


@pytest.mark.parametrize(
    ("model", "wish", "words"),
    [
        (THREE, {"deep_cache": 2}, "deep_cache = 2 is for UNets"),
        (THREE, {"guidance_rescale": 0.5}, "guidance_rescale = 0.5 is for models with a UNet"),
        (THREE, {"scheduler": "euler_a"}, "not drawn by euler_a, but by: default, euler, "),
        (THREE, {"size": "512x64"}, "up to 256 pixels a side"),
        (THREE, {"hires_scale": 5.0}, "up to 256 pixels a side"),
        (THREE, {"clip_skip": 2}, "clip_skip"),
        (THREE, {"lora": [{"id": "sdxl-all"}]}, "it changes a unet, which this model has not"),
        (XL, {"lora": [{"id": "sd35-all"}]}, "it changes a transformer, which this model has not"),
        (XL, {"hires_scale": 2.0, "hires_strength": 0.1}, "hires_strength"),
        (XL, {"size": "2048x2048"}, "serve.most_pixels"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(client, model, wish, words):
    with pytest.raises(openai.BadRequestError) as told:
        asked(client, model, **wish)
    assert words in told.value.message and "/loras" not in told.value.message
    assert asked(client, model).size == (64, 64)


def test_a1111s_clients_are_told_the_samplers_of_their_model(service):
    [host, port] = service.address.removeprefix("http://").rstrip("/").split(":")
    client = webuiapi.WebUIApi(host=host, port=int(port))
    client.set_auth("anyone", service.key)
    wish = {"prompt": PROMPT, "seed": 3, "steps": 3, "cfg_scale": 4, "width": 64, "height": 64}
    assert "Euler a" in {one["name"] for one in client.get_samplers()}
    assert client.txt2img(**wish, sampler_name="Euler a").image.size == (64, 64)
    client.set_options({"sd_model_checkpoint": THREE})
    assert {one["name"] for one in client.get_samplers()} == {"Euler", "Heun", "DPM++ 2M", "DPM++ 2S", "UniPC"}
    assert {one["label"] for one in client.get_schedulers()} == {"Automatic", "Uniform", "Karras", "Beta"}
    ours = client.txt2img(**wish, sampler_name="DPM++ 2M", scheduler="Automatic").image
    body = {"model": THREE, "prompt": PROMPT, "seed": 3, **QUICK, "scheduler": "dpm++_2m"}
    with httpx.Client(base_url=service.address, headers={"Authorization": f"Bearer {service.key}"}) as plain:
        answer = plain.post("/v1/images/generations", json=body, timeout=60).raise_for_status().json()
    assert apart(ours, opened(base64.b64decode(answer["data"][0]["b64_json"]))) == 0
    with pytest.raises(RuntimeError, match="Euler a does not draw with this model"):
        client.txt2img(**wish, sampler_name="Euler a")
