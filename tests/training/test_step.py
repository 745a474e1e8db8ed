"""One training step against the same step written with diffusers, peft and torch alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig

from bespoke.training import Step


def shaken(trainer):
    """The trainer with every adapter matrix away from nothing, so that all gradients are there."""
    source = torch.Generator().manual_seed(5)
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


def reference(base, checkpoint, trainer, prediction, *, gamma=None):
    """The same loss and gradients, after diffusers' train_text_to_image_lora.py."""
    model, count = trainer.recipe.model, trainer.train.train_batch_size * trainer.train.gradient_accumulation_steps
    unet = copy.deepcopy(base)
    config = LoraConfig(
        r=model.rank, lora_alpha=model.alpha or model.rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]
    )
    unet.add_adapter(config)
    unet.train()
    own = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    assert own.keys() == trainer.parameters.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(trainer.parameters[name])
    scheduler = DDIMScheduler.from_config(checkpoint.scheduler_config, prediction_type=prediction)
    batch = trainer.stream.batch(0, count)
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.times)
    answer = unet(noisy, batch.times, encoder_hidden_states=batch.texts).sample
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
    return {name: p.grad for name, p in own.items()}, loss.item()


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
