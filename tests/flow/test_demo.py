"""From a folder of pictures to a report page, by the command a visitor types."""

import csv
import html.parser
import json
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from bespoke.models import PICO
from tests.flow.conftest import Demo

EXAMPLE = Path(__file__).parents[2] / "examples" / "8bit"


def test_says_where_everything_is(demo: Demo) -> None:
    content = demo.content
    assert set(content) == {"run", "report", "adapter", "pictures", "scores", "seconds"}
    named = (content["run"], content["report"], content["adapter"], *content["pictures"].values())
    for name in named:
        assert not Path(name).is_absolute()
        assert demo.path(name).exists()
    assert {"check", "encode", "train", "draw", "measure"} <= set(content["seconds"])


def test_both_models_draw_the_same_reference_prompts(demo: Demo) -> None:
    names = [sorted(f.name for f in demo.path(demo.content["pictures"][m]).iterdir()) for m in ("base", "tuned")]
    assert names[0] == names[1]
    assert len(names[0]) >= 40
    assert all(name.endswith(".png") for name in names[0])


def test_reference_prompts_name_only_things_that_training_never_saw(demo: Demo) -> None:
    seen = {caption.split(" on ")[0] for caption in _captions(EXAMPLE / "train" / "metadata.csv")}
    folder = demo.path(demo.content["pictures"]["tuned"])
    prompts = [_parameters(file).splitlines()[0] for file in sorted(folder.iterdir())]
    assert len({prompt.split(" on ")[0] for prompt in prompts} - seen) >= 40
    assert not {prompt.split(" on ")[0] for prompt in prompts} & seen


def test_the_recipe_says_before_training_what_should_change_and_what_must_stay(demo: Demo) -> None:
    objective = tomllib.loads((demo.path(demo.content["run"]) / "recipe.toml").read_text())["objective"]
    folder = demo.path(demo.content["pictures"]["tuned"])
    for prompts, drawn in (
        (objective["change_prompts"], folder),
        (objective["keep_prompts"], folder.parent / "general"),
    ):
        assert {_parameters(file).splitlines()[0] for file in drawn.iterdir()} == set(prompts)
        assert len(list(drawn.iterdir())) == len(prompts)
    assert not any("8bit" in prompt for prompt in objective["keep_prompts"])


def test_every_file_of_the_example_is_accounted_for(demo: Demo) -> None:
    dataset = json.loads((demo.path("demo") / "dataset" / "dataset.json").read_text())
    with (EXAMPLE / "train" / "metadata.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(dataset["pictures"]) == 125
    assert len(dataset["pictures"]) + len(dataset["set_aside"]) == len(rows)
    reasons = {item["reason"] for item in dataset["set_aside"]}
    assert {"unreadable", "duplicate", "near-duplicate", "no caption", "too small", "missing file"} <= reasons


def test_scores_have_intervals_around_them(demo: Demo) -> None:
    base, tuned = demo.content["scores"]["base"], demo.content["scores"]["tuned"]
    assert set(base) == set(tuned) == {
        "kid_pico_clip_reference", "agreement_reference", "agreement_general", "copy_rate", "authenticity", "copying_z",
    }  # fmt: skip
    for scores in (base, tuned):
        assert all(score["low"] <= score["value"] <= score["high"] for score in scores.values())
        assert scores["agreement_general"]["count"] >= 24


def test_the_page_shows_pictures_that_are_there(demo: Demo) -> None:
    page = demo.path(demo.content["report"])
    text = page.read_text(encoding="utf-8")
    sources = [unquote(s) for s in re.findall(r'<img[^>]*src="([^"]+)"', text)]
    assert len(sources) > 140
    assert all((page.parent / source).is_file() for source in sources)
    words = _words(text)
    expected = ("8bit illustration", "Closer to your pictures?", "near-duplicate", "train.learning_rate")
    for said in (*expected, "While training", "step 12"):
        assert said in words


def test_the_run_folder_holds_what_the_design_says(demo: Demo) -> None:
    run = demo.path(demo.content["run"])
    assert {f.name for f in run.iterdir()} >= {"recipe.toml", "state", "adapter.safetensors", "last", "samples",
                                               "metrics.jsonl", "report", "tensorboard", "tracking.json"}  # fmt: skip
    assert (run.parent.parent / "bespoke.db").is_file()
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "validated"
    assert events[-1]["event"] == "stopped"
    assert [e["step"] for e in events if e["event"] == "step"] == [3, 6, 9, 12]


def test_the_adapter_gives_the_same_pictures_in_plain_diffusers(demo: Demo) -> None:
    adapter = demo.path(demo.content["adapter"])
    folder = demo.path(demo.content["pictures"]["tuned"])
    file = sorted(folder.iterdir())[0]
    with Image.open(file) as ours:
        prompt, seed = ours.text["parameters"].splitlines()[0], int(file.stem.rpartition("seed")[2])  # type: ignore[attr-defined]
        expected = np.asarray(ours.convert("RGB")).astype(int)
    pipeline = StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": 2.0, "generator": torch.Generator().manual_seed(seed)}
    bare = np.asarray(pipeline(prompt, return_dict=False, **settings)[0][0]).astype(int)
    pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    settings["generator"] = torch.Generator().manual_seed(seed)
    got = np.asarray(pipeline(prompt, return_dict=False, **settings)[0][0]).astype(int)
    assert np.abs(got - expected).max() <= 1
    assert np.abs(bare - expected).max() > 1


def _parameters(file: Path) -> str:
    with Image.open(file) as picture:
        return picture.text["parameters"]


def _captions(table: Path) -> list[str]:
    with table.open(encoding="utf-8", newline="") as rows:
        return [row["text"] for row in csv.DictReader(rows) if row["text"]]


def _words(text: str) -> str:
    found: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_data = found.append  # type: ignore[method-assign]
    parser.feed(text)
    return " ".join(found)
