"""What only a GPU can show: 16 bits, the scaler of fp16, steps that never wait, and memory as it was computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bespoke.training import Step, Validated
from bespoke.training.window import Window
from bespoke.workspace import Run

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the process first multiplies on the GPU
pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]


def settings(precision):
    """A recipe's sections for arithmetic, and for frozen weights, in `precision`."""
    dtype = "fp32" if precision == "no" else precision
    return {"model": {"weight_dtype": dtype}, "train": {"mixed_precision": precision}}


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_never_waits_for_the_gpu(tmp_path, trainer, precision, method):
    """Two passes a step, a running average and gradient checkpointing are in it."""
    sections = settings(precision)
    sections["model"] = {"method": method} if method == "full" else sections["model"]
    sections["train"] |= {"gradient_accumulation_steps": 2, "use_ema": True, "gradient_checkpointing": True}
    ours = trainer(tmp_path, **sections)
    assert ours.accelerator.device.type == "cuda"
    window = Window(ours.accelerator.device)
    ours.step(window)  # makes the optimizer's memory
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            ours.step(window)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(window.skipped) == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"loss_type": "huber", "huber_schedule": "snr", "debiased_estimation": True, "input_perturbation": 0.1},
        {"loss_type": "smooth_l1", "huber_schedule": "exponential", "p2_gamma": 1.0, "multires_noise_iterations": 6},
        {"loss_type": "huber", "huber_schedule": "constant", "soft_min_snr_gamma": 5.0, "timestep_shift": 3.0},
    ],
    ids=["snr", "exponential", "constant"],
)
def test_no_objective_makes_a_step_wait(tmp_path, trainer, asked):
    ours = trainer(tmp_path, train=asked)
    window = Window(ours.accelerator.device)
    ours.step(window)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.step(window)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(window.skipped) == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_learn_what_float32_learns(tmp_path, trainer, precision):
    def told(name, sections):
        events = list(trainer(tmp_path / name, **sections).fit())
        return [e.loss for e in events if isinstance(e, Step)], [
            e.log_ratio for e in events if isinstance(e, Validated)
        ]

    losses, ratios = told("whole", settings("no"))
    halved, found = told("halved", settings(precision))
    assert halved == pytest.approx(losses, rel=0.03)
    assert found == pytest.approx(ratios, abs=0.01)
    assert ratios[-1] < 0


def test_a_step_that_overflows_fp16_is_left_out_and_the_scale_comes_down(tmp_path, trainer):
    sections = settings("fp16")
    sections["train"]["lr_warmup_steps"] = 0
    ours = trainer(tmp_path, **sections)
    before = {name: parameter.detach().clone() for name, parameter in ours.parameters.items()}
    scaler, window = ours.accelerator.scaler, Window(ours.accelerator.device)
    ours.step(window)
    scaler.update(2.0**80)
    moved = {name: parameter.detach().clone() for name, parameter in ours.parameters.items()}
    assert any(not torch.equal(moved[name], before[name]) for name in moved)
    ours.step(window)
    assert int(window.skipped) == int(window.in_a_row) == 1
    assert scaler.get_scale() < 2.0**80
    assert all(torch.equal(parameter, moved[name]) for name, parameter in ours.parameters.items())
    scaler.update(2.0**10)
    ours.step(window)
    assert int(window.skipped) == 1 and int(window.in_a_row) == 0
    assert any(not torch.equal(parameter, moved[name]) for name, parameter in ours.parameters.items())


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_stopping_and_going_on_changes_no_bit_where_that_is_asked_for(tmp_path, trainer, everything, precision):
    sections = settings(precision)
    sections["train"] |= {"deterministic": True, "use_ema": True, "gradient_accumulation_steps": 2}
    whole = trainer(tmp_path / "whole", **sections)
    list(whole.fit())
    first = trainer(tmp_path / "parts", **sections)
    list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    second = trainer(tmp_path / "parts", **sections)
    second.restore(Run(tmp_path / "parts").state(3))
    list(second.fit())
    ours, theirs = everything(second), everything(whole)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert second.progress == whole.progress


def told(trainer):
    return [event.loss for event in trainer.fit() if isinstance(event, Step)]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_weights_that_the_host_moves_learn_what_the_gpu_s_learn(tmp_path, trainer, precision):
    sections = {"model": {"method": "full"}, "train": {"mixed_precision": precision, "learning_rate": 1e-4}}
    sections["train"] |= {"use_ema": True, "gradient_accumulation_steps": 2}
    plain = told(trainer(tmp_path / "plain", **sections))
    sections["train"]["offload_optimizer"] = True
    ours = trainer(tmp_path / "ours", **sections)
    assert told(ours) == pytest.approx(plain, rel=1e-3 if precision == "no" else 0.03)
    assert all(p.device.type == "cpu" and p.is_pinned() for p in ours.parameters.values())
    assert all(p.grad is None for p in ours.bare.parameters())
    assert all(torch.equal(p.cpu(), ours.parameters[name]) for name, p in ours.bare.trainable().items())


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_rounded_base_is_the_same_on_a_gpu_and_a_step_on_it_never_waits(tmp_path, trainer, checkpoint, recipe, kind):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is in bespoke[optim]")
    from bespoke.models import tuned

    sections = {"model": {"quantization": kind, "weight_dtype": "bf16"}, "train": {"mixed_precision": "bf16"}}
    there = trainer(tmp_path, **sections)
    here = tuned(checkpoint, recipe(**sections))
    for (name, buffer), (_, other) in zip(there.bare.named_buffers(), here.named_buffers(), strict=True):
        assert torch.equal(buffer.cpu(), other), name
    window = Window(there.accelerator.device)
    there.step(window)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there.step(window)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(window.skipped) == 0


CASES = ("lora:256:4:no", "full:256:4:no", "lora:512:2:yes")


@pytest.mark.slow
def test_a_real_step_takes_what_was_computed():
    """The allocator's own figures, in a process of its own."""
    command = [sys.executable, "benchmarks/memory.py", "--json", "--cases", *CASES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        assert row["computed"] == pytest.approx(row["measured"], rel=0.15), done.stderr
        assert row["resting"] == pytest.approx(row["tensors"], rel=0.01)
