"""New words' rows in training: they learn, all other rows stay, and what was learnt is kept, found again and drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import NewWords, Word, find, tuned
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.naming import named
from bespoke.pipeline.new import new
from bespoke.pipeline.train import resume
from bespoke.recipe import load
from bespoke.sampling import Request, draw
from bespoke.training.optim import optimizer_of

QUICK = (
    "train.max_train_steps=4", "train.train_batch_size=2", "train.num_class_images=0", "validation.strata=1",
    "validation.validation_steps=2", "sample.sample_every_n_steps=0", "sample.num_inference_steps=2",
    "train.checkpointing_steps=2", "train.save_every_n_epochs=0", "track.mlflow=false", "track.tensorboard=false",
    "words.learning_rate=0.01",
)  # fmt: skip
WAYS = {
    "lora": ("words.train=true",),
    "rows alone": ("model.method=words",),
    "full": ("model.method=full", "words.train=true"),
    "lora with the text encoder": ("words.train=true", "train.train_text_encoder=true"),
    "several rows": ("model.method=words", "words.file=several.safetensors"),
}
PROMPT = "a vulpenor on a red background"


@pytest.fixture(scope="module")
def project(tmp_path_factory, pictures) -> Path:
    """A project whose captions say vulpenor for every thing, and files of that word: with one row, and with three."""
    source = tmp_path_factory.mktemp("words") / "source"
    source.mkdir()
    for number, file in enumerate(sorted(pictures.glob("*.png"))[:8]):
        (source / f"{number}.png").write_bytes(file.read_bytes())
        (source / f"{number}.txt").write_text("8bit illustration of a vulpenor")
    root = source.parent / "project"
    new(root, str(source), overrides=("data.validation_fraction=0.25",))
    base, own = find("pico").base, find("pico").text_encoder().get_input_embeddings().weight
    start = own[200:203].clone()
    for name, rows in (("words", start[:1]), ("several", start)):
        NewWords.of(base, [(Word("vulpenor"), rows)]).save(root / f"{name}.safetensors")
    return root


@pytest.fixture(scope="module")
def runs(project) -> dict[str, Path]:
    """A run of each way to train them."""
    file = "words.file=words.safetensors"
    return {way: Path(bespoke.train(project / "recipe.toml", [*QUICK, file, *more]).run) for way, more in WAYS.items()}


def before(run: Path) -> NewWords:
    return NewWords.read(run / "begun" / FILE)


def home(run: Path, part: str = "") -> Path:
    return run / "last" if part else run / "model" if (run / "model").is_dir() else run


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_new_words_learn_and_are_found_by_the_runs_name(runs, way):
    run = runs[way]
    learnt = NewWords.read(home(run, "last") / FILE)
    assert learnt.words == before(run).words
    assert not torch.equal(learnt.rows["clip_l"], before(run).rows["clip_l"])
    for name in (f"{run}@last", f"{run}@step-4"):
        pipeline = named(name).pipeline(safety_checker=False)
        ids = pipeline.tokenizer(PROMPT).input_ids
        base = find("pico").tokenizer()
        count = 3 if way == "several rows" else 1
        assert sum(i >= len(base) for i in ids) == count
        table = pipeline.text_encoder.get_input_embeddings().weight
        assert torch.equal(table[len(base) :].float(), learnt.rows["clip_l"])


@pytest.mark.parametrize("way", WAYS)
def test_all_other_rows_stay_bit_for_bit(runs, way):
    table = find("pico").text_encoder().get_input_embeddings().weight
    pipeline = named(f"{runs[way]}@step-4").pipeline(safety_checker=False)
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[: len(table)], table)


@pytest.mark.parametrize("way", WAYS)
def test_weights_kept_and_state_draw_the_same(runs, way):
    def drawn(name):
        source = named(name)
        (one,) = draw(source.pipeline(safety_checker=False), [Request(PROMPT, 1)], source.settings)
        return np.asarray(one.picture)

    last, state = drawn(f"{runs[way]}@last"), drawn(f"{runs[way]}@step-4")
    assert np.abs(last.astype(int) - state).max() <= 1
    assert np.abs(last.astype(int) - drawn("pico")).max() > 1


def test_only_rows_are_trained_where_only_rows_were_asked_for(runs):
    kept = load_file(runs["rows alone"] / "state" / "step-000004" / "weights.safetensors")
    assert len(kept) == 1
    assert not (runs["rows alone"] / "adapter.safetensors").exists()
    result = json.loads((runs["rows alone"] / "result.json").read_text())
    assert result["steps"] == 4


def test_a_whole_model_knows_its_words_in_plain_diffusers(runs):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(runs["full"] / "model", safety_checker=None)
    learnt = NewWords.read(runs["full"] / "model" / FILE)
    (place,) = learnt.ids()["vulpenor"]
    assert place in pipeline.tokenizer(PROMPT).input_ids
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[place], learnt.rows["clip_l"][0])


def test_a_run_goes_on_with_the_words_it_began_with(project, runs, tmp_path):
    """Also when the file was made anew meanwhile; and the rest is what it would have been."""
    whole, run = runs["lora"], tmp_path / "p" / "runs" / "r"
    shutil.copytree(project, tmp_path / "p", ignore=shutil.ignore_patterns("runs"))
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("result.json", "step-000004", "last"))
    (tmp_path / "p" / "words.safetensors").unlink()
    done = resume(run)
    assert done.steps == 4
    ours, theirs = (load_file(r / "state" / "step-000004" / "weights.safetensors") for r in (run, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_untouched_rows_are_the_first_ones(project):
    recipe = load(project / "recipe.toml", ["words.train=true"])
    network = tuned(find("pico").with_words(project / "words.safetensors"), recipe)
    (rows,) = network.rows.values()
    first = rows.detach().clone()
    with torch.no_grad():
        rows.add_(1.0)
    with network.untouched():
        assert torch.equal(rows, first)
    assert torch.equal(rows, first + 1)


def test_rows_have_a_rate_of_their_own_and_no_decay(project):
    recipe = load(project / "recipe.toml", ["words.train=true", "train.learning_rate=0.002"])
    network = tuned(find("pico").with_words(project / "words.safetensors"), recipe)
    optimizer = optimizer_of(network.trainable(), recipe.train, 0.01)
    own = network.rows["clip_l"]
    (rows,) = [group for group in optimizer.param_groups if any(p is own for p in group["params"])]
    assert rows["weight_decay"] == 0 and rows["share"] == pytest.approx(5.0) and len(rows["params"]) == 1


def test_without_words_there_are_no_rows_to_train(project):
    with pytest.raises(BespokeError, match="no new words"):
        bespoke.train(project / "recipe.toml", [*QUICK, "words.train=true"])
    with pytest.raises(BespokeError, match="no words at"):
        bespoke.train(project / "recipe.toml", [*QUICK, "words.train=true", "words.file=none.safetensors"])
