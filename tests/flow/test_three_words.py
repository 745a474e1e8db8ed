"""New words in T5 of Stable Diffusion 3, tiny and random: trained, drawn, kept, built, given to other programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

import bespoke
from bespoke.encoding import Rows, Stacked, spelt_tokens, text_encoder, tokens
from bespoke.models import NewWords, find, reading, tuned
from bespoke.models.bases import ENCODERS, T5
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.naming import named
from bespoke.recipe import load
from bespoke.training.optim import optimizer_of
from bespoke.workspace import Project, Run
from tests.flow.spoken import PARTS, PROMPT, VULPENORS, by_hand, drawn, extended_by_hand, spoken_project
from tests.flow.tiny import again, by_diffusers, model_of, plain_of

QUICK = ("train.max_train_steps=4", "train.learning_rate=0.02", "train.lr_warmup_steps=0", "train.num_class_images=0",
         "sample.num_inference_steps=2", "sample.sample_every_n_steps=0", "validation.strata=1", "model.rank=4",
         "validation.validation_steps=2", "train.train_batch_size=2", "train.checkpointing_steps=2",
         "track.mlflow=false", "track.tensorboard=false", "words.learning_rate=0.05", "validation.probe=false",
         "words.file=words.safetensors", "words.t5=true")  # fmt: skip
WAYS = {
    "rows alone": ("model.method=words", "sample.sample_every_n_steps=4"),
    "lora": ("words.train=true", "train.gradient_checkpointing=true"),
    "lora of all": ("words.train=true", "train.train_text_encoder=true"),
    "full": ("words.train=true", "model.method=full"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sd3", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    return spoken_project(base, tmp_path_factory)


@pytest.fixture(scope="module")
def runs(project) -> dict[str, Path]:
    return {way: Path(bespoke.train(project / "recipe.toml", [*QUICK, *more]).run) for way, more in WAYS.items()}


# --- training ---


def trainer_of(project, base, folder, *settings):
    from bespoke.pipeline.material import Encoder
    from bespoke.pipeline.prepare import prepare
    from bespoke.pipeline.processes import accelerator
    from bespoke.pipeline.reporting import silent
    from bespoke.pipeline.train import trainer_for

    ready = prepare(project / "recipe.toml", (*QUICK, *settings))
    encoder = Encoder(Project(folder / "p"), ready.start.checkpoint, ready.recipe, silent)
    material = encoder.material(ready.dataset, project / "dataset")
    return trainer_for(Run(folder / "run"), ready.recipe, ready.start, material, accelerator(ready.recipe.train))


def reference(ours, base, rows, count):
    """One step's loss and the gradients of rows, with plain diffusers and transformers."""
    pipeline = plain_of(base)
    tables = extended_by_hand(pipeline, "vulpenor", rows)
    batch, checkpoint = ours.stream.batch(0, count), find(str(base))
    captions = sorted({*VULPENORS})
    ids = [ours.stream.material.texts[[number]] for number in range(3)]  # "", then the captions in order
    which = [next(n for n, one in enumerate(ids) if torch.equal(one[0], row)) for row in batch.texts]
    prompts = [by_hand(["", *captions][number]) for number in which]
    encoded: Any = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
    states, _, pooled, _ = encoded
    scheduler: Any = FlowMatchEulerDiscreteScheduler.from_config(checkpoint.scheduler_config)
    places = scheduler.config.num_train_timesteps - 1 - batch.times
    timesteps, sigmas = scheduler.timesteps[places], scheduler.sigmas[places][:, None, None, None]
    answer = pipeline.transformer(
        hidden_states=(1.0 - sigmas) * batch.clean + sigmas * batch.noise, timestep=timesteps,
        encoder_hidden_states=states, pooled_projections=pooled, return_dict=False,
    )[0]  # fmt: skip
    loss = ((answer - (batch.noise - batch.clean)) ** 2).reshape(len(answer), -1).mean(1).mean()
    loss.backward()
    sizes = {name: len(getattr(pipeline, PARTS[name].replace("text_encoder", "tokenizer"))) for name in tables}
    return {name: table.weight.grad[sizes[name] - 2 : sizes[name]] for name, table in tables.items()}, loss.item()


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_loss_and_gradients_of_rows_are_those_of_plain_diffusers_and_transformers(
    project, base, tmp_path, checkpointing
):
    from bespoke.training import objective
    from bespoke.training.step import losses, weighted

    ours = trainer_of(
        project, base, tmp_path, "model.method=words", "train.mixed_precision=no",
        f"train.gradient_checkpointing={checkpointing}",
    )  # fmt: skip
    rows = NewWords.read(project / FILE).rows
    assert {*ours.network.rows} == {*rows} == {*PARTS}
    gradients, loss = reference(ours, base, rows, 4)
    batch = ours.stream.batch(0, 4)
    ours.network.train()
    weighting = objective.weighting(ours.recipe.train)
    found = weighted(losses(ours.network, batch, ours.schedule), batch, ours.schedule, weighting).mean()
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-5)
    for name, own in ours.network.rows.items():
        assert float((own.grad - gradients[name]).norm() / gradients[name].norm()) < 1e-5, name
        assert gradients[name].norm() > 0
    assert {name.partition(".")[0] for name, p in ours.network.named_parameters() if p.grad is not None} == {*ENCODERS}


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_all_three_learn_all_others_stay_and_diffusers_draws_the_same(base, runs, way):
    run = runs[way]
    home = run / "model" if way == "full" else run
    begun, learnt = NewWords.read(run / "begun" / FILE), NewWords.read(home / FILE)
    assert begun.words == learnt.words and {*begun.rows} == {*learnt.rows} == {*PARTS}
    assert not any(torch.equal(begun.rows[name], learnt.rows[name]) for name in PARTS)
    before, pipeline = find(str(base)), named(f"{run}@step-4").pipeline()
    for name, part in PARTS.items():
        own, size = before.network(part).get_input_embeddings().weight, begun.base.readers[name].size
        assert torch.equal(getattr(pipeline, part).get_input_embeddings().weight[:size], own[:size])
    for name, value in before.network("text_encoder_3").state_dict().items():
        if "shared" not in name and "embed_tokens" not in name:
            assert torch.equal(pipeline.text_encoder_3.state_dict()[name], value)
    ours = drawn(run)
    plain = plain_of(home if way == "full" else base)
    if way != "full":
        if way != "rows alone":
            plain.load_lora_weights(run, weight_name="adapter.safetensors")
        extended_by_hand(plain, "vulpenor", learnt.rows)
    theirs = by_diffusers(plain, by_hand(PROMPT))
    assert np.abs(ours - theirs).max() <= 1 < np.abs(ours - drawn(base)).max()
    assert np.abs(drawn(f"{run}@step-4") - drawn(f"{run}@last")).max() <= 1


def test_what_is_stopped_goes_on_to_the_same_bits(runs):
    whole = Run(runs["lora of all"])
    copied = again(whole.root)
    for file in (FILE, "adapter.safetensors"):
        assert (copied.last / file).read_bytes() == (whole.last / file).read_bytes()


def test_rows_that_are_not_asked_for_stay_to_the_last_bit_and_are_drawn_with(base, project, runs):
    """Without words.t5 T5's states are read from the cache, by the rows that it has."""
    settings = (*QUICK, "words.t5=false", "words.train=true")
    run = Path(bespoke.train(project / "recipe.toml", settings).run)
    begun, learnt = NewWords.read(run / "begun" / FILE), NewWords.read(run / FILE)
    assert torch.equal(begun.rows[T5], learnt.rows[T5]) and not torch.equal(begun.rows["clip_l"], learnt.rows["clip_l"])
    plain = plain_of(base)
    plain.load_lora_weights(run, weight_name="adapter.safetensors")
    extended_by_hand(plain, "vulpenor", learnt.rows)
    assert np.abs(drawn(run) - by_diffusers(plain, by_hand(PROMPT))).max() <= 1


def test_pictures_drawn_while_rows_are_trained_have_the_rows_as_they_are(runs):
    run = runs["rows alone"]
    first, last = (sorted((run / "samples" / "progress" / f"step-00000{n}").glob("*.png")) for n in (0, 4))
    apart = [
        np.abs(np.asarray(Image.open(a), int) - np.asarray(Image.open(b), int)).max()
        for a, b in zip(first, last, strict=True)
    ]
    assert apart and max(apart) > 1


def test_untouched_and_rates_are_those_of_all_three(base, project):
    recipe = load(project / "recipe.toml", [*QUICK, "words.train=true", "train.learning_rate=0.002"])
    network = tuned(find(str(base)).with_words(project / FILE), recipe)
    rows = network.rows
    first = {name: own.detach().clone() for name, own in rows.items()}
    with torch.no_grad():
        for own in rows.values():
            own.add_(1.0)
    with network.untouched():
        assert all(torch.equal(rows[name], first[name]) for name in PARTS)
    assert all(torch.equal(rows[name], first[name] + 1) for name in PARTS)
    groups = optimizer_of(network.trainable(), recipe.train, 0.01).param_groups
    (own,) = [group for group in groups if group["weight_decay"] == 0]
    assert len(own["params"]) == 3 and own["share"] == pytest.approx(5.0)


def test_tokens_that_are_read_in_the_step_give_the_states_that_are_cached(base, project):
    checkpoint, cpu = find(str(base)).with_words(project / FILE), torch.device("cpu")
    captions = ["", "a vulpenor", "a (Vulpenor:1.4) on a hill", "a vulpenor, " * 60]
    readers, width = checkpoint.readers(), checkpoint.joint_width
    above = Rows([row[0].numpy() for row in tokens(checkpoint.tokenizers(), captions, opening=True)])
    below = Rows([row[0].numpy() for row in spelt_tokens(readers[2][0], captions)])
    with torch.no_grad():
        found = reading.joint_states([own for _, own in readers], Stacked(above, below)[[0, 1, 2, 3]], width)
    torch.testing.assert_close(found, text_encoder(readers, cpu, joint=width)(captions), rtol=1e-5, atol=1e-5)


def test_plans_count_t5_where_its_rows_are_trained(project, base):
    settings = (*QUICK, "model.method=words", 'model.weight_dtype="fp32"', "train.mixed_precision=no")
    with_t5, without = (
        bespoke.plan(project / "recipe.toml", (*settings, more)).estimate
        for more in ("words.t5=true", "words.t5=false")
    )
    checkpoint = find(str(base)).with_words(project / FILE)
    weights = sum(own.numel() for own in checkpoint.network("text_encoder_3").parameters())
    size = checkpoint.base_with(T5).readers[T5].size
    spare = len(checkpoint.table("text_encoder_3")) - size
    assert with_t5.memory.frozen - without.memory.frozen >= 4 * (weights - 80 * (spare + 2))
    assert with_t5.memory.trained - without.memory.trained == 4 * 2 * 80
    assert with_t5.memory.peak > without.memory.peak + 4 * weights // 2


def test_t5_rests_in_bfloat16_where_weights_are_asked_to_and_its_rows_learn_in_float32(base, project):
    checkpoint = find(str(base)).with_words(project / FILE)
    for dtype, kept in (("bf16", torch.bfloat16), ("fp16", torch.float32)):
        recipe = load(project / "recipe.toml", [*QUICK, "words.train=true", f'model.weight_dtype="{dtype}"'])
        network = tuned(checkpoint, recipe)
        assert network.text_encoders["text_encoder_3"].encoder.block[0].layer[0].SelfAttention.q.weight.dtype == kept
        assert network.rows[T5].dtype == torch.float32
