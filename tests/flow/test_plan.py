"""`bespoke train --plan` and `--fit`: what is said before training, against what training then does."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pico import families
from PIL import Image
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.hardware import Machine, memory_size
from bespoke.pipeline.fitting import Meter, _variants, with_changes
from bespoke.pipeline.plan import fit_in
from bespoke.pipeline.prepare import prepare
from bespoke.recipe import load
from bespoke.training import Trainer, read

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
SMALL = """
[train]
max_train_steps = 8
mixed_precision = "no"
num_class_images = 0
use_ema = true
[validation]
strata = 1
early_stopping = false
[sample]
num_inference_steps = 1
sample_every_n_steps = 0
"""

pytestmark = pytest.mark.usefixtures("_each_variant_is_measured_once")


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project called my-style: pictures of two shapes."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "in").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        shape = (64, 64) if number % 2 else (100, 60)
        Image.fromarray(pixels).resize(shape, Image.Resampling.NEAREST).save(folder / "in" / f"{number}.png")
        (folder / "in" / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
    code, _, said = run("new", str(folder / "my-style"), "--images", str(folder / "in"))
    assert code == 0, said
    recipe = folder / "my-style" / "recipe.toml"
    recipe.write_text(recipe.read_text() + SMALL)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_plan_says_everything_and_writes_nothing(root: Path) -> None:
    before = files(root)
    code, out, said = run("train", str(root / "my-style" / "recipe.toml"), "--plan", "--json")
    assert code == 0, said
    made = json.loads(out)
    assert files(root) == before
    assert made["recipe"]["train"]["train_batch_size"] == 8 and "train.train_batch_size" in made["reasons"]
    assert made["steps"] == 8 and made["stages"] == [8] and made["pictures_per_step"] == 8
    assert made["epochs"] == pytest.approx(8 * 8 / made["pictures"])
    parts = ("frozen", "trained", "gradients", "optimizer", "average", "activations", "transient")
    assert sum(made["memory"][part] for part in parts) == made["memory"]["peak"]
    assert made["memory"]["average"] == made["memory"]["trained"] > 0
    assert made["seconds"] is None and "--time" in made["time_note"]


@pytest.fixture(scope="module")
def recipe(root: Path) -> Path:
    return root / "my-style" / "recipe.toml"


@pytest.fixture(scope="module")
def few(root: Path, recipe: Path) -> Path:
    """The same recipe for a model of few layers: each of them takes time to compute memory for."""
    families.write("sd1", root / "few-layers")
    path = recipe.with_name("few.toml")
    path.write_text(recipe.read_text().replace('base = "pico"', f'base = "{root / "few-layers"}"'))
    return path


@pytest.fixture(scope="module")
def meter(few: Path) -> Meter:
    """Estimates of that recipe."""
    prepared = prepare(few)
    return Meter(prepared.shown, prepared.start.checkpoint)


def test_what_leaves_the_result_as_it_is_is_changed_first(few: Path, meter: Meter) -> None:
    whole = prepare(few)
    needed = meter(whole.recipe).total
    assert fit_in(whole, needed, meter) == (whole, ())
    saved, changes = fit_in(whole, needed - 1, meter)
    assert [change.key for change in changes] == ["train.gradient_checkpointing"]
    assert meter(saved.recipe).total < needed
    less, _ = fit_in(whole, meter(saved.recipe).total - 1, meter)
    assert meter(less.recipe).total < meter(saved.recipe).total
    train = less.recipe.train
    assert train.gradient_checkpointing and train.train_batch_size == 4 and train.gradient_accumulation_steps == 2
    assert train.max_train_steps == whole.recipe.train.max_train_steps, "as many pictures a step, as many steps"
    assert "to fit in" in less.reasons["train.train_batch_size"]


def test_sixteen_bits_come_last_and_only_where_the_device_is_made_for_them(recipe: Path) -> None:
    plain = prepare(recipe).recipe
    slow = Machine("cpu", "any", 2, 8.0, bf16=False)
    tried = list(_variants(plain, slow))
    assert [[c.after for c in changes if c.key == "train.train_batch_size"] for changes in tried] == [
        [], [], [4], [2], [1],
    ]  # fmt: skip
    fast = list(_variants(plain, replace(slow, bf16=True)))
    assert fast[: len(tried)] == tried and len(fast) == 2 * len(tried)
    last = with_changes(plain, fast[-1])
    assert (last.train.mixed_precision, last.model.weight_dtype) == ("bf16", "bf16")
    old = list(_variants(plain, replace(slow, device="cuda")))
    assert with_changes(plain, old[-1]).train.mixed_precision == "fp16"
    card = replace(slow, device="cuda", bf16=True)
    whole = prepare(recipe, ['model.method="full"']).recipe
    assert with_changes(whole, list(_variants(whole, card))[-1]).train.offload_optimizer, "at the very last"
    assert sum(with_changes(whole, changes).train.offload_optimizer for changes in _variants(whole, card)) == 5
    assert not any(with_changes(plain, changes).train.offload_optimizer for changes in _variants(plain, card))


def test_where_nothing_fits_it_says_what_would(few: Path, meter: Meter) -> None:
    def least(*words: str) -> int:
        """The bytes that it takes when everything was changed that may be."""
        asked = prepare(few, words).recipe
        return meter(with_changes(asked, list(_variants(asked, meter.here))[-1])).total

    limit = f"{least('model.method=full') / 2**20 - 0.01:.3f}MB"
    code, _, said = run("train", str(few), "--plan", "--fit", limit, "--set", "model.method=full")
    assert code == 2 and "one picture at a time" in said
    assert '--set model.method="lora"' in said
    large = ["data.upscale=true", "data.resolution=512"]
    enough = least("data.upscale=true", "data.resolution=256")
    with pytest.raises(BespokeError, match=r"A LoRA of .*few-layers takes") as caught:
        fit_in(prepare(few, large), enough, meter)
    (side,) = re.findall(r"--set data\.resolution=(\d+)", caught.value.hint)
    assert 256 <= int(side) < 512
    smaller, _ = fit_in(prepare(few, [*large, f"data.resolution={side}"]), enough, meter)
    assert meter(smaller.recipe).total <= enough
    with pytest.raises(BespokeError) as caught:
        fit_in(prepare(few), 100 * 2**20, meter)
    assert "No setting makes it fit" in caught.value.hint


@pytest.mark.parametrize(("text", "size"), [("12GB", 12 * 2**30), ("1.5 gib", 3 * 2**29), ("800M", 800 * 2**20)])
def test_sizes(text: str, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["12", "12 apples", "GB", "0GB", "-3GB", "12GBB", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BespokeError, match="size of memory"):
        memory_size(text)


def test_what_does_not_go_together_is_refused(recipe: Path) -> None:
    assert run("train", str(recipe), "--plan", "--fit", "12 GBs")[0] == 2
    assert "12GB" in run("train", str(recipe), "--plan", "--fit", "twelve")[2]
    assert "--plan" in run("train", str(recipe), "--time")[2]
    assert "nothing to plan" in run("train", "--resume", "runs/x", "--plan")[2]


def test_running_out_of_memory_is_explained(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that asks for what no machine has an address to give."""
    monkeypatch.setattr(Trainer, "step", lambda *_: torch.empty(10**15))
    code, _, said = run("train", str(recipe))
    assert code == 2, said
    assert "There is not enough memory. This training takes about" in said
    assert "train.gradient_checkpointing = true; train.train_batch_size = 1" in said and "--fit" in said


def test_the_commands_of_the_docs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"^## Plan and memory\n(.*?)(?=^## )", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("bespoke ")]
    plan, fit_plan, timed, trained, fill_plan = lines
    monkeypatch.chdir(root)
    words = run(*shlex.split(plan)[1:])[1]
    for part in ("What the recipe leaves open", "frozen weights", "optimizer (AdamW)", "disk", "not measured"):
        assert part in words
    assert "Changed for this size" in run(*shlex.split(fit_plan)[1:])[1]
    assert "train.train_batch_size" in run(*shlex.split(fill_plan)[1:])[1].partition("Changed for this size")[2]
    assert re.search(r"time +[\d.]+ minutes, [\d.]+ s a step", run(*shlex.split(timed)[1:])[1])
    made = bespoke.plan("my-style/recipe.toml", fit=shlex.split(trained)[-1])
    code, out, said = run(*shlex.split(trained)[1:], "--json")
    assert code == 0, said
    assert "gradient_checkpointing = true" in said
    run_folder = root / json.loads(out)["run"]
    assert load(run_folder / "recipe.toml") == made.recipe and made.recipe.train.spare_memory, "also when it goes on"
    assert "# to fit in" in (run_folder / "recipe.toml").read_text()
    assert [e for e in read(run_folder / "metrics.jsonl") if e["event"] == "step"][-1]["step"] == made.length.steps
    written = [path for path in run_folder.rglob("*.safetensors") if "samples" not in path.parts]
    assert made.disk.total / 2 < sum(path.stat().st_size for path in written) <= made.disk.total
