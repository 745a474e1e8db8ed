"""Stable Diffusion 2.x, tiny and random, which predicts v: trained, gone on with, exported, by the code for pico."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionPipeline
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file

import bespoke
from bespoke.models import NewWords, Word, find
from bespoke.models.formats import write_inversions
from bespoke.models.passport import passport
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.processes import accelerator
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.train import trainer_for
from bespoke.recipe.tree import Sample
from bespoke.training.step import losses
from bespoke.workspace import Project, Run
from tests.flow.spoken import VULPENORS, words_of
from tests.flow.tiny import BLOTS, BRIEF, again, by_diffusers, model_of, plain_of, project_of

QUICK = (
    *BRIEF, "train.max_train_steps=4", "train.learning_rate=0.02", "train.num_class_images=0",
    "sample.sample_every_n_steps=0", "model.rank=4", "validation.probe=false",
)  # fmt: skip
TEXT = "train.train_text_encoder=true"
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sd2v", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    return project_of(base, tmp_path_factory)


@pytest.fixture(scope="module")
def run(project):
    return bespoke.train(project / "recipe.toml", (*QUICK, TEXT))


def drawn(model, out, prompt="blot of a red cat"):
    (picture,) = bespoke.sample(str(model), [prompt], out=out, seed=3, settings=WISH).pictures
    return np.asarray(Image.open(picture).convert("RGB"), int)


# --- a step ---


def trainer(project, base, folder, *settings):
    more = ("train.mixed_precision=no", "text.proportion_empty_prompts=0", *settings)
    ready = prepare(project / "recipe.toml", (*QUICK, *more))
    material = Encoder(Project(folder / "p"), ready.start.checkpoint, ready.recipe, silent).material(
        ready.dataset, project / "dataset"
    )
    return trainer_for(Run(folder / "run"), ready.recipe, ready.start, material, accelerator(ready.recipe.train))


def reference(trainer, base, batch, parts):
    """One step's loss and gradients after diffusers' train_text_to_image.py, and its LoRA's, for models of v."""
    model = trainer.recipe.model
    targets = {"unet": ["to_q", "to_k", "to_v", "to_out.0"], "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"]}
    pipeline, own = plain_of(base), {}
    for part in ("unet", "text_encoder"):
        network = getattr(pipeline, part).train()
        network.requires_grad_(part in parts and model.method == "full")
        if part in parts and model.method == "lora":
            network.add_adapter(LoraConfig(r=model.rank, lora_alpha=model.alpha, target_modules=targets[part]))
        own |= {f"{part}.{name}": one for name, one in network.named_parameters() if one.requires_grad}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(trainer.parameters[name])
    ids = pipeline.tokenizer(BLOTS, padding="max_length", max_length=77, return_tensors="pt").input_ids
    states = pipeline.text_encoder(ids)[0]
    rows = []
    for row in batch.texts:  # of a trained text encoder they are tokens, with their weights
        found = [torch.equal(row[:, 0].long(), one) for one in ids] if "text_encoder" in parts else [
            torch.allclose(one, row, atol=1e-5) for one in states
        ]  # fmt: skip
        rows.append(found.index(True))
    scheduler = DDPMScheduler.from_config(find(str(base)).scheduler_config)
    assert scheduler.config.prediction_type == "v_prediction"
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.times)
    answer = pipeline.unet(noisy, batch.times, states[rows], return_dict=False)[0]
    loss = F.mse_loss(answer, scheduler.get_velocity(batch.clean, batch.noise, batch.times))
    loss.backward()
    return {name: one.grad for name, one in own.items() if one.grad is not None}, loss.item()


@pytest.mark.parametrize("parts", [("unet",), ("unet", "text_encoder")], ids=["unet", "both"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_loss_and_gradients_are_those_of_plain_diffusers(project, base, tmp_path, method, parts):
    more = (f"model.method={method}", *([TEXT] if len(parts) > 1 else []))
    ours = trainer(project, base, tmp_path, *more)
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in ours.parameters.values() if method == "lora" else ():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=source))
    batch = ours.stream.batch(0, 4)
    gradients, loss = reference(ours, base, copy.deepcopy(batch), parts)
    ours.network.train()
    found = losses(ours.network, batch, ours.schedule).mean()
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == {name for name, one in ours.parameters.items() if one.grad is not None}
    for part in parts:
        mine, theirs = (
            torch.cat([one.flatten().double() for name, one in sorted(grads.items()) if name.startswith(f"{part}.")])
            for grads in ({name: p.grad for name, p in ours.parameters.items() if p.grad is not None}, gradients)
        )
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-5 and theirs.norm() > 0


# --- a run ---


def test_a_run_of_both_draws_and_loads_in_plain_diffusers(base, run, tmp_path):
    pipeline = plain_of(base)
    bare = by_diffusers(pipeline)
    pipeline.load_lora_weights(run.adapter.parent, weight_name=run.adapter.name)
    tuned = by_diffusers(pipeline)
    assert np.abs(drawn(run.run, tmp_path) - tuned).max() <= 1 < np.abs(tuned - bare).max()
    assert {key.partition(".")[0] for key in load_file(run.adapter)} == {"unet", "text_encoder"}


def test_what_is_stopped_goes_on_to_the_same_bits(run):
    whole, copied = Run(Path(run.run)), again(Path(run.run))
    assert (copied.last / "adapter.safetensors").read_bytes() == (whole.last / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["dora", "lokr", "full"])
def test_other_ways_to_fine_tune_work_too(project, base, method, tmp_path):
    trained = bespoke.train(project / "recipe.toml", (*QUICK, f"model.method={method}", "train.use_ema=true"))
    ours = drawn(trained.run, tmp_path / "a")
    assert (ours != drawn(base, tmp_path / "b")).any()
    if method == "full":
        assert np.abs(by_diffusers(plain_of(trained.model)) - ours).max() <= 1


def test_training_lowers_the_stabilised_loss(project):
    made = bespoke.train(
        project / "recipe.toml",
        (*QUICK, "train.max_train_steps=60", "train.learning_rate=0.003", "validation.validation_steps=20",
         "train.checkpointing_steps=30", "train.train_batch_size=4", "validation.strata=4"),
    )  # fmt: skip
    lines = [json.loads(line) for line in (Path(made.run) / "metrics.jsonl").read_text().splitlines()]
    assert min(line["log_ratio"] for line in lines if "log_ratio" in line) < -0.01


@pytest.mark.parametrize("form", ["kohya", "comfyui", "diffusers", "model"])
def test_exports_are_loaded_again_and_draw_the_same(run, form, tmp_path):
    out = tmp_path / ("out" if form == "model" else "out.safetensors")
    done = bespoke.export_model(str(run.run), out, form)
    assert done.likeness.mean <= 0.5 and (done.likeness.effect > 0.5 or form == "model")
    if form == "kohya":
        assert (done.metadata["ss_v2"], done.metadata["modelspec.prediction_type"]) == ("True", "v")
        assert passport(out).what == "LoRA"
    if form == "model":
        assert np.abs(by_diffusers(plain_of(out)) - drawn(run.run, tmp_path / "drawn")).max() <= 1


def test_one_file_is_read_by_plain_diffusers_and_comes_in_again(run, base, tmp_path):
    """The published files lack the text encoder's last layer, which no program uses; see tests/models."""
    done = bespoke.export_model(str(run.run), tmp_path / "one.safetensors", "single-file")
    bespoke.export_model(str(run.run), tmp_path / "whole", "model")
    wanted = by_diffusers(plain_of(tmp_path / "whole"))
    alone = {"config": str(base), "local_files_only": True, "torch_dtype": torch.float32, "safety_checker": None}
    theirs = StableDiffusionPipeline.from_single_file(str(done.path), **alone)
    theirs.set_progress_bar_config(disable=True)
    assert np.abs(by_diffusers(theirs) - wanted).max() <= 1
    bespoke.import_model(done.path, tmp_path / "back", config=base)
    assert find(str(tmp_path / "back")).scheduler_config["prediction_type"] == "v_prediction"
    assert np.abs(by_diffusers(plain_of(tmp_path / "back")) - wanted).max() <= 1


@pytest.mark.parametrize("way", [("model.method=words",), ("words.train=true", TEXT)], ids=["rows", "lora"])
def test_rows_of_new_words_learn_and_diffusers_draws_the_same(base, way, tmp_path, tmp_path_factory):
    root = project_of(base, tmp_path_factory, VULPENORS)
    words_of(base, (Word("vulpenor"), 2)).save(root / FILE)
    more = ("words.file=words.safetensors", "words.learning_rate=0.05", "validation.strata=1")
    run = Path(bespoke.train(root / "recipe.toml", (*QUICK, *more, *way)).run)
    learnt = NewWords.read(run / FILE)
    assert not torch.equal(*(one.rows["clip_l"] for one in (learnt, NewWords.read(run / "begun" / FILE))))
    plain = plain_of(base)
    if "words" not in way[0].partition("=")[2]:
        plain.load_lora_weights(run, weight_name="adapter.safetensors")
    (file,) = write_inversions(learnt, tmp_path, "diffusers").values()
    plain.load_textual_inversion(str(file), token="<vulpenor>")
    theirs = by_diffusers(plain, "a <vulpenor> on a hill")
    ours = drawn(run, tmp_path / "drawn", "a vulpenor on a hill")
    assert np.abs(ours - theirs).max() <= 1 < np.abs(ours - drawn(base, tmp_path / "b", "a vulpenor on a hill")).max()


def test_plans_know_its_network(project):
    assert bespoke.plan(project / "recipe.toml", (*QUICK, TEXT)).estimate.memory.peak > 0
