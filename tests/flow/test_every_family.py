"""What is done with a run whatever its base, on 2.x, XL and 3.x, tiny and random: scorecard, grid, version."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bespoke
from bespoke.pipeline import prompts
from bespoke.pipeline.naming import named
from tests.flow.tiny import model_of, project_of

KINDS = ("sd2v", "sdxl", "sd35")
QUICK = ("train.max_train_steps=2", "train.learning_rate=0.1", "train.lr_warmup_steps=0", "train.num_class_images=0",
         "sample.num_inference_steps=2", "sample.sample_every_n_steps=0", "validation.strata=1", "model.rank=4",
         "validation.validation_steps=2", "train.train_batch_size=2", "validation.probe=false",
         "data.validation_fraction=0.4", "track.mlflow=false", "track.tensorboard=false")  # fmt: skip
CAPTIONS = [
    f"blot of a {name} on {ground}"
    for name in ("cat", "dog", "fox", "owl", "bee")
    for ground in ("red", "blue", "green")
]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


@pytest.fixture(scope="module", autouse=True)
def _few_captions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "FEW", 2)
        yield


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory) -> Path:
    base = model_of(request.param, tmp_path_factory)
    return Path(bespoke.train(project_of(base, tmp_path_factory, CAPTIONS) / "recipe.toml", QUICK).run)


def test_a_scorecard_compares_it_with_its_base(run, tmp_path):
    settings = (
        "evaluate.clip=pico-CLIP",
        "evaluate.seeds=1",
        "evaluate.most_prompts=3",
        "sample.num_inference_steps=1",
    )
    found = bespoke.evaluate(
        str(run), out=tmp_path, overrides=(*settings, 'objective.keep_prompts=["a red bus", "a dog"]')
    )
    scores = json.loads(found.content.read_text("utf-8"))["scores"]
    assert set(scores) == {"base", "tuned"} and "agreement_general" in scores["base"]
    assert all(one["low"] <= one["value"] <= one["high"] for each in scores.values() for one in each.values())
    assert scores["base"] != scores["tuned"] and found.report.is_file()


def test_a_grid_shows_it_with_more_and_less_of_its_adapter(run, tmp_path):
    done = bespoke.grid(str(run), "a cat", x="weight=0,1", y="sampler=euler,heun", out=tmp_path)
    pictures = [np.asarray(Image.open(one).convert("RGB"), int) for one in done.pictures]
    assert len(pictures) == 4 and len({one.tobytes() for one in pictures}) == 4


def test_it_becomes_a_version_that_says_what_it_was_trained_on(run, tmp_path):
    store = str(tmp_path / "bespoke.db")
    made = bespoke.register_model(run, "my-model", store=store).version
    assert made.title == "my-model@1"
    found = named("my-model@1", tmp_path)
    assert found.registered and found.checkpoint.family == named(str(run)).checkpoint.family
