"""A whole model tuned in two stages by the verbs a person uses: named, drawn with, loaded elsewhere, gone on from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.naming import named
from bespoke.pipeline.new import new
from bespoke.training import read
from bespoke.workspace import Run

SETTINGS = (
    'model.method="full"',
    "train.train_text_encoder=true",
    "train.train_batch_size=4",
    "train.num_class_images=0",
    "train.learning_rate=1e-4",
    "train.save_every_n_epochs=1",
    'train.mixed_precision="no"',
    "train.log_every=1",
    "validation.validation_steps=2",
    "validation.strata=2",
    "data.cache_latents=false",
    "sample.num_inference_steps=3",
    "sample.sample_every_n_steps=6",
)
STAGES = '\n[[stage]]\nnum_train_epochs = 2\n\n[[stage]]\nnum_train_epochs = 1\nlearning_rate = 1e-5\nstart = "best"\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    source = folder / "in"
    source.mkdir()
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
    made = new(folder / "project", source)
    made.recipe.write_text(made.recipe.read_text() + STAGES)
    return folder / "project"


@pytest.fixture(scope="module")
def trained(project: Path):
    return bespoke.train(project / "recipe.toml", SETTINGS)


def drawn(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    source = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": 3, "generator": source, "output_type": "np"}
    return pipeline("8bit illustration of thing 2", **options).images[0]


def test_it_ends_with_a_whole_model(trained):
    assert trained.adapter is None
    assert trained.model == Run(trained.run).model
    assert trained.steps == 6
    stages = [row for row in read(Run(trained.run).metrics) if row["event"] == "staged"]
    assert [(row["step"], row["stage"]) for row in stages] == [(4, 1)]


def test_its_model_draws_in_plain_diffusers_what_it_draws_here(trained):
    plain = StableDiffusionPipeline.from_pretrained(trained.model, safety_checker=None)
    ours = named(str(trained.run)).pipeline(safety_checker=False)
    base = find("pico").pipeline(safety_checker=False)
    one, other, before = drawn(plain), drawn(ours), drawn(base)
    assert np.array_equal(one, other)
    assert np.abs(one - before).max() > 1e-3


def test_every_weight_of_both_networks_moved_and_nothing_else(trained):
    base = find("pico").folder
    for part, file in (("unet", "diffusion_pytorch_model.safetensors"), ("text_encoder", "model.safetensors")):
        before, after = (load_file(root / part / file) for root in (base, trained.model))
        assert before.keys() == after.keys()
        same = [name for name in after if torch.equal(before[name].float(), after[name])]
        assert all("position_ids" in name for name in same), same
    for part in ("vae", "tokenizer", "scheduler"):
        files = [f for f in (base / part).iterdir() if f.is_file()]
        assert files
        assert all(f.read_bytes() == (trained.model / part / f.name).read_bytes() for f in files)


def test_states_and_epochs_have_names(trained):
    last, state = named(f"{trained.run}@last"), named(f"{trained.run}@step-6")
    assert np.array_equal(drawn(last.pipeline(safety_checker=False)), drawn(state.pipeline(safety_checker=False)))
    kept = [folder.name for folder in Run(trained.run).checkpoints()]
    assert kept == ["epoch-1", "epoch-2", "epoch-3"]
    one, other = (drawn(named(f"{trained.run}@{name}").pipeline(safety_checker=False)) for name in kept[:2])
    assert not np.array_equal(one, other)
    with pytest.raises(BespokeError, match="no epoch-9") as caught:
        named(f"{trained.run}@epoch-9")
    assert "There are: 1, 2, 3." in caught.value.hint
    with pytest.raises(BespokeError, match="no state step-1"):
        named(f"{trained.run}@step-1")
    with pytest.raises(BespokeError, match="has no 'first'"):
        named(f"{trained.run}@first")


def test_a_lora_begins_with_a_tuned_model_and_is_gone_on_with(project, trained):
    """A base may be a run: of a whole model, then of the adapter on it, whose weights are taken over."""
    lora = [s for s in SETTINGS if not s.startswith(("model.", "train.train_text", "train.save", "sample."))]
    lora.append("sample.sample_every_n_steps=0")
    run = Path(trained.run).relative_to(project)
    recipe = project / "lora.toml"
    recipe.write_text('[data]\npath = "dataset"\n')
    first = bespoke.train(recipe, (*lora, f'model.base="{run}@epoch-2"', "train.max_train_steps=2", "model.rank=2"))
    assert named(str(first.run)).checkpoint.trained == Run(trained.run).checkpoint(2)
    again = Path(first.run).relative_to(project)
    more = (*lora, f'model.base="{again}"', "train.max_train_steps=1", "train.learning_rate=1e-12")
    second = bespoke.train(recipe, (*more, "model.rank=2"))
    before, after = load_file(first.adapter), load_file(second.adapter)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in before)
    rows = [row for row in read(Run(second.run).metrics) if row["event"] == "validated"]
    assert rows[0]["log_ratio"] != 0.0  # held against the base without the adapter
    with pytest.raises(BespokeError, match="another shape") as caught:
        bespoke.train(recipe, (*more, "model.rank=4"))
    assert "[model]" in caught.value.hint and "train_text_encoder" in caught.value.hint
    with pytest.raises(BespokeError, match="all weights cannot be trained from there"):
        bespoke.train(recipe, (*more, 'model.method="full"'))


def test_on_the_command_line(project, trained):
    heard = CliRunner().invoke(app, ["train", "--resume", str(trained.run), "--json"])
    assert heard.exit_code == 0, heard.output
    content = json.loads(heard.stdout)
    assert content["adapter"] is None
    assert Path(content["model"]).name == "model"
    assert "finished before" in content["reason"]


def test_the_runs_page_shows_the_training_and_leads_to_the_model(trained):
    page = Run(trained.run).report.read_text("utf-8")
    assert 'href="../model"' in page and "adapter.safetensors" not in page
    assert "While training" in page and "<h3>Validation</h3>" in page and trained.reason[1:] in page
