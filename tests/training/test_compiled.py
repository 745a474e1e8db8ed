"""Trainings whose network is compiled, in processes without the tests' own checks, which torch cannot compile.

What writes and builds the code is left out here: it takes minutes, and answers would differ by rounding.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.flow import drawn

from bespoke.errors import BespokeError
from bespoke.pipeline.compiling import compiling_explained

SCRIPT = """
import functools, json, sys
from diffusers import ModelMixin
from torch._dynamo.utils import counters

ModelMixin.compile_repeated_blocks = functools.partialmethod(ModelMixin.compile_repeated_blocks, backend="aot_eager")

import bespoke

recipe, *settings = sys.argv[1:]
done = bespoke.train(recipe, settings)
counted = {"graphs": counters["stats"]["unique_graphs"], "breaks": dict(counters["graph_break"])}
print(json.dumps({"adapter": str(done.adapter), **counted}))
"""
SETTINGS = (
    "model.rank=2", "data.resolution=64", "train.train_batch_size=2", "train.max_train_steps=3",
    "train.num_class_images=0", "validation.validation_steps=2", "validation.strata=1",
    "sample.sample_every_n_steps=2", "sample.num_inference_steps=1", "train.mixed_precision=bf16",
    "model.weight_dtype=bf16",
)  # fmt: skip
GRAPHS = 3 + 1
"""Sizes at which pico's UNet has transformer blocks, and the first of all, whose picture asks for no gradient."""


def trained(recipe, *more):
    command = [sys.executable, "-c", SCRIPT, str(recipe), *SETTINGS, *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_compiled_training_is_the_same_and_compiles_its_own_shapes_alone(tmp_path):
    """Validation and pictures, which have other shapes, are computed as they are."""
    recipe = drawn.project(tmp_path, 6, "a shape of {} corners")
    plain, _ = trained(recipe)
    compiled, said = trained(recipe, "train.compile=true")
    assert plain["graphs"] == 0 and compiled["graphs"] == GRAPHS and not compiled["breaks"], said
    one, two = (Path(found["adapter"]).read_bytes() for found in (plain, compiled))
    assert one == two


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch reads a part of its own
def test_a_machine_without_a_compiler_is_told_what_it_needs(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    torch.compiler.reset()
    with pytest.raises(BespokeError, match="could not compile") as told, compiling_explained():
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(7))
    assert "g++" in told.value.hint and "train.compile" in told.value.hint
    with pytest.raises(ValueError, match="another"), compiling_explained():
        raise ValueError("another")
