"""SDXL's two text encoders, tiny and random: trained, gone on with, loaded elsewhere, and taught new words."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.naming import named
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.processes import accelerator
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.train import trainer_for
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.training.step import losses
from bespoke.workspace import Project, Run
from tests.flow.tiny import BRIEF, again, by_diffusers, model_of, plain_of, project_of

QUICK = (
    *BRIEF, "train.max_train_steps=4", "train.learning_rate=0.02", "train.num_class_images=0",
    "sample.sample_every_n_steps=0", "model.rank=4", "words.learning_rate=0.05",
)  # fmt: skip
TEXT = "train.train_text_encoder=true"
PROMPT = "blot of a red cat"
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)
ATTENTION = {"unet": ["to_q", "to_k", "to_v", "to_out.0"], "text": ["q_proj", "k_proj", "v_proj", "out_proj"]}
NETWORKS = ("unet", "text_encoder", "text_encoder_2")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sdxl", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    return project_of(base, tmp_path_factory)


@pytest.fixture(scope="module")
def run(project):
    return bespoke.train(project / "recipe.toml", (*QUICK, TEXT, "sample.sample_every_n_steps=2"))


def drawn(model, prompt=PROMPT, **more):
    (one,) = draw(named(str(model)).pipeline(), [Request(prompt, 3)], WISH.model_copy(update=more))
    return np.asarray(one.picture, int)


def trainer(project, base, root, *settings):
    settings = (*QUICK, "data.enable_bucket=false", "train.mixed_precision=no", TEXT, *settings)
    ready = prepare(project / "recipe.toml", settings)
    material = Encoder(Project(root / "p"), ready.start.checkpoint, ready.recipe, silent).material(
        ready.dataset, project / "dataset"
    )
    return trainer_for(Run(root / "run"), ready.recipe, ready.start, material, accelerator(ready.recipe.train))


# --- a step ---


def reference(ours, checkpoint, count):
    """One step's loss and gradients after diffusers' train_dreambooth_lora_sdxl.py --train_text_encoder."""
    model, networks, own = ours.recipe.model, {}, {}
    for name in NETWORKS:
        part = copy.deepcopy(checkpoint.network(name))
        if model.method == "lora":
            ends = ATTENTION[name.partition("_")[0]]
            part.add_adapter(LoraConfig(r=model.rank, lora_alpha=model.alpha, target_modules=ends))
        else:
            part.requires_grad_(True)
        networks[name] = part.train()
        own |= {f"{name}.{key}": p for key, p in part.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in ours.network.named_parameters():
            if name in own:
                own[name].copy_(parameter)
    batch = ours.stream.batch(0, count)
    said = [captions(row) for row in batch.texts]
    states = []
    for (_, encoder), (tokenizer, name) in zip(
        checkpoint.reading, zip(checkpoint.tokenizers(), NETWORKS[1:], strict=True), strict=True
    ):
        assert encoder == name
        ids = tokenizer(said, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        found = networks[name](ids, output_hidden_states=True, return_dict=False)
        pooled = found[0]
        states.append(found[-1][-2])
    there = torch.tensor([bool(text) for text in said])
    texts = torch.cat(states, dim=-1) * there[:, None, None]
    scheduler = DDPMScheduler.from_config(checkpoint.scheduler_config)
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.times)
    told = {"text_embeds": pooled * there[:, None], "time_ids": batch.sizes}
    answer = networks["unet"](noisy, batch.times, texts, added_cond_kwargs=told, return_dict=False)[0]
    loss = F.mse_loss(answer.float(), batch.noise.float(), reduction="mean")
    loss.backward()
    return {name: p.grad for name, p in own.items() if p.grad is not None}, loss.item(), said


def captions(row):
    """The caption of a row of tokens; none where it is left out."""
    tokenizer = find("pico").tokenizer()
    ids = row[:, 0].long().tolist()
    return "" if ids[0] < 0 else tokenizer.decode(ids, skip_special_tokens=True).strip()


@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_loss_and_gradients_of_all_three_networks_are_those_of_plain_diffusers(
    project, base, tmp_path, method, checkpointing
):
    ours = trainer(
        project, base, tmp_path, f"model.method={method}", "text.proportion_empty_prompts=0.4",
        f"train.gradient_checkpointing={checkpointing}",
    )  # fmt: skip
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in ours.parameters.values() if method == "lora" else ():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=source))
    gradients, loss, said = reference(ours, find(str(base)), 6)
    assert "" in said and len({*said}) > 2
    batch = ours.stream.batch(0, 6)
    ours.network.train()
    found = losses(ours.network, batch, ours.schedule).mean()
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == ours.parameters.keys()
    for part in NETWORKS:
        mine, theirs = (
            torch.cat([g.flatten().double() for name, g in sorted(grads.items()) if name.startswith(f"{part}.")])
            for grads in ({name: p.grad for name, p in ours.parameters.items()}, gradients)
        )
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-5 and theirs.norm() > 0


def test_weights_of_captions_count_in_the_step_as_in_cached_states(project, base, tmp_path, tmp_path_factory):
    captions = [f"blot of a (red {number}:1.4){', and a long tail' * 30}" for number in range(8)]
    weighted = project_of(base, tmp_path_factory, captions)
    ours = trainer(weighted, base, tmp_path, "text.proportion_empty_prompts=0.3")
    settings = (*QUICK, "data.enable_bucket=false", "train.mixed_precision=no", "text.proportion_empty_prompts=0.3")
    ready = prepare(weighted / "recipe.toml", settings)
    cached = Encoder(Project(tmp_path / "p"), ready.start.checkpoint, ready.recipe, silent).material(
        ready.dataset, weighted / "dataset"
    )
    theirs = trainer_for(Run(tmp_path / "other"), ready.recipe, ready.start, cached, accelerator(ready.recipe.train))
    batches = [each.stream.batch(0, 6) for each in (ours, theirs)]
    assert batches[0].texts.shape[-1] == 5 and torch.equal(batches[0].noise, batches[1].noise)
    with torch.no_grad():
        found, wanted = (
            losses(each.network.eval(), b, each.schedule) for each, b in zip((ours, theirs), batches, strict=True)
        )
    assert torch.allclose(found, wanted, rtol=1e-5)


# --- a run ---


def test_a_run_of_all_three_draws_and_loads_in_plain_diffusers(base, run, tmp_path):
    assert run.steps == 4 and run.adapter is not None
    content = load_file(run.adapter)
    assert {key.partition(".")[0] for key in content} == {*NETWORKS}
    learnt = [key for key in content if key.startswith("text_encoder_2.") and ("up" in key or "lora_B" in key)]
    assert learnt and all(content[key].any() for key in learnt)
    pipeline = plain_of(base)
    bare = by_diffusers(pipeline)
    pipeline.load_lora_weights(run.adapter.parent, weight_name=run.adapter.name)
    tuned = by_diffusers(pipeline)
    assert np.abs(drawn(run.run) - tuned).max() <= 1 < np.abs(tuned - bare).max()
    assert np.abs(drawn(f"{run.run}@step-4") - drawn(f"{run.run}@last")).max() <= 1
    pipeline.unload_lora_weights()
    save_file({key: value for key, value in content.items() if key.startswith("unet.")}, tmp_path / "unet.safetensors")
    pipeline.load_lora_weights(tmp_path, weight_name="unet.safetensors")
    assert np.abs(by_diffusers(pipeline) - tuned).max() > 1
    assert (Path(run.run) / "samples" / "progress.png").is_file()


def test_what_is_stopped_goes_on_to_the_same_bits(run):
    whole, copied = Run(Path(run.run)), again(Path(run.run))
    assert (copied.last / "adapter.safetensors").read_bytes() == (whole.last / "adapter.safetensors").read_bytes()
    ours, theirs = (load_file(each.state(4) / "weights.safetensors") for each in (copied, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_lowers_the_stabilised_loss(project):
    made = bespoke.train(
        project / "recipe.toml",
        (*QUICK, TEXT, "train.max_train_steps=60", "train.learning_rate=0.003", "validation.validation_steps=20",
         "train.checkpointing_steps=30", "train.train_batch_size=4", "validation.strata=4"),
    )  # fmt: skip
    lines = [json.loads(line) for line in (Path(made.run) / "metrics.jsonl").read_text().splitlines()]
    found = [line["log_ratio"] for line in lines if "log_ratio" in line]
    assert min(found) < -0.02


@pytest.mark.parametrize("method", ["dora", "lokr", "full"])
def test_other_ways_to_fine_tune_work_too(project, base, method):
    made = bespoke.train(project / "recipe.toml", (*QUICK, TEXT, f"model.method={method}"))
    tuned = drawn(made.run)
    assert np.abs(tuned - drawn(base)).max() > 1
    assert np.abs(drawn(f"{made.run}@step-4") - drawn(f"{made.run}@last")).max() <= 1
    if method == "full":
        assert made.model is not None
        whole, before = (plain_of(folder) for folder in (made.model, base))
        assert np.abs(by_diffusers(whole) - tuned).max() <= 1
        for name in NETWORKS:
            own, theirs = (getattr(each, name).state_dict() for each in (whole, before))
            assert any(not torch.equal(own[key], theirs[key]) for key in own)


def test_the_text_encoders_have_a_rate_of_their_own(project, base, tmp_path):
    ours = trainer(project, base, tmp_path, "train.text_encoder_learning_rate=0.01")
    groups = ours.optimizer.optimizer.param_groups
    assert sorted(round(group["share"], 3) for group in groups) == [0.5, 0.5, 1.0]


def test_a_run_is_merged_extracted_exported_and_gone_on_from(project, base, run, tmp_path):
    bespoke.merge_models(str(run.run), tmp_path / "merged")
    merged = plain_of(tmp_path / "merged")
    assert np.abs(by_diffusers(merged) - drawn(run.run)).max() <= 1
    found = bespoke.extract_lora(str(tmp_path / "merged"), tmp_path / "again.safetensors", base=str(base), rank=16)
    assert found.error < 1e-3 and found.outside == 0
    assert {name.partition(".")[0] for name in found.errors} == {*NETWORKS}
    pipeline = plain_of(base)
    pipeline.load_lora_weights(tmp_path, weight_name="again.safetensors")
    assert np.abs(by_diffusers(pipeline) - by_diffusers(merged)).max() <= 1
    for form, out in (("diffusers", "d.safetensors"), ("model", "m")):
        assert bespoke.export_model(str(run.run), tmp_path / out, form).likeness.mean <= 0.5
    on = bespoke.train(project / "recipe.toml", (*QUICK, TEXT, f'model.base="{run.run}"', "train.learning_rate=1e-9"))
    assert np.abs(drawn(on.run) - drawn(run.run)).max() <= 1


def test_a_lora_of_another_program_on_both_is_begun_from(project, base, tmp_path):
    other = plain_of(base)
    layers = {}
    for name in NETWORKS:
        part, ends = getattr(other, name), ATTENTION[name.partition("_")[0]]
        part.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=ends, init_lora_weights="gaussian"))
        found, source = get_peft_model_state_dict(part), torch.Generator().manual_seed(1)
        layers[f"{name}_lora_layers"] = {k: 0.2 * torch.randn(v.shape, generator=source) for k, v in found.items()}
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, weight_name="theirs.safetensors", **layers)
    file = f'model.adapter_file="{tmp_path / "theirs.safetensors"}"'
    made = bespoke.train(project / "recipe.toml", (*QUICK, TEXT, file, "model.alpha=4", "train.learning_rate=1e-9"))
    plain = plain_of(base)
    plain.load_lora_weights(tmp_path, weight_name="theirs.safetensors")
    assert np.abs(drawn(made.run) - by_diffusers(plain)).max() <= 1
    with pytest.raises(BespokeError, match="text_encoder") as told:
        bespoke.train(project / "recipe.toml", (*QUICK, file))
    assert "train_text_encoder" in told.value.hint


def test_plans_know_both_text_encoders(project):
    alone, both = (bespoke.plan(project / "recipe.toml", (*QUICK, *more)) for more in ((), (TEXT,)))
    assert both.estimate.memory.peak > alone.estimate.memory.peak
    assert both.estimate.memory.frozen > alone.estimate.memory.frozen
