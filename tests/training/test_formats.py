"""Arithmetic in bfloat16: throughout where a LoRA is all that is trained, by autocast elsewhere; and what it costs."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bespoke.hardware import cores, free_cores
from bespoke.models import find, tuned
from bespoke.models.layout import arrange
from bespoke.models.packed import PackedConv
from bespoke.pipeline.processes import accelerator, share_cores
from bespoke.training.step import losses

BF16 = {"mixed_precision": "bf16", "train_batch_size": 8}
HALF = {"rank": 4, "weight_dtype": "bf16"}


def taught(trainer, weights):
    """All gradients of the first eight pictures at some weights, as one vector."""
    with torch.no_grad():
        for name, parameter in trainer.parameters.items():
            parameter.copy_(weights[name])
    trainer.network.train()
    losses(trainer.network, trainer.stream.batch(0, 8), trainer.schedule).mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in trainer.parameters.values()]).double()


def test_a_lora_in_bfloat16_throughout_learns_what_float32_teaches(tmp_path, trainer):
    exact = trainer(tmp_path / "a", train={"train_batch_size": 8, "max_train_steps": 20})
    list(exact.fit())
    weights = {name: parameter.detach().clone() for name, parameter in exact.parameters.items()}
    for parameter in exact.parameters.values():
        parameter.grad = None
    wanted = taught(exact, weights)
    cast, whole = (trainer(tmp_path / "b", train=BF16, model={**HALF, "weight_dtype": d}) for d in ("fp32", "bf16"))
    assert exact.bare.format is cast.bare.format is None and whole.bare.format is torch.bfloat16
    assert {p.dtype for p in whole.parameters.values()} == {torch.float32}
    assert {p.dtype for n, p in whole.bare.named_parameters() if n not in whole.parameters} == {torch.bfloat16}
    by_autocast, found = taught(cast, weights), taught(whole, weights)
    assert F.cosine_similarity(found, wanted, dim=0) > 0.999 and F.cosine_similarity(by_autocast, wanted, dim=0) > 0.999
    assert not torch.equal(found, by_autocast)
    answer = whole.bare(torch.zeros(1, 4, 8, 8), torch.tensor([5]), torch.zeros(1, 77, 160))
    assert answer.dtype == torch.float32


def test_in_bfloat16_stopping_and_going_on_changes_no_bit(tmp_path, trainer, everything):
    settings = {"train": {**BF16, "train_batch_size": 2, "max_train_steps": 6}, "model": HALF}
    whole = trainer(tmp_path / "whole", **settings)
    list(whole.fit())
    first = trainer(tmp_path / "parts", **settings)
    list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    then = trainer(tmp_path / "parts", **settings)
    then.restore(then.run.state(3))
    list(then.fit())
    ended, wanted = everything(then), everything(whole)
    assert ended.keys() == wanted.keys() and all(torch.equal(ended[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("model", "train"),
    [
        ({"rank": 4, "weight_dtype": "bf16", "method": "dora"}, {}),
        ({"rank": 4, "weight_dtype": "bf16", "dropout": 0.1}, {}),
        ({"rank": 4, "weight_dtype": "fp32"}, {}),
        ({"rank": 4, "weight_dtype": "bf16"}, {"mixed_precision": "no"}),
    ],
    ids=["dora", "dropout", "float32 weights", "float32 asked for"],
)
def test_elsewhere_autocast_sees_to_formats(checkpoint, recipe, model, train):
    assert tuned(checkpoint, recipe(model=model, train={**BF16, **train})).format is None


def test_on_a_processor_convolutions_are_sorted_and_wide_groups_lie_channels_last(checkpoint, recipe):
    pico = tuned(checkpoint, recipe())
    before = {name: value.clone() for name, value in pico.state_dict().items()}
    x, texts = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 160)
    with torch.no_grad():
        wanted = pico(x, torch.tensor([5, 700]), texts)
        arrange(pico, "cpu")
        found = pico(x, torch.tensor([5, 700]), texts)
    assert sum(type(part) is PackedConv for part in pico.modules()) > 20
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert pico.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in pico.state_dict().items())
    assert pico.denoiser.conv_in.weight.is_contiguous()
    wide = tuned(find("pico"), recipe())
    for part in wide.modules():
        if isinstance(part, nn.GroupNorm):
            part.num_groups = 1
    arrange(wide, "cpu")
    assert wide.denoiser.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    narrow_on_a_gpu = tuned(find("pico"), recipe())
    arrange(narrow_on_a_gpu, "cuda")
    assert narrow_on_a_gpu.denoiser.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(type(part) is PackedConv for part in narrow_on_a_gpu.modules())


def test_what_is_kept_for_speed_follows_from_the_recipe_whatever_this_process_did_before(tmp_path, trainer):
    """Sorted weights give other bits, so that a training that goes on in another process must not choose anew."""
    for spare in (False, True, False):
        made = trainer(tmp_path / f"{spare}", train={"spare_memory": spare})
        assert any(type(part) is PackedConv for part in made.bare.modules()) is not spare


BUSY = "while True: pass"


def test_on_a_busy_machine_fewer_threads_compute(monkeypatch, recipe):
    """Beside programs that take every core but one, or all, there is one thread left; beside none, all."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    accelerator(recipe().train)
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores())]
    try:
        torch.set_num_threads(2)
        assert free_cores() == 1
        assert share_cores() == "1 of 2 cores are busy with something else; 1 of them compute here"
        assert torch.get_num_threads() == 1 and not share_cores()
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        assert not share_cores() and torch.get_num_threads() == 2, "who asks for threads has them"
    finally:
        torch.set_num_threads(before)
        for other in others:
            other.kill()
            other.wait()
