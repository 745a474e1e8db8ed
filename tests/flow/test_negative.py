"""A negative embedding from end to end: a word is built, taught bad pictures, and named as what to draw away from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

import bespoke
from bespoke.models import PICO, NewWords
from bespoke.pipeline.naming import named
from bespoke.sampling import Request, draw

SETTINGS = (
    "model.method=words", "words.file=words/words.safetensors", "words.learning_rate=0.02", "train.max_train_steps=50",
    "train.train_batch_size=4", "train.num_class_images=0", 'train.mixed_precision="no"', "validation.strata=2",
    "validation.validation_steps=50", "sample.sample_every_n_steps=0", "train.save_every_n_epochs=0",
    "track.mlflow=false", "track.tensorboard=false",
)  # fmt: skip
PROMPTS = ("a house", "a cup", "an emoji of a dog on a blue background")
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of what nobody wants: green noise with a green disc, each captioned with one unknown word."""
    folder, random = tmp_path_factory.mktemp("bad") / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(10):
        noise = random.integers(0, 90, (64, 64, 3))
        noise[..., 1] += 140
        picture = Image.fromarray(noise.astype(np.uint8))
        ImageDraw.Draw(picture).ellipse((10 + number, 12, 44, 40 + number), fill=(40, 250, 60))
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("badart", "utf-8")
    return folder


@pytest.fixture(scope="module")
def run(bad: Path) -> Path:
    """The run in which two rows of the word were trained, alone."""
    project = bad.parent / "project"
    bespoke.new(project, bad, overrides=("data.validation_fraction=0.2", "clean.set_aside=[]"))
    (project / "terms.toml").write_text('triggers = ["badart"]\n\n[rows]\nbadart = 2\n', "utf-8")
    made = bespoke.build_words(project / "dataset", overrides=("words.terms=terms.toml", "words.method=tournament"))
    assert [(word.surface, word.rows) for word in made.new.words] == [("badart", 2)]
    return Path(bespoke.train(project / "recipe.toml", SETTINGS).run)


@pytest.fixture(scope="module")
def away(bad: Path, run: Path) -> Any:
    """How far the drawn pictures' mean colours are from those of the bad ones, by what they are drawn from."""
    files = sorted(bad.glob("*.png"))
    wanted = np.mean([np.asarray(Image.open(file), dtype=float).mean(axis=(0, 1)) for file in files], axis=0)
    source = named(str(run))
    pipeline = source.pipeline(safety_checker=False)

    def measured(prompts: tuple[str, ...], negative: str) -> np.ndarray:
        more = {"num_inference_steps": 10, "guidance_scale": 3.0, "negative_prompt": negative}
        requests = [Request(prompt, seed) for prompt in prompts for seed in SEEDS]
        drawn = draw(pipeline, requests, source.settings.model_copy(update=more))
        means = np.stack([np.asarray(one.picture, dtype=float).mean(axis=(0, 1)) for one in drawn])
        return np.abs(means - wanted).mean(axis=1)

    return measured


@pytest.mark.slow
def test_named_in_the_negative_prompt_it_moves_pictures_away_from_the_bad_ones(away: Any) -> None:
    plain, pulled, itself = away(PROMPTS, ""), away(PROMPTS, "badart"), away(("badart",), "")
    assert itself.max() < 0.5 * plain.min(), "it has learnt what bad pictures are"
    assert (pulled > plain).mean() >= 5 / 6 and pulled.mean() > 1.1 * plain.mean(), (plain, pulled)


@pytest.mark.slow
def test_a_word_that_was_not_trained_does_not(away: Any) -> None:
    """The base reads it in pieces that say nothing: what moves pictures is what was learnt."""
    plain, pulled = away(PROMPTS, ""), away(PROMPTS, "badartistry")
    assert abs(pulled.mean() - plain.mean()) < 0.1 * plain.mean()


@pytest.mark.slow
def test_in_plain_diffusers_it_means_the_same_as_a_negative_prompt(run: Path, tmp_path: Path) -> None:
    """Through diffusers' own loader, which spreads the word over its two rows."""
    exported = bespoke.export_words(run, tmp_path / "out", "diffusers")
    theirs = StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32, local_files_only=True)
    for file in exported.files.values():
        theirs.load_textual_inversion(str(file.parent), weight_name=file.name)
    ours = named(str(run)).pipeline(safety_checker=False)
    learnt = NewWords.read(run / "words.safetensors").of_word("badart")
    assert torch.equal(theirs.text_encoder.get_input_embeddings().weight[-2:], learnt)
    negatives = [
        pipeline.encode_prompt("a house", "cpu", 1, True, word)[1]
        for pipeline, word in ((theirs, "<badart>"), (ours, "badart"))
    ]
    assert torch.equal(*negatives)
