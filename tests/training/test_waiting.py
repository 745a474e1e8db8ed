"""A step asks no tensor for its contents, so that the host never waits for a GPU."""

import pytest
import torch
from tests.training.waiting import NeverWaiting

from bespoke.training.window import Window


@pytest.mark.parametrize(
    "ask", [float, int, bool, torch.Tensor.item, torch.Tensor.cpu, torch.Tensor.tolist, torch.nonzero]
)
def test_asking_is_refused(ask):
    with NeverWaiting(), pytest.raises(AssertionError, match="the host waits"):
        ask(torch.ones(()) + 1)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"model": {"method": "full"}},
        {"train": {"use_ema": True, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}},
        {"train": {"train_text_encoder": True}},
        {
            "train": {
                "loss_type": "huber",
                "huber_schedule": "snr",
                "debiased_estimation": True,
                "max_adapter_norm": 1.0,
            }
        },
        {"train": {"noise_source": "device", "noise_offset": 0.1, "input_perturbation": 0.1}},
        {"model": {"method": "dora", "dropout": 0.1}},
    ],
    ids=["defaults", "full", "passes and average", "text encoder", "objective", "noise of the device", "dora"],
)
def test_a_step_never_asks(tmp_path, trainer, request, sections):
    text = sections.get("train", {}).get("train_text_encoder")
    ours = trainer(tmp_path, of=request.getfixturevalue("tokens" if text else "material"), **sections)
    window = Window(torch.device("cpu"))
    ours.step(window)  # makes the optimizer's memory
    passes = ours.train.gradient_accumulation_steps
    batches = {turn: ours.loader.batch(turn) for turn in range(passes, 3 * passes)}  # the host makes these
    ours.loader.batch = batches.__getitem__
    with NeverWaiting():
        ours.step(window)
        ours.step(window)
    assert int(window.skipped) == 0 and window.steps == 3
