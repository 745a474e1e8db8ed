"""The ways of attention that are measured for a training: of its own shapes, heeded, and kept by its run."""

import json

import pytest
import torch
from tests.flow import drawn

from bespoke import train
from bespoke.errors import BespokeError
from bespoke.models import attention
from bespoke.pipeline.attending import attend
from bespoke.recipe import parse
from bespoke.training import sharding
from bespoke.training.window import Window
from bespoke.workspace import Run

FEW = {"validation": {"validation_steps": 4, "strata": 1, "probe": False}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))


def shapes_asked_for(trainer):
    """The shapes of attention that a trainer's denoiser has computed since its ways were chosen."""
    processors = trainer.bare.denoiser.attn_processors.values()
    (functions,) = {type(one).__call__.__globals__["F"] for one in processors}
    assert isinstance(functions, attention._Functions)
    return set(functions.seen)


@pytest.mark.parametrize(
    ("train", "model", "kind"),
    [
        ({}, {}, torch.float32),
        ({"mixed_precision": "bf16"}, {}, torch.bfloat16),
        ({"mixed_precision": "bf16", "gradient_checkpointing": True}, {"weight_dtype": "bf16"}, torch.bfloat16),
    ],
    ids=["float32", "autocast", "bfloat16 throughout"],
)
def test_the_shapes_are_those_of_a_trainings_passes(tmp_path, trainer, mixed_material, train, model, kind):
    made = trainer(tmp_path / "run", of=mixed_material, train=train, model=model)
    choices = attend(made)
    assert shapes_asked_for(made) == set(), "nothing was computed for it"
    window = Window(torch.device("cpu"))
    for _ in range(8):
        made.step(window)
    assert len(made.stream.order.lanes) >= 2
    assert shapes_asked_for(made) == set(choices)
    assert {shape.format for shape in choices} == {kind} and {*choices.values()} <= {"torch", "blocks"}


def test_a_run_keeps_its_ways_and_they_are_heeded(tmp_path, trainer):
    """Measured once; what the run has counts when it goes on, whatever a measurement would say now."""
    ends = {}
    for way in ("torch", "blocks"):
        run = Run(tmp_path / way)
        measured = attend(trainer(run.root, **FEW))
        held = json.loads(run.attention.read_text("utf-8"))
        assert held == {str(shape): way for shape, way in measured.items()}
        run.attention.write_text(json.dumps(dict.fromkeys(held, way)), "utf-8")
        made = trainer(run.root, train={"max_train_steps": 4}, **FEW)
        assert {*attend(made).values()} == {way}
        list(made.fit())
        ends[way] = torch.cat([parameter.detach().flatten() for parameter in made.parameters.values()])
    assert not torch.equal(ends["torch"], ends["blocks"])
    torch.testing.assert_close(ends["torch"], ends["blocks"], rtol=1e-2, atol=1e-4)


def test_a_training_that_is_asked_to_measures_before_its_first_step(tmp_path):
    recipe = drawn.project(tmp_path, 6, "8bit illustration of a shape with {} corners")
    settings = ("train.max_train_steps=1", "train.num_class_images=0", "validation.strata=1", "validation.probe=false",
                "sample.sample_every_n_steps=0", "sample.num_inference_steps=1")  # fmt: skip
    measured = train(recipe, [*settings, "train.measure_attention=true"])
    assert {*json.loads(Run(measured.run).attention.read_text("utf-8")).values()} <= {"torch", "blocks"}


def test_with_shards_it_is_refused():
    asked = parse({"train": {"sharding": "full", "measure_attention": True}}, "the test")
    with pytest.raises(BespokeError, match=r"train\.measure_attention"):
        sharding.check(asked)
