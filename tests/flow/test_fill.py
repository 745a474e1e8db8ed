"""`bespoke train --fill`: the largest batch that fits, and what goes with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from pico import families
from PIL import Image
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.pipeline.filling import Filling, _asked, _few_steps, filled, lowered
from bespoke.pipeline.fitting import Meter
from bespoke.pipeline.prepare import prepare

pytestmark = pytest.mark.usefixtures("_each_variant_is_measured_once")
LINES = st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**8)), min_size=1, max_size=4)


@example([(0, 28), (621, 1)], 57, [1517], 23)  # lines through two of its batches are far from a third
@given(LINES, st.integers(1, 300), st.lists(st.integers(0, 10**10), max_size=3), st.integers(1, 300))
def test_the_largest_batch_is_found_in_few_measurements(lines, most, limits, just):
    """Memory as the highest of several moments, each of which grows evenly."""

    def taken(batch: int) -> int:
        asked.append(batch)
        return max(rest + each * batch for rest, each in lines)

    asked: list[int] = []
    limits = [*limits, max(rest + each * min(just, most) for rest, each in lines)]
    filling = Filling(taken, most)
    for limit in limits:
        found = filling.largest(limit)
        assert found == max((batch for batch in range(1, most + 1) if taken(batch) <= limit), default=0)
        del asked[-most:]
    assert len(asked) == len(set(asked)) <= 12 * len(limits)
    if len(lines) == 1:
        assert len(asked) <= 2 + len(limits)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_batch_that_runs_out_of_memory_is_lowered(batch, room):
    found = lowered(batch, lambda size: size <= room)
    assert found <= min(batch, room)
    assert found == batch if batch <= room else found >= room * 9 // 10 - 1


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of twenty pictures, for a model of few layers: each of them takes time to compute memory for."""
    root = tmp_path_factory.mktemp("fill")
    (root / "in").mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
        picture.save(root / "in" / f"{number}.png")
        (root / "in" / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
    families.write("sd1", root / "sd1")
    path = bespoke.new(root / "my-style", root / "in", base=str(root / "sd1")).recipe
    path.write_text(path.read_text() + '\n[train]\nmixed_precision = "no"\nnum_class_images = 0\n')
    return path


def test_it_is_the_largest_that_fits_and_the_same_pictures_are_seen(recipe: Path, meter: Meter) -> None:
    whole = prepare(recipe)
    train = whole.recipe.train

    def bytes_at(batch: int) -> int:
        return meter(prepare(recipe, [f"train.train_batch_size={batch}"]).recipe).total

    limit = bytes_at(15)
    found, changes = filled(whole, limit, meter)
    new = found.recipe.train
    assert new.max_train_steps and train.max_train_steps and train.learning_rate
    assert new.train_batch_size == 15 and bytes_at(16) > limit
    assert [change.key for change in changes] == [
        "train.train_batch_size", "train.max_train_steps", "train.learning_rate",
    ]  # fmt: skip
    assert new.max_train_steps == round(train.max_train_steps * 8 / 15)
    assert new.learning_rate == pytest.approx(train.learning_rate * (15 / 8) ** 0.5)
    assert new.checkpointing_steps == new.max_train_steps // 4, "derived anew"
    assert all(change.why in found.reasons[change.key] for change in changes)


def test_what_the_person_said_of_rate_and_length_counts(recipe: Path, meter: Meter) -> None:
    asked = [
        "train.learning_rate=1e-4", "train.max_train_steps=100", "train.train_batch_size=2",
        "train.gradient_accumulation_steps=4",
    ]  # fmt: skip
    five = [*asked, "train.train_batch_size=5", "train.gradient_accumulation_steps=2"]
    limit = meter(prepare(recipe, five).recipe).total
    found, changes = filled(prepare(recipe, asked), limit, meter)
    new = found.recipe.train
    assert (new.train_batch_size, new.gradient_accumulation_steps) == (5, 2), "no fewer than eight pictures a step"
    assert (new.max_train_steps, new.learning_rate) == (80, 1e-4), "800 pictures are seen, ten a step"
    assert [change.after for change in changes] == [5, 2, 80]
    staged = recipe.with_name("staged.toml")
    staged.write_text(recipe.read_text() + "[[stage]]\nmax_train_steps = 40\n[[stage]]\nnum_train_epochs = 3\n")
    longer = _asked(prepare(staged, ["train.train_batch_size=2"]), 5)
    assert [stage.max_train_steps for stage in longer.stage] == [16, None], "80 pictures are seen in the first"
    with pytest.raises(BespokeError, match="Not even one picture"):
        filled(prepare(recipe), 600 * 2**20, meter)


def test_no_batch_is_larger_than_all_pictures(recipe: Path, meter: Meter) -> None:
    whole = prepare(recipe)
    found, changes = filled(whole, 2**45, meter)
    assert found.recipe.train.train_batch_size == len(whole.train)
    assert "all training pictures at once" in changes[0].why
    _few_steps(found, found.recipe)


def test_the_command_says_what_was_changed(recipe: Path) -> None:
    done = CliRunner().invoke(app, ["train", str(recipe), "--plan", "--fill", "670MB", "--json"])
    assert done.exit_code == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["memory"]["total"] <= made["limit"] == 670 * 2**20
    assert made["changes"][0]["key"] == "train.train_batch_size"
    assert made["recipe"]["train"]["train_batch_size"] == made["changes"][0]["after"] > 8
    said = CliRunner().invoke(app, ["train", str(recipe), "--plan", "--fill", "670MB", "--fit", "670MB"])
    assert said.exit_code == 2 and "Ask for one of them" in said.stderr
    if not torch.cuda.is_available():
        none = CliRunner().invoke(app, ["train", str(recipe), "--plan", "--fill", "all"])
        assert none.exit_code == 2 and "no GPU" in none.stderr
