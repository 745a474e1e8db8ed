"""Stable Diffusion 3, tiny and random: trained by flow matching, gone on with and loaded elsewhere."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_loss_weighting_for_sd3
from peft import LoraConfig
from pico import families
from PIL import Image

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.naming import named
from bespoke.recipe.tree import Sample
from bespoke.workspace import Project, Run
from tests.flow.tiny import BLOTS, BRIEF, again, by_diffusers, model_of, plain_of, project_of

QUICK = (
    *BRIEF, "train.max_train_steps=4", "train.learning_rate=0.02", "train.num_class_images=2",
    "sample.sample_every_n_steps=2",
)  # fmt: skip
PROMPT = "blot of a red cat"
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sd3", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    return project_of(base, tmp_path_factory, size=lambda number: (64, 64) if number % 2 else (80, 64))


@pytest.fixture(scope="module")
def run(project):
    return bespoke.train(project / "recipe.toml", QUICK)


def reference(trainer, checkpoint, count, scheme):
    """One step's loss and gradients after diffusers' train_dreambooth_lora_sd3.py, answers preconditioned or not."""
    pipeline, model = plain_of(checkpoint.folder), trainer.recipe.model
    parts = {name: getattr(pipeline, name) for name in trainer.network.trained}
    own = {}
    for part, network in parts.items():
        if model.method == "lora":
            ends = LAYERS if part == "transformer" else ["q_proj", "k_proj", "v_proj", "out_proj"]
            network.add_adapter(LoraConfig(r=model.rank, lora_alpha=model.alpha, target_modules=ends))
        named = network.requires_grad_(model.method != "lora").named_parameters()
        own |= {f"{part}.{name}": p for name, p in named if model.method != "lora" or "lora_" in name}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(trainer.parameters[name])
            parameter.requires_grad_(True)
    batch = trainer.stream.batch(0, count)
    ids = pipeline.tokenizer(BLOTS, padding="max_length", return_tensors="pt").input_ids
    encoded: Any = pipeline.encode_prompt(BLOTS, None, None, do_classifier_free_guidance=False)
    (states, _, pooled, _), transformer = encoded, pipeline.transformer
    if len(parts) > 1:
        rows = [next(n for n, one in enumerate(ids) if torch.equal(one, row[:77, 0].long())) for row in batch.texts]
    else:
        rows = [next(n for n, s in enumerate(states) if torch.allclose(s, row[:-1], atol=1e-5)) for row in batch.texts]
    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(checkpoint.scheduler_config)
    places = scheduler.config.num_train_timesteps - 1 - batch.times  # the scheduler counts from noise to picture
    timesteps, sigmas = scheduler.timesteps[places], scheduler.sigmas[places][:, None, None, None]
    noisy = (1.0 - sigmas) * batch.clean + sigmas * batch.noise
    network: Any = transformer.train()
    answer = network(
        hidden_states=noisy, timestep=timesteps, encoder_hidden_states=states[rows], pooled_projections=pooled[rows],
        return_dict=False,
    )[0]  # fmt: skip
    target = batch.noise - batch.clean
    if scheme == "picture":
        answer, target = answer * (-sigmas) + noisy, batch.clean
    weights = compute_loss_weighting_for_sd3("cosmap" if scheme == "cosmap" else "logit_normal", sigmas)
    loss = (weights.float() * (answer.float() - target.float()) ** 2).reshape(len(target), -1).mean(1).mean()
    loss.backward()
    return {name: p.grad for name, p in own.items()}, loss.item()


CASES = (
    ("lora", "none"),
    ("full", "none"),
    ("lora", "picture"),
    ("lora", "cosmap"),
    ("lora", "text"),
    ("full", "text"),
)


@pytest.mark.parametrize(("method", "scheme"), CASES)
def test_loss_and_gradients_are_those_of_plain_diffusers(project, base, tmp_path, method, scheme):
    from bespoke.pipeline.material import Encoder
    from bespoke.pipeline.prepare import prepare
    from bespoke.pipeline.processes import accelerator
    from bespoke.pipeline.reporting import silent
    from bespoke.pipeline.train import trainer_for
    from bespoke.training import objective
    from bespoke.training.step import losses, weighted

    settings = (
        *QUICK, f"model.method={method}", "train.num_class_images=0", "data.enable_bucket=false",
        "train.mixed_precision=no", "text.proportion_empty_prompts=0", "model.rank=4",
        "train.train_text_encoder=true" if scheme == "text" else f"train.flow_weighting={scheme}",
    )  # fmt: skip
    ready = prepare(project / "recipe.toml", settings)
    checkpoint = find(str(base))
    encoder = Encoder(Project(tmp_path / "p"), checkpoint, ready.recipe, silent)
    material = encoder.material(ready.dataset, project / "dataset")
    ours = trainer_for(Run(tmp_path / "run"), ready.recipe, named(str(base)), material, accelerator(ready.recipe.train))
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in ours.parameters.values() if method == "lora" else ():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=source))
    gradients, loss = reference(ours, checkpoint, 4, scheme)
    batch = ours.stream.batch(0, 4)
    ours.network.train()
    weighting = objective.weighting(ours.recipe.train)
    found = weighted(losses(ours.network, batch, ours.schedule), batch, ours.schedule, weighting).mean()
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-5)
    mine, theirs = (
        torch.cat([grads[name].flatten().double() for name in sorted(gradients) if gradients[name] is not None])
        for grads in ({name: p.grad for name, p in ours.parameters.items()}, gradients)
    )
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-5 and theirs.norm() > 0


def test_its_latents_are_those_of_its_pipeline(project, base, tmp_path):
    """Shifted, then scaled: what its autoencoder makes of a picture is what the network is shown."""
    from bespoke.pipeline.material import Encoder
    from bespoke.pipeline.prepare import prepare
    from bespoke.pipeline.reporting import silent
    from bespoke.training.batches import validation_batches

    ready = prepare(project / "recipe.toml", (*QUICK, "train.num_class_images=0", "data.enable_bucket=false"))
    material = Encoder(Project(tmp_path), find(str(base)), ready.recipe, silent).material(
        ready.dataset, project / "dataset"
    )
    schedule = bespoke_schedule(base)
    _, batch = next(iter(validation_batches(material, material.validation, 1, 0, schedule, 1)))
    vae = plain_of(base).vae
    name = next(p.file for p in ready.dataset.part("validation"))
    picture = Image.open(project / "dataset" / "train" / name).convert("RGB")
    edge = (picture.width - 64) // 2
    shown = torch.from_numpy(np.asarray(picture.crop((edge, 0, edge + 64, 64)), np.float32)) / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(shown.permute(2, 0, 1)[None]).latent_dist.mean
    wanted = (mean - vae.config.shift_factor) * vae.config.scaling_factor
    torch.testing.assert_close(batch.clean, wanted, rtol=1e-4, atol=1e-4)


def bespoke_schedule(base):
    from bespoke.diffusion import schedule_of

    return schedule_of(find(str(base)).scheduler_config)


def test_what_is_left_open_is_as_the_model_was_trained(project):
    from bespoke.pipeline.prepare import prepare

    ready = prepare(project / "recipe.toml", QUICK)
    assert ready.recipe.train.timestep_sampling == "logit_normal"
    assert "Stable Diffusion 3" in ready.reasons["train.timestep_sampling"]


def test_a_run_trains_draws_and_loads_in_plain_diffusers(base, run, tmp_path):
    assert run.steps == 4 and run.adapter is not None
    (picture,) = bespoke.sample(str(run.run), [PROMPT], out=tmp_path / "drawn", seed=3, settings=WISH).pictures
    pipeline = plain_of(base)
    bare = by_diffusers(pipeline)
    pipeline.load_lora_weights(run.adapter.parent, weight_name=run.adapter.name)
    tuned = by_diffusers(pipeline)
    ours = np.asarray(Image.open(picture).convert("RGB"), int)
    assert np.abs(ours - tuned).max() <= 1 < np.abs(ours - bare).max()
    assert (Path(run.run) / "samples" / "progress.png").is_file()


def test_clips_that_were_trained_too_load_in_plain_diffusers(base, project, tmp_path):
    trained = bespoke.train(project / "recipe.toml", (*QUICK, "train.train_text_encoder=true"))
    (picture,) = bespoke.sample(str(trained.run), [PROMPT], out=tmp_path / "drawn", seed=3, settings=WISH).pictures
    pipeline = plain_of(base)
    pipeline.load_lora_weights(trained.adapter.parent, weight_name=trained.adapter.name)
    assert all(getattr(pipeline, part).peft_config for part in ("transformer", "text_encoder", "text_encoder_2"))
    assert np.abs(np.asarray(Image.open(picture).convert("RGB"), int) - by_diffusers(pipeline)).max() <= 1


def test_training_lowers_the_stabilised_validation_loss(project):
    import json

    done = bespoke.train(
        project / "recipe.toml",
        (*QUICK, "train.max_train_steps=30", "validation.validation_steps=10", "sample.sample_every_n_steps=0",
         "train.num_class_images=0", "model.targets=[\"all-linear\"]", "train.learning_rate=0.005"),
    )  # fmt: skip
    lines = [json.loads(line) for line in (Path(done.run) / "metrics.jsonl").read_text().splitlines()]
    measured = [line["log_ratio"] for line in lines if line["event"] == "validated"]
    assert measured[-1] < -0.1 and measured == sorted(measured, reverse=True)


def test_what_is_stopped_goes_on_to_the_same_bits(run):
    whole, copied = Run(Path(run.run)), again(Path(run.run))
    assert (copied.last / "adapter.safetensors").read_bytes() == (whole.last / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["dora", "lokr", "full"])
def test_other_ways_to_fine_tune_work_too(project, base, method, tmp_path):
    trained = bespoke.train(
        project / "recipe.toml",
        (*QUICK, f"model.method={method}", "train.use_ema=true", "sample.sample_every_n_steps=0"),
    )
    tuned = bespoke.sample(str(trained.run), [PROMPT], out=tmp_path / "a", seed=3, settings=WISH).pictures[0]
    plain = bespoke.sample(str(base), [PROMPT], out=tmp_path / "b", seed=3, settings=WISH).pictures[0]
    ours, before = (np.asarray(Image.open(file).convert("RGB"), int) for file in (tuned, plain))
    assert (ours != before).any()
    if method == "full":
        assert trained.model is not None
        assert np.abs(by_diffusers(plain_of(trained.model)) - ours).max() <= 1


def test_models_are_merged_whole_or_by_block_and_a_lora_is_found_again_in_what_was_tuned(base, run, tmp_path):
    families.write("sd3", tmp_path / "other", seed=1)
    bespoke.merge_models(str(base), tmp_path / "half", add=str(tmp_path / "other"), weight=0.25, blocks="0.5, 1")
    half, first, second = (plain_of(folder) for folder in (tmp_path / "half", base, tmp_path / "other"))
    for part, key, much in (
        ("transformer", "pos_embed.proj.weight", 0.5), ("transformer", "transformer_blocks.0.attn.to_q.weight", 0.5),
        ("transformer", "transformer_blocks.1.attn.to_q.weight", 1.0), ("transformer", "proj_out.weight", 1.0),
        ("text_encoder_2", "text_projection.weight", 0.25),
    ):  # fmt: skip
        ours, a, b = (getattr(each, part).state_dict()[key] for each in (half, first, second))
        assert torch.allclose(ours, (1 - much) * a + much * b, atol=1e-6)
    bespoke.merge_models(str(run.run), tmp_path / "merged")
    found = bespoke.extract_lora(str(tmp_path / "merged"), tmp_path / "again.safetensors", base=str(base), rank=16)
    assert found.error < 1e-3 and found.outside == 0


@pytest.mark.parametrize(
    ("wish", "said"),
    [("train.rescale_betas_zero_snr=true", "flow matching")],
)
def test_what_means_nothing_to_it_is_refused_before_anything_is_done(project, wish, said):
    with pytest.raises(BespokeError, match=said):
        bespoke.train(project / "recipe.toml", (*QUICK, wish))


def test_flow_matching_s_weights_are_for_flow_matching(tmp_path):
    from bespoke.diffusion import Schedule
    from bespoke.recipe import parse
    from bespoke.training import objective

    with pytest.raises(BespokeError, match="flow_weighting"):
        objective.check(parse({"train": {"flow_weighting": "cosmap"}}, "it").train, Schedule.from_config({}))


def test_plans_know_its_network(project):
    plan = bespoke.plan(project / "recipe.toml", QUICK)
    assert plan.estimate.memory.peak > 0


@pytest.mark.parametrize("t5", [True, False])
def test_tokens_that_are_read_in_the_step_give_the_states_that_are_cached(base, tmp_path, t5):
    from bespoke.encoding import Rows, Stacked, spelling, text_encoder, tokens
    from bespoke.models import reading

    folder = base
    if not t5:
        folder = shutil.copytree(base, tmp_path / "without")
        for part in ("tokenizer_3", "text_encoder_3"):
            shutil.rmtree(folder / part)
    checkpoint, cpu = find(str(folder)), torch.device("cpu")
    captions = ["", "blot of a cat", "a (red:1.4) cat", "a red cat, " * 60]
    width, readers = checkpoint.joint_width, checkpoint.readers()
    wanted = text_encoder(readers, cpu, joint=width)(captions)
    rows = Rows([row[0].numpy() for row in tokens(checkpoint.tokenizers(), captions, opening=True)])
    if t5:
        spelled = spelling(*readers[2], cpu)
        rows = Stacked(rows, Rows([spelled(caption).numpy() for caption in captions]))
    together = rows[list(range(len(captions)))]
    assert rows.shape(1) == tuple(together.shape[1:]) and len(rows) == len(captions)
    with torch.no_grad():
        found = reading.joint_states([encoder for _, encoder in readers[:2]], together, width)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found[1] != found[2]).any()


def test_text_encoders_that_a_gpu_cannot_hold_read_on_the_processor():
    from bespoke.pipeline.material import roomy

    gpu, processor, gb = torch.device("cuda"), torch.device("cpu"), 2**30
    assert roomy(gpu, 21 * gb, 23 * gb) == gpu and roomy(gpu, 21 * gb, 12 * gb) == processor
    assert roomy(processor, 21 * gb, 0) == processor
