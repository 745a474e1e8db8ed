"""What only a GPU can show of recorded steps and of batches made ahead: the graphs, and the copies beside them."""

import os

import pytest
import torch

from bespoke.diffusion.philox import keys_of, normals, words
from bespoke.training import Noted, Step
from bespoke.training.captured import WARM_UP
from bespoke.training.window import Window
from bespoke.workspace import Run

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the process first multiplies on the GPU
pytestmark = pytest.mark.gpu


def settings(precision, **train):
    """A recipe's sections: recorded steps whose arithmetic gives the same bits each time."""
    dtype = "fp32" if precision == "no" else precision
    asked = {"mixed_precision": precision, "deterministic": True, "cuda_graph": True, "use_ema": True}
    return {"model": {"weight_dtype": dtype}, "train": {**asked, "max_train_steps": 20, **train}}


def told(trainer):
    events = list(trainer.fit())
    assert [event.note for event in events if isinstance(event, Noted)] == []
    return [event.loss for event in events if isinstance(event, Step)]


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("train", [{}, {"gradient_accumulation_steps": 2}, {"noise_source": "device"}], ids=str)
def test_graphs_learn_what_plain_steps_learn(tmp_path, trainer, mixed_material, precision, train):
    """In several shapes; the plain steps take the rate in float64, the graphs in float32."""
    ours = trainer(tmp_path / "ours", of=mixed_material, **settings(precision, **train))
    assert ours.captured is not None
    plain = trainer(tmp_path / "plain", of=mixed_material, **settings(precision, **train, cuda_graph=False))
    assert told(ours) == pytest.approx(told(plain), rel=1e-4 if precision == "no" else 1e-2)
    assert len(ours.captured._kept) >= 2 and ours.captured.trouble == ""


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("passes", [1, 2])
def test_a_recorded_training_stops_and_goes_on_bit_for_bit(
    tmp_path, trainer, everything, mixed_material, precision, passes
):
    """So that a step as ever and one that is played back are the same, for after a resume other steps are as ever."""
    sections = settings(precision, gradient_accumulation_steps=passes)
    whole, first, second = (
        trainer(tmp_path / name, of=mixed_material, **sections) for name in ("whole", "parts", "parts")
    )
    told(whole)
    list(first.fit(lambda: "enough" if first.progress.step == 11 else None))
    second.restore(Run(tmp_path / "parts").state(11))
    told(second)
    ours, theirs = everything(second), everything(whole)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert second.progress == whole.progress


def test_a_recorded_step_never_waits_for_the_gpu(tmp_path, trainer):
    ours = trainer(tmp_path, **settings("bf16"))
    window = Window(ours.accelerator.device)
    with ours.loader.running():
        for _ in range(WARM_UP + 1):
            ours.step(window)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                ours.step(window)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert int(window.skipped) == 0


def test_batches_copied_ahead_are_the_host_s(tmp_path, trainer, mixed_material):
    """Also while the GPU is busy, when copies wait for nothing and nothing may be read before it is there."""
    ours = trainer(tmp_path, of=mixed_material)
    busy = torch.randn(4096, 4096, device=ours.accelerator.device)
    assert ours.loader.ahead
    with ours.loader.running():
        for turn in range(30):
            busy = (busy @ busy).softmax(dim=1)
            batch, plain = ours.loader.batch(turn), ours.stream.batch(turn * ours.pass_size, ours.size)
            for name, tensor in batch.drawn().tensors.items():
                assert torch.equal(tensor.cpu(), plain.tensors[name]), (turn, name)


def test_a_gpu_draws_the_words_of_the_host():
    keys = keys_of([("noise", number) for number in range(5)])
    assert torch.equal(words(keys.cuda(), 4097).cpu(), words(keys, 4097))
    there = normals(keys.cuda(), (4, 33, 7)).cpu()
    assert torch.allclose(there, normals(keys, (4, 33, 7)), atol=1e-5)
