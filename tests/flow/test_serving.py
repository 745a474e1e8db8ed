"""docs/serving.md, as it stands there: pictures, a run, a version, a service, the next version under load, and back."""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.recipe.made import made
from tests.flow.test_evaluate import some

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
MODEL, PROMPT = "my-style@champion", "8bit illustration of a dog"
QUICK = """
[train]
max_train_steps = 3
num_class_images = 0
save_every_n_epochs = 0
mixed_precision = "no"
[validation]
validation_steps = 3
strata = 1
[sample]
num_inference_steps = 2
sample_every_n_steps = 0
dtype = "fp32"
[evaluate]
seeds = 1
most_prompts = 3
[objective]
keep_prompts = ["a red bus", "a dog"]
[serve]
port = 0
watch_s = 0.2
"""
FORCED = ("--force", "a few steps are no better than the base")


def commands():
    """The lines of the page, its blocks one after the other."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for kind, block in blocks if not kind for line in block.splitlines()]


def typed(line, code=0):
    done = CliRunner().invoke(app, [*line.split()[1:], "--json"])
    assert done.exit_code == code, f"{line}\n{done.output}\n{done.exception!r}"
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What is typed before the service is started, with a training of a few steps."""
    folder = tmp_path_factory.mktemp("serving")
    before = commands()[: commands().index("bespoke serve my-style@champion")]
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("BESPOKE_STORE", raising=False)
        for line in before:
            match line.split():
                case ["cd", place]:
                    patch.chdir(place)
                case ["bespoke", "new", *_]:
                    typed(line.replace("examples/8bit/train", str(some("train", 6, folder / "in"))))
                    Path("my-style/recipe.toml").write_text(QUICK)
                case ["bespoke", "train", *_]:
                    runs.append(typed(line)["run"])
                case ["bespoke", "models", "promote", *_]:
                    refused = CliRunner().invoke(app, line.split()[1:])
                    assert refused.exit_code == 2 and "better than its base" in refused.output
                    CliRunner().invoke(app, [*line.split()[1:], *FORCED])
                case ["bespoke", "keys", "new", *_]:
                    key = typed(line)["key"]
                case _:
                    typed(line.replace("RUN", Path(runs[0]).name))
        yield Path.cwd(), key


@contextmanager
def served(project, *words):
    """A service, its address, and the key that it made, if it did."""
    command = [sys.executable, "-m", "bespoke", "serve", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as process:
        stderr, lines = process.stderr, []
        assert stderr
        for line in stderr:
            lines.append(line)
            if "Ctrl-C ends it" in line:
                break
        told = "".join(lines)
        assert "Ctrl-C ends it" in told, told
        reading = threading.Thread(target=lambda: lines.extend(stderr), daemon=True)
        reading.start()
        [process.address] = re.findall(r"http://[\d.:]+/", told)[:1]
        process.key = (re.search(r"The key .*: (\S+)", told) or ["", ""])[1]
        process.lines = lines
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            reading.join(5)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def service(project):
    folder, key = project
    with served(folder, MODEL, "pico") as process:
        process.key = key
        yield process


def opened(data):
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def apart(first, second):
    """The most that two pictures differ in, in 255ths."""
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


def test_the_pages_client_gets_the_picture_that_the_command_draws(project, service, tmp_path, monkeypatch):
    folder, key = project
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    monkeypatch.setenv("BESPOKE_KEY", key)
    monkeypatch.chdir(tmp_path)
    exec(code.replace("http://127.0.0.1:8188/", service.address))
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(
        app, ["sample", MODEL, PROMPT, "--out", "drawn", "--seed", "7", "--set", "sample.num_inference_steps=20"]
    )
    assert done.exit_code == 0, done.output
    [file] = Path("drawn").glob("000-*.png")
    assert apart(opened((tmp_path / "dog.png").read_bytes()), opened(file.read_bytes())) <= 1
    found = made(tmp_path / "dog.png")
    assert (found.model, found.prompt, found.seed) == ("my-style@1", PROMPT, 7)


def test_without_the_key_nobody_draws(service):
    client = openai.OpenAI(base_url=f"{service.address}v1", api_key="bespoke_wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.images.generate(model=MODEL, prompt=PROMPT)


def test_a_picture_is_the_same_whoever_shares_its_batch(service):
    prompts = [PROMPT, "a cat", f"{'a very long prompt, ' * 30}and a tree", "(red:1.4) apple", PROMPT, "a", "b", "c"]

    def ask(client, number):
        body = {"model": MODEL, "prompt": prompts[number], "seed": number, "num_inference_steps": 6}
        answer = client.post("/v1/images/generations", json=body).raise_for_status().json()
        return opened(base64.b64decode(answer["data"][0]["b64_json"]))

    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.address, headers=headers, timeout=120) as client:
        alone = [ask(client, number) for number in range(len(prompts))]
        together = [*alone]

        def keep(number):
            together[number] = ask(client, number)

        threads = [threading.Thread(target=keep, args=(number,)) for number in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sizes = client.get("/metrics", headers=headers)
    assert [apart(one, other) for one, other in zip(alone, together, strict=True)] <= [1] * len(prompts)
    assert sizes.status_code == 403, "a key that draws does not read metrics"


def test_a1111s_client_draws_too(service):
    [(host, port)] = re.findall(r"http://([\d.]+):(\d+)/", service.address)
    client = webuiapi.WebUIApi(host=host, port=int(port))
    client.set_auth("anyone", service.key)
    answer = client.txt2img(prompt=PROMPT, seed=7, steps=2, width=64, height=64, cfg_scale=2)
    assert answer.image.size == (64, 64)
    assert MODEL in {each["model_name"] for each in client.get_sd_models()}


@pytest.mark.slow
def test_the_next_version_takes_over_under_load_and_is_taken_back(project, service, monkeypatch):
    folder, _ = project
    monkeypatch.chdir(folder)
    lines = commands()
    after = lines[lines.index("bespoke train recipe.toml --set train.seed=5") :]
    drawn, failed, ended = [], [], threading.Event()
    client = openai.OpenAI(base_url=f"{service.address}v1", api_key=service.key, max_retries=0)

    def load(who):
        number = 0
        while not ended.is_set():
            number += 1
            try:
                answer = client.images.generate(
                    model=MODEL, prompt=f"a thing {who}", extra_body={"seed": number, "num_inference_steps": 1}
                )
                drawn.append((answer.model_extra or {})["model"])
            except Exception as error:
                failed.append(error)

    def wait_for(title):
        while not drawn or drawn[-1] != title:
            assert not failed, failed
            ended.wait(0.05)

    threads = [threading.Thread(target=load, args=(who,)) for who in range(3)]
    try:
        for thread in threads:
            thread.start()
        wait_for("my-style@1")
        run = Path(typed(after[0])["run"]).name
        for line in after[1:3]:
            typed(line.replace("RUN2", run))
        assert CliRunner().invoke(app, [*after[3].split()[1:], *FORCED]).exit_code == 0
        wait_for("my-style@2")
        typed(after[4])
        wait_for("my-style@1")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert set(drawn) == {"my-style@1", "my-style@2"}
    changes = [json.loads(line) for line in service.lines if '"model changed"' in line]
    assert [(each["before"], each["now"]) for each in changes] == [
        ("my-style@1", "my-style@2"), ("my-style@2", "my-style@1"),
    ]  # fmt: skip


def test_without_a_name_every_champion_is_served_and_without_keys_one_is_made(project, tmp_path):
    folder = shutil.copytree(project[0], tmp_path / "my-style", symlinks=True)
    (folder / "serve-keys.json").unlink()
    with served(folder) as process:
        client = openai.OpenAI(base_url=f"{process.address}v1", api_key=process.key)
        assert [each.id for each in client.models.list()] == [MODEL]
