"""docs/lifecycle.md, as it stands there: a model in use is rated, drifts, is brought up to date and taken back."""

import json
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.feedback import Sample, Store
from tests.flow.test_evaluate import some
from tests.flow.test_serving import FORCED, MODEL, PROMPT, QUICK, served, typed

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
RECIPE = f"""{QUICK}
[drift]
reference_pictures = 20
least = 6
canaries = ["a red apple"]
canary_seeds = 1
[update]
alarm_days = 1
least_served = 20
least_ratings = 8
"""
RATERS = ("ann", "bob", "cy", "di")


def blocks():
    """What is typed, block by block."""
    return [block.splitlines() for block in re.findall(r"```\n(bespoke.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]


def opinions():
    """What the page sends."""
    (block,) = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [json.loads(line) for line in block.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """What is typed before the service is started, with a training of a few steps."""
    folder = tmp_path_factory.mktemp("lifecycle")
    *lines, _ = blocks()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("BESPOKE_STORE", raising=False)
        patch.delenv("BESPOKE_FEEDBACK", raising=False)
        for line in lines:
            match line.split():
                case ["cd", place]:
                    patch.chdir(place)
                case ["bespoke", "new", *_]:
                    typed(line.replace("examples/8bit/train", str(some("train", 12, folder / "in"))))
                    Path("my-style/recipe.toml").write_text(RECIPE)
                case ["bespoke", "train", *_]:
                    run = Path(typed(line)["run"]).name
                case ["bespoke", "models", "promote", *_]:
                    done = CliRunner().invoke(app, [*line.split()[1:], *FORCED])
                    assert done.exit_code == 0, done.output
                case ["bespoke", "keys", "new", *_]:
                    key = typed(line)["key"]
                case _:
                    typed(line.replace("RUN", run))
        yield Path.cwd(), key


def drawn(client, seed):
    answer = client.images.generate(model=MODEL, prompt=PROMPT, extra_body={"seed": seed, "num_inference_steps": 1})
    return answer.data[0].model_extra["id"], answer.model_extra["model"]


def rate(http, pictures):
    """Everybody dislikes all pictures; of one somebody says what it shows, and lets it be learnt from."""
    thumb, caption = opinions()
    for picture in pictures:
        for rater in RATERS:
            http.post("/v1/feedback", json={**thumb, "picture": picture, "rater": rater}).raise_for_status()
    assert http.post("/v1/feedback", json={**caption, "picture": pictures[0]}).raise_for_status().json()["kept"]


def days_went_by(project):
    """The day after six days of pictures of this version, whose last two are grey, as a service would keep them."""
    with Store(project) as store:
        files = sorted((project / "dataset" / "train").glob("*.png"))
        for day in range(6):
            for number in range(12):
                picture = Image.open(files[(day + number) % len(files)]).convert("RGB").resize((64, 64))
                if day >= 4:
                    picture = Image.blend(picture, Image.new("RGB", picture.size, (128, 128, 128)), 0.85)
                data, at = BytesIO(), datetime.now(UTC) + timedelta(days=1 + day)
                picture.save(data, format="PNG")
                name = f"kept-{day}-{number}"
                store.add(Sample(name, "my-style@1", f"8bit thing {number}", at=at.isoformat()), data.getvalue())
    return f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"


@pytest.mark.slow
def test_the_loop_closes(project, monkeypatch):
    folder, key = project
    monkeypatch.chdir(folder)
    serve, judge, update = blocks()[0][-1].split()[2:], blocks()[1], blocks()[2]
    with served(folder, *serve) as service:
        client = openai.OpenAI(base_url=f"{service.address}v1", api_key=key, max_retries=0)
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=service.address, headers=headers, timeout=60) as http:
            rate(http, [drawn(client, seed)[0] for seed in range(3)])
        today, said = days_went_by(folder), {}
        for line in judge:
            accepted = said.get("bespoke feedback review", {}).get("open", [{}])[0].get("sample", {}).get("id", "")
            when = f" --now {today}" if line.endswith("drift") else ""
            said[line] = typed(f"{line.replace('ID', accepted)}{when}")
        (ratings,) = said["bespoke feedback ratings"]["versions"]
        assert ratings["model"] == "my-style@1" and ratings["liked"]["hits"] == 0 and ratings["raters"] == len(RATERS)
        assert said["bespoke feedback review --accept ID"]["accepted"] == 1
        assert said["bespoke feedback drift"]["alarms"]
        proposed, made = typed(update[0]), typed(update[1])
        assert {reason["about"] for reason in proposed["reasons_for"]} >= {"drift", "ratings"}
        assert made["ran"] and made["update"]["version"] == 2
        # A few steps are no better than the base, so the gate keeps them out.
        assert made["update"]["outcome"] == "refused" and bespoke.show_model("my-style").aliases == {"champion": 1}
        assert typed(update[2])["name"] == "my-style"
        with loaded(client) as (titles, failed):
            until("my-style@1", titles, failed)
            assert CliRunner().invoke(app, [*update[3].split()[1:], *FORCED]).exit_code == 0
            until("my-style@2", titles, failed)
            typed(update[4])
            until("my-style@1", titles, failed)
        assert failed == [] and set(titles) == {"my-style@1", "my-style@2"}
    kinds = [json.loads(line)["kind"] for line in Path("updates.jsonl").read_text().splitlines()]
    assert kinds == ["decided", "decided", *["done"] * 4, "ended"]
    record = json.loads((folder / "dataset" / "dataset.json").read_text())
    assert [one["text"] for one in record["pictures"] if "generated_by" in one["labels"]] == [opinions()[1]["words"]]


@contextmanager
def loaded(client):
    """A block in which pictures are asked for without pause: the versions that drew them, and what failed."""
    titles, failed, over = [], [], threading.Event()

    def ask():
        seed = 0
        while not (over.is_set() or failed):
            seed += 1
            try:
                titles.append(drawn(client, seed)[1])
            except openai.OpenAIError as error:
                failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield titles, failed
    finally:
        over.set()
        thread.join()


def until(title, titles, failed):
    """Waits until a version draws."""
    wait = threading.Event()
    while not titles or titles[-1] != title:
        assert not failed, failed
        wait.wait(0.05)
