"""What the optimizer moves in the host's memory: the same bits as without, in all that may be done with weights."""

import pytest
import torch
from tests.training.test_memory import computed, size

from bespoke.errors import BespokeError
from bespoke.recipe.training import Train
from bespoke.training.optimizers import check
from bespoke.training.weights import Offloaded
from bespoke.workspace import Run

STEPS = {"max_train_steps": 4, "checkpointing_steps": 2, "learning_rate": 0.01}
SELDOM = {"validation_steps": 2, "strata": 1, "probe": False}
CASES = {
    "adamw": {"train": {"gradient_accumulation_steps": 3, "use_ema": True}},
    "adafactor": {"train": {"optimizer": "adafactor"}},
    "lion": {"train": {"optimizer": "lion", "learning_rate": 0.001, "max_adapter_norm": 0.05}},
    "prodigy": {"train": {"optimizer": "prodigy", "learning_rate": 1.0}},
    "schedule_free": {"train": {"optimizer": "schedule_free", "gradient_checkpointing": True}},
    "full": {"model": {"method": "full"}, "train": {"learning_rate": 1e-4, "use_ema": True}},
    "bf16": {
        "model": {"method": "full", "weight_dtype": "bf16"},
        "train": {"mixed_precision": "bf16", "train_batch_size": 1},
    },
    "stages": {
        "stage": [
            {"max_train_steps": 2, "lr_warmup_steps": 0},
            {"max_train_steps": 2, "lr_warmup_steps": 0, "start": "best"},
        ],
        "validation": {**SELDOM, "validation_steps": 1},
    },
}


def with_offloading(sections, *, offload=True):
    return {
        "validation": SELDOM,
        **sections,
        "train": {**STEPS, **sections.get("train", {}), "offload_optimizer": offload},
    }


@pytest.mark.parametrize("case", CASES)
def test_every_bit_is_as_without_it_also_after_a_resume(tmp_path, trainer, everything, case):
    plain = trainer(tmp_path / "plain", **with_offloading(CASES[case], offload=False))
    told = [(type(event), getattr(event, "loss", None)) for event in plain.fit()]
    ours = trainer(tmp_path / "ours", **with_offloading(CASES[case]))
    assert isinstance(ours.weights, Offloaded)
    assert [(type(event), getattr(event, "loss", None)) for event in ours.fit()] == told
    here, there = everything(ours), everything(plain)
    assert here.keys() == there.keys()
    assert [name for name in there if not torch.equal(here[name], there[name])] == []
    assert all(torch.equal(p, ours.parameters[name]) for name, p in ours.bare.trainable().items())
    for file in (tmp_path / "plain").rglob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "ours" / file.relative_to(tmp_path / "plain")).read_bytes(), file

    first = trainer(tmp_path / "parts", **with_offloading(CASES[case]))
    list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    second = trainer(tmp_path / "parts", **with_offloading(CASES[case]))
    second.restore(Run(tmp_path / "parts").state(3))
    assert all(torch.equal(p, first.parameters[name]) for name, p in second.bare.trainable().items())
    list(second.fit())
    again = everything(second)
    assert [name for name in there if not torch.equal(again[name], there[name])] == []


def test_no_gradient_stays_with_the_network(tmp_path, trainer):
    ours = trainer(tmp_path, **with_offloading({"train": {"gradient_accumulation_steps": 2}}))
    seen = []
    ours.optimizer.optimizer.register_step_pre_hook(
        lambda *_: seen.extend((p.grad is None, ours.parameters[n].grad is None) for n, p in ours.weights.own.items())
    )
    next(ours.fit())
    list(ours.fit(lambda: "enough"))
    assert seen and set(seen) == {(True, False)}


def test_a_gpu_is_said_to_hold_no_moments_and_no_gradients(recipe, checkpoint):
    settings = {"train_batch_size": 1, "gradient_checkpointing": True, "use_ema": True}
    plain, moved = (
        computed(
            checkpoint, recipe(model={"method": "full"}, train={**settings, "offload_optimizer": away}), 64, "cuda"
        )
        for away in (False, True)
    )
    weights = plain.trained
    assert moved.trained == weights and moved.optimizer == moved.average == moved.gradients == 0
    assert moved.host == pytest.approx(5 * weights, rel=0.01), "weights, gradients, two moments, the average"
    assert moved.resting == moved.frozen + moved.trained + moved.batches
    assert plain.peak - moved.peak > 3 * weights and plain.host == 0


def test_a_processor_holds_all_of_it(tmp_path, trainer, recipe, checkpoint):
    sections = {"model": {"method": "full"}, "train": {"offload_optimizer": True}}
    said, real = computed(checkpoint, recipe(**sections)), trainer(tmp_path, **sections)
    next(real.fit())
    list(real.fit(lambda: "enough"))
    moments = [value for state in real.optimizer.optimizer.state.values() for value in state.values()]
    assert said.optimizer == size(moments) + size(real.weights.aside.values()) and said.host == 0


@pytest.mark.parametrize("more", [{"optimizer": "adamw8bit"}, {"mixed_precision": "fp16"}])
def test_what_computes_on_a_gpu_only_is_refused(more):
    with pytest.raises(BespokeError, match="in the host's memory"):
        check(Train(offload_optimizer=True, **more))
