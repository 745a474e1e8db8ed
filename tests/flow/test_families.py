"""Models that are not pico, tiny and random: every kind is built, and those that can be tuned go the whole way."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from pico import families
from PIL import Image

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find

QUICK = ("train.max_train_steps=3", "train.learning_rate=0.05", "train.lr_warmup_steps=0", "train.num_class_images=2",
         "sample.num_inference_steps=2", "validation.strata=2")  # fmt: skip
PROMPT = "blot of a red cat"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(("cat", "dog", "fox", "cow", "pig", "bee", "owl", "car")):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"blot of a {name}")
    return folder


@pytest.mark.parametrize("kind", ["sd1", "sd2v"])
def test_another_stable_diffusion_is_tuned_by_the_same_code(kind: str, pictures: Path, tmp_path: Path) -> None:
    families.write(kind, tmp_path / kind)
    made = bespoke.new(tmp_path / "project", pictures, base=str(tmp_path / kind))
    trained = bespoke.train(made.recipe, QUICK)
    (picture,) = bespoke.sample(str(trained.run), [PROMPT], out=tmp_path / "drawn", seed=3).pictures
    with Image.open(picture) as ours:
        got = np.asarray(ours.convert("RGB")).astype(int)

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / kind)
    pipeline.set_progress_bar_config(disable=True)
    bare, tuned = _drawn(pipeline), None
    pipeline.load_lora_weights(trained.adapter.parent, weight_name=trained.adapter.name)
    tuned = _drawn(pipeline)
    assert np.abs(got - tuned).max() <= 1
    assert np.abs(got - bare).max() > 1


RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))
OF_RECIPES = {"pico": "sd1", "sd15": "sd1", "sd21": "sd2v", "sdxl": "sdxl", "sd35": "sd35"}
"""What small model is like the one of a recipe, by what the recipe's name begins with."""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_the_recipes_that_come_along_train(recipe: Path, pictures: Path, tmp_path: Path) -> None:
    """On a small model, for an epoch a stage; everything else is as it stands there."""
    kind = OF_RECIPES[recipe.stem.partition("-")[0]]
    families.write(kind, tmp_path / kind)
    made = bespoke.new(tmp_path / "project", pictures, base=str(tmp_path / kind))
    text = recipe.read_text(encoding="utf-8")
    made.recipe.write_text(re.sub(r"num_train_epochs = \d+", "num_train_epochs = 1", text), encoding="utf-8")
    small = [f'model.base="{tmp_path / kind}"', "data.resolution=64", "train.train_batch_size=2"]
    small += ["train.gradient_accumulation_steps=1", "validation.strata=2", "train.num_class_images=2"]
    small += ["sample.num_inference_steps=2"]
    small += [] if "[[stage]]" in text else ["train.max_train_steps=3"]
    trained = bespoke.train(made.recipe, small)
    assert (trained.model is not None) == ('method = "full"' in text)
    assert (trained.adapter or trained.model / "unet").exists()  # pyright: ignore[reportOptionalOperand]
    assert trained.steps >= 3


def test_a_kind_of_model_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    families.write("sd1", tmp_path / "other")
    index = tmp_path / "other" / "model_index.json"
    index.write_text(index.read_text().replace('"StableDiffusionPipeline"', '"FluxPipeline"'))
    with pytest.raises(BespokeError, match="FluxPipeline") as told:
        find(str(tmp_path / "other"))
    assert "StableDiffusion3Pipeline" in told.value.hint


def test_a_seed_is_a_model(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        families.write("sd1", tmp_path / name, seed=seed)
    marks = [find(str(tmp_path / name)).fingerprint("unet") for name in "abc"]
    assert marks[0] == marks[1] != marks[2]


def _drawn(pipeline: StableDiffusionPipeline) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(PROMPT, num_inference_steps=2, guidance_scale=2.0, generator=generator, return_dict=False)
    return np.asarray(drawn[0][0]).astype(int)
