"""A run has copies of what it began with: it goes on when that is gone or changed elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.models import find, tuned
from bespoke.pipeline.naming import named, named_from
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.train import begun, carried_out, resume
from bespoke.training import Event, Step

SMALL = """
[model]
rank = 2
adapter_file = "first.safetensors"
[train]
max_train_steps = 3
log_every = 1
train_batch_size = 2
checkpointing_steps = 1
num_class_images = 0
mixed_precision = "no"
[validation]
strata = 1
[sample]
sample_every_n_steps = 0
"""


class Once:
    """Whoever ends a training after its first step."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, event: Event) -> None:
        self.seen = self.seen or isinstance(event, Step)

    def wish(self) -> str | None:
        return "enough" if self.seen else None


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
        (tmp_path / "in" / f"{number}.txt").write_text(f"thing {number}")
    done = CliRunner().invoke(app, ["new", str(tmp_path / "project"), "--images", str(tmp_path / "in")])
    assert done.exit_code == 0, done.stderr
    path = tmp_path / "project" / "recipe.toml"
    path.write_text(SMALL)
    return path


def test_a_run_goes_on_without_the_adapter_file_that_it_began_with(recipe: Path) -> None:
    from bespoke.recipe import load

    file = recipe.parent / "first.safetensors"
    tuned(find("pico"), load(recipe, ['model.adapter_file=""'])).save(recipe.parent)
    (recipe.parent / "adapter.safetensors").rename(file)
    prepared = prepare(recipe)
    run, bytes_then = begun(prepared), file.read_bytes()
    assert carried_out(run, silent, Once()) is None
    file.unlink()
    assert run.begun_adapter.read_bytes() == bytes_then
    assert resume(run.root).steps == 3
    assert named_from(str(run.root), "base")["base"].adapter == run.begun_adapter
    assert named(f"{run.root}@step-1").state
