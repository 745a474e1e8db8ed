"""One training step against the same step written with diffusers, peft and torch alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig

from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.training import Step
from bespoke.training.step import losses


def shaken(trainer):
    """The trainer with every adapter matrix away from nothing, so that all gradients are there."""
    source = torch.Generator().manual_seed(5)
    if not trainer.bare.adapted:
        return trainer
    with torch.no_grad():
        for parameter in trainer.parameters.values():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=source))
    return trainer


def applied(trainer):
    """One optimizer step: the gradients that the optimizer got, and what the step said."""
    seen = {}

    def keep(optimizer, args, kwargs):
        seen.update({name: p.grad.clone() for name, p in trainer.parameters.items()})

    handle = trainer.optimizer.optimizer.register_step_pre_hook(keep)
    trainer.validator.material = trainer.validator.material.__class__(
        **{**vars(trainer.validator.material), "validation": ()}
    )
    events = list(trainer.fit(lambda: "one step is enough"))
    handle.remove()
    (step,) = [event for event in events if isinstance(event, Step)]
    assert step.step == 1
    return seen, step


UNET, TEXT = ["to_q", "to_k", "to_v", "to_out.0"], ["q_proj", "k_proj", "v_proj", "out_proj"]


def trained(network, model, targets):
    """A copy of a network as diffusers' scripts make it ready: with an adapter, or with all weights trainable."""
    network = copy.deepcopy(network)
    if model.method == "lora":
        network.add_adapter(LoraConfig(r=model.rank, lora_alpha=model.alpha or model.rank, target_modules=targets))
    else:
        network.requires_grad_(True)
    return network.train()


def states(checkpoint, text_encoder, captions):
    """After diffusers' train_dreambooth_lora.py."""
    tokenizer = checkpoint.tokenizer()
    ids = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    return text_encoder(ids)[0]


def reference(base, checkpoint, trainer, prediction, *, gamma=None):
    """The same loss and gradients, after diffusers' train_text_to_image_lora.py and train_text_to_image.py."""
    model, count = trainer.recipe.model, trainer.train.train_batch_size * trainer.train.gradient_accumulation_steps
    unet = trained(base, model, UNET)
    networks = {"unet": unet}
    if trainer.train.train_text_encoder:
        networks["text_encoder"] = trained(checkpoint.text_encoder(), model, TEXT)
    own = {f"{part}.{n}": p for part, net in networks.items() for n, p in net.named_parameters() if p.requires_grad}
    assert own.keys() == trainer.parameters.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(trainer.parameters[name])
    scheduler = DDIMScheduler.from_config(checkpoint.scheduler_config, prediction_type=prediction)
    batch = trainer.stream.batch(0, count)
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.times)
    texts = batch.texts
    if "text_encoder" in networks:
        texts = states(checkpoint, networks["text_encoder"], captions_of(trainer, count))
    answer = unet(noisy, batch.times, encoder_hidden_states=texts).sample
    target = batch.noise
    if prediction == "v_prediction":
        target = scheduler.get_velocity(batch.clean, batch.noise, batch.times)
    if gamma is None:
        loss = F.mse_loss(answer.float(), target.float(), reduction="mean")
    else:
        snr = compute_snr(scheduler, batch.times)
        weights = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
        weights = weights / (snr + 1 if prediction == "v_prediction" else snr)
        each = F.mse_loss(answer.float(), target.float(), reduction="none").mean(dim=[1, 2, 3])
        loss = (each * weights).mean()
    loss.backward()
    return {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in own.items()}, loss.item()


def captions_of(trainer, count):
    """The captions of the first pictures, found again by their tokens: the drawings' nouns are in conftest."""
    nouns = ("cat", "dog", "house", "tree", "fish", "moon", "car", "cup", "star", "boat")
    known = [f"8bit illustration of a {noun}" for noun in nouns] + [""]
    tokenizer = find("pico").tokenizer()
    ids = tokenizer(known, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    rows = trainer.stream.batch(0, count).texts[..., 0].long()
    return [known[int((ids == row).all(dim=1).nonzero()[0])] for row in rows]


def distance(ours, theirs):
    """The relative error of all gradients together."""
    a, b = (torch.cat([grads[name].flatten().double() for name in sorted(theirs)]) for grads in (ours, theirs))
    assert b.norm() > 0
    return float((a - b).norm() / b.norm())


UNCLIPPED = 1e9


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("gamma", [None, 5.0], ids=["plain", "min-snr"])
def test_loss_and_gradients_are_those_of_plain_diffusers(tmp_path, trainer, base, checkpoint, prediction, gamma):
    train = {"train_batch_size": 4, "max_grad_norm": UNCLIPPED, "snr_gamma": gamma}
    ours = shaken(
        trainer(tmp_path, train=train, model={"rank": 4, "alpha": 2}, scheduler={"prediction_type": prediction})
    )
    gradients, loss = reference(base, checkpoint, ours, prediction, gamma=gamma)
    found, step = applied(ours)
    assert step.loss == pytest.approx(loss, rel=1e-5)
    assert distance(found, gradients) < 1e-5
    whole = torch.cat([g.flatten() for g in gradients.values()]).norm()
    assert step.gradient_norm == pytest.approx(float(whole), rel=1e-4)


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_text_encoder_and_whole_networks_learn_as_in_plain_diffusers(
    tmp_path, trainer, base, checkpoint, tokens, method, prediction
):
    train = {"train_batch_size": 3, "max_grad_norm": UNCLIPPED, "train_text_encoder": True}
    scheduler = {"prediction_type": prediction}
    ours = shaken(trainer(tmp_path, of=tokens, train=train, model={"rank": 4, "method": method}, scheduler=scheduler))
    gradients, loss = reference(base, checkpoint, ours, prediction)
    found, step = applied(ours)
    assert {name.partition(".")[0] for name in found} == {"unet", "text_encoder"}
    assert step.loss == pytest.approx(loss, rel=1e-5)
    for part in ("unet.", "text_encoder."):
        theirs = {name: value for name, value in gradients.items() if name.startswith(part)}
        assert distance(found, theirs) < 1e-5


def test_all_weights_learn_with_cached_texts_as_in_plain_diffusers(tmp_path, trainer, base, checkpoint):
    ours = trainer(tmp_path, train={"train_batch_size": 3, "max_grad_norm": UNCLIPPED}, model={"method": "full"})
    gradients, loss = reference(base, checkpoint, ours, "v_prediction")
    found, step = applied(ours)
    assert step.loss == pytest.approx(loss, rel=1e-5)
    assert distance(found, gradients) < 1e-5


@pytest.mark.parametrize(("method", "steps"), [("lora", 50), ("full", 15)])
def test_many_steps_end_where_plain_diffusers_does(tmp_path, trainer, base, checkpoint, method, steps):
    """The whole optimisation: rates, clipping, AdamW, and what comes when."""
    train = {"max_train_steps": steps, "learning_rate": 1e-3 if method == "lora" else 1e-5, "train_batch_size": 1}
    ours = trainer(tmp_path, train={**train, "checkpointing_steps": 50}, model={"rank": 4, "method": method})
    ours.validator.material = ours.validator.material.__class__(**{**vars(ours.material), "validation": ()})
    model, settings = ours.recipe.model, ours.train
    unet = trained(base, model, UNET)
    own = {f"unet.{name}": p for name, p in unet.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(ours.parameters[name])
    settings_of_adamw = {"betas": (0.9, 0.99), "weight_decay": 0.01}
    optimizer = torch.optim.AdamW(own.values(), lr=settings.learning_rate, **settings_of_adamw)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=settings.lr_warmup_steps, num_training_steps=steps)
    scheduler = DDIMScheduler.from_config(checkpoint.scheduler_config)
    theirs = []
    for step in range(steps):
        batch = ours.stream.batch(step, 1)
        noisy = scheduler.add_noise(batch.clean, batch.noise, batch.times)
        answer = unet(noisy, batch.times, batch.texts).sample
        loss = F.mse_loss(answer, scheduler.get_velocity(batch.clean, batch.noise, batch.times))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own.values(), settings.max_grad_norm)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        theirs.append(loss.item())
    found = [event.loss for event in ours.fit() if isinstance(event, Step)]
    assert found == pytest.approx(theirs, rel=1e-3)


def test_a_whole_model_at_a_tiny_rate_moves_although_it_computes_in_16_bits(tmp_path, trainer):
    """In bfloat16 weights the same step would be rounded away: the weights stay float32."""
    train = {"learning_rate": 1e-6, "lr_warmup_steps": 0, "mixed_precision": "bf16", "adam_weight_decay": 0.0}
    ours = trainer(tmp_path, train=train, model={"method": "full"})
    before = {name: p.detach().clone() for name, p in ours.parameters.items()}
    found, _ = applied(ours)
    moved = lost = total = 0
    for name, parameter in ours.parameters.items():
        assert parameter.dtype == torch.float32
        there = found[name].abs() > 1e-6
        moved += int((parameter.detach() != before[name])[there].sum())
        half = before[name].bfloat16()
        lost += int((half - 1e-6 * found[name].sign().bfloat16() == half)[there].sum())
        total += int(there.sum())
    assert total > 1_000_000
    assert moved > 0.95 * total
    assert lost > 0.9 * total


def test_frozen_weights_in_16_bits_give_the_gradients_of_float32(tmp_path, trainer):
    settings = {"max_grad_norm": UNCLIPPED, "mixed_precision": "bf16"}
    exact, _ = applied(shaken(trainer(tmp_path / "a", train={"max_grad_norm": UNCLIPPED})))
    half = shaken(trainer(tmp_path / "b", train=settings, model={"weight_dtype": "bf16"}))
    assert {p.dtype for p in half.parameters.values()} == {torch.float32}
    assert {p.dtype for p in half.bare.parameters() if not p.requires_grad} == {torch.bfloat16}
    rough, _ = applied(half)
    a, b = (torch.cat([grads[name].flatten() for name in sorted(exact)]) for grads in (exact, rough))
    assert F.cosine_similarity(a, b, dim=0) >= 0.999


@pytest.mark.parametrize("method", ["lora", "full"])
def test_checkpointing_saves_memory_and_changes_no_gradient(tmp_path, trainer, tokens, method):
    train, model = {"max_grad_norm": UNCLIPPED, "train_text_encoder": True}, {"method": method}
    plain, _ = applied(shaken(trainer(tmp_path / "a", of=tokens, train=train, model=model)))
    ours = trainer(tmp_path / "b", of=tokens, train={**train, "gradient_checkpointing": True}, model=model)
    assert distance(applied(shaken(ours))[0], plain) < 1e-6

    def kept(gradient_checkpointing):
        """Bytes that the forward pass keeps for the backward pass."""
        settings = {**train, "gradient_checkpointing": gradient_checkpointing}
        made = trainer(tmp_path / "c", of=tokens, train=settings, model=model)
        found = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: found.update({t.data_ptr(): t.nbytes}) or t, lambda t: t
        ):
            losses(made.network, made.stream.batch(0, 2), made.schedule)
        return sum(found.values())

    assert kept(True) < 0.7 * kept(False)


def test_dropout_leaves_out_what_it_says_and_only_in_training(tmp_path, trainer):
    plain, dropped = (
        trainer(tmp_path / str(share), model={"method": "full"}, train={"unet_dropout": share}) for share in (0.0, 0.3)
    )
    batch = plain.stream.batch(0, 2)
    one, other = (losses(t.network, batch, t.schedule) for t in (plain, dropped))
    assert not torch.equal(one, other)
    one, other = (t.validator(t.network, torch.device("cpu"))["validation"].losses for t in (plain, dropped))
    assert (one == other).all()
    inside = [m.p for m in dropped.bare.unet.modules() if isinstance(m, torch.nn.Dropout)]
    assert len(inside) > 10 and set(inside) == {0.3}
    adapted = trainer(tmp_path / "lora", model={"dropout": 0.5})
    assert 0.5 in {m.p for m in adapted.bare.unet.modules() if isinstance(m, torch.nn.Dropout)}


def test_weights_trained_in_fp16_are_refused(tmp_path, trainer):
    with pytest.raises(BespokeError, match="cannot be fp16") as caught:
        trainer(tmp_path, model={"method": "full", "weight_dtype": "fp16"})
    assert "bf16" in caught.value.hint


def test_the_text_encoder_has_a_rate_of_its_own(tmp_path, trainer, tokens):
    train = {"train_text_encoder": True, "learning_rate": 1e-3, "text_encoder_learning_rate": 1e-5}
    ours = trainer(tmp_path, of=tokens, train={**train, "lr_warmup_steps": 0, "adam_weight_decay": 0.0})
    before = {name: p.detach().clone() for name, p in ours.parameters.items()}
    gradients, step = applied(ours)
    assert step.learning_rate == 1e-3
    for part, rate in (("unet.", 1e-3), ("text_encoder.", 1e-5)):
        steps = [
            (before[n] - p.detach()).abs()[gradients[n].abs() > 1e-5]
            for n, p in ours.parameters.items()
            if n.startswith(part)
        ]
        steps = torch.cat([s.flatten() for s in steps])
        assert len(steps) > 50
        torch.testing.assert_close(steps, torch.full_like(steps, rate), rtol=5e-2, atol=1e-8)


def test_bf16_gradients_point_where_float32_ones_do(tmp_path, trainer):
    """The figure is the house's for any speed-up; the weights stay float32, and a later training may go back."""
    exact, said = applied(shaken(trainer(tmp_path / "a", train={"max_grad_norm": UNCLIPPED})))
    rough, told = applied(
        shaken(trainer(tmp_path / "b", train={"max_grad_norm": UNCLIPPED, "mixed_precision": "bf16"}))
    )
    a, b = (torch.cat([grads[name].flatten() for name in sorted(exact)]) for grads in (exact, rough))
    assert a.dtype == b.dtype == torch.float32
    assert distance(rough, exact) > 0  # it did compute in another precision
    assert F.cosine_similarity(a, b, dim=0) >= 0.999
    assert told.loss == pytest.approx(said.loss, rel=0.02)
    again, _ = applied(shaken(trainer(tmp_path / "c", train={"max_grad_norm": UNCLIPPED})))
    assert distance(again, exact) == 0


def test_accumulating_two_halves_is_one_whole(tmp_path, trainer, base, checkpoint):
    halves = {"train_batch_size": 2, "gradient_accumulation_steps": 2, "max_grad_norm": UNCLIPPED}
    parts = shaken(trainer(tmp_path / "a", train=halves))
    whole = shaken(trainer(tmp_path / "b", train={"train_batch_size": 4, "max_grad_norm": UNCLIPPED}))
    ours, one = applied(parts)
    theirs, other = applied(whole)
    assert distance(ours, theirs) < 1e-5
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert distance(ours, reference(base, checkpoint, shaken(parts), "v_prediction")[0]) < 1e-5


def test_clipping_bounds_the_gradient_that_is_applied(tmp_path, trainer):
    free, step = applied(shaken(trainer(tmp_path / "a", train={"max_grad_norm": UNCLIPPED})))
    limit = step.gradient_norm / 3
    bound, told = applied(shaken(trainer(tmp_path / "b", train={"max_grad_norm": limit})))
    norm = float(torch.cat([g.flatten() for g in bound.values()]).norm())
    assert norm == pytest.approx(limit, rel=1e-4)
    assert told.gradient_norm == pytest.approx(step.gradient_norm, rel=1e-6)  # said as it was before
    shortened = {name: g / 3 for name, g in free.items()}
    assert distance(bound, shortened) < 1e-4  # its direction stays


def test_the_rate_of_the_first_step_is_applied(tmp_path, trainer):
    """Without a warm-up AdamW's first step moves every weight by the learning rate, whatever the gradient."""
    ours = shaken(trainer(tmp_path, train={"lr_warmup_steps": 0, "learning_rate": 1e-3, "adam_weight_decay": 0.0}))
    before = {name: p.detach().clone() for name, p in ours.parameters.items()}
    gradients, step = applied(ours)
    assert step.learning_rate == 1e-3
    for name, gradient in gradients.items():
        clear = gradient.abs() > 1e-5
        moved = (before[name] - ours.parameters[name].detach())[clear]
        torch.testing.assert_close(moved, 1e-3 * gradient[clear].sign(), rtol=2e-3, atol=1e-7)


def test_a_weight_counts_as_often_as_it_says(tmp_path, trainer, material):
    """An example of weight nothing adds nothing; all weights doubled double the loss."""
    from dataclasses import replace

    def loss(weights):
        train = tuple(replace(e, weight=w) for e, w in zip(material.train, weights, strict=True))
        settings = {"train_batch_size": len(train), "max_grad_norm": UNCLIPPED}
        return applied(shaken(trainer(tmp_path, of=replace(material, train=train), train=settings)))[1].loss

    n = len(material.train)
    first = [1.0] * (n // 2) + [0.0] * (n - n // 2)
    rest = [1.0 - w for w in first]
    plain = loss([1.0] * n)
    assert loss([2.0] * n) == pytest.approx(2 * plain, rel=1e-5)
    assert loss(first) + loss(rest) == pytest.approx(plain, rel=1e-5)
