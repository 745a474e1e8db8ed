"""Weights shared out between two processes: the losses, weights and files are those of processes that have copies."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_processes import project

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.naming import Named
from bespoke.pipeline.train import check_network, resume
from bespoke.recipe import Recipe, parse

JOBS = """
import json, sys
from pathlib import Path
from accelerate import PartialState
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.processes import agreed, is_main
from bespoke.pipeline.train import begun, carried_out, resume, train
from bespoke.workspace import Run

class Until:
    def __init__(self, last):
        self.last, self.step = last, 0
    def __call__(self, event):
        self.step = event.step
    def wish(self):
        return "enough" if self.step >= self.last else None

for job in json.loads(sys.argv[1]):
    recipe = Path(job["project"]) / "recipe.toml"
    if "until" not in job:
        train(recipe, job["settings"])
        continue
    made = prepare(recipe, job["settings"])
    run = Run(agreed(lambda: begun(made).root))
    assert carried_out(run, lambda *_: None, Until(job["until"])) is None
    if is_main():
        run.recipe.write_text(run.recipe.read_text().replace('sharding = "full"', f'sharding = "{job["then"]}"'))
    PartialState().wait_for_everyone()
    resume(run.root)
"""
STAGES = """
[[stage]]
max_train_steps = 2
[[stage]]
max_train_steps = 3
start = "best"
"""
LAST = 5
STOPPED = "step-000003"
"""The state of those that are stopped, which is within the second stage."""
SETTINGS = (
    f"train.max_train_steps={LAST}", "train.checkpointing_steps=2", "train.num_class_images=0", "train.log_every=1",
    'train.mixed_precision="no"', "train.max_grad_norm=0.01", "train.save_every_n_epochs=1", "train.use_ema=true",
    "validation.validation_steps=2", "validation.strata=1", "data.validation_fraction=0.25",
    "track.mlflow=false", "track.tensorboard=false", "sample.sample_every_n_steps=2",
)  # fmt: skip
DRAWN = "sample.num_inference_steps=1"
TWO, SHARDED = "train.train_batch_size=2", 'train.sharding="full"'
FULL = ('model.method="full"', "train.train_text_encoder=true", "train.gradient_checkpointing=true")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project for each training; all trainings of two processes are made in one launch."""
    folder = tmp_path_factory.mktemp("sharding")
    base = project(folder / "base")
    recipe = (base / "recipe.toml").read_text() + STAGES
    (base / "recipe.toml").write_text(recipe)
    bespoke.train(base / "recipe.toml", (*SETTINGS, DRAWN, "train.train_batch_size=4"))
    jobs = [
        {"project": "copied", "settings": [*SETTINGS, DRAWN, TWO]},
        {"project": "sharded", "settings": [*SETTINGS, DRAWN, TWO, SHARDED]},
        {"project": "again", "settings": [*SETTINGS, DRAWN, TWO, SHARDED], "until": 2, "then": "full"},
        {"project": "otherwise", "settings": [*SETTINGS, DRAWN, TWO, SHARDED], "until": 2, "then": "none"},
        {"project": "full copied", "settings": [*SETTINGS, DRAWN, TWO, *FULL]},
        {"project": "full sharded", "settings": [*SETTINGS, DRAWN, TWO, *FULL, SHARDED]},
    ]
    for job in jobs:
        shutil.copytree(base, folder / str(job["project"]), ignore=shutil.ignore_patterns("runs"))
        job["project"] = str(folder / str(job["project"]))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    (folder / "jobs.py").write_text(JOBS)
    done = subprocess.run([*command, str(folder / "jobs.py"), json.dumps(jobs)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-9000:]
    return folder


def run_of(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def told(folder: Path, event: str, key: str) -> list[float]:
    """What the events of a kind say, one for each step that has any."""
    rows = [json.loads(line) for line in (run_of(folder) / "metrics.jsonl").read_text().splitlines()]
    return [row[key] for row in rows if row["event"] == event]


def files(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All that was written of weights: the best, the last, those of epochs, states but those of a stop."""
    run = run_of(folder)
    paths = [path for path in run.rglob("*.safetensors") if path.parent.name != STOPPED]
    found = {path.relative_to(run).as_posix(): load_file(path) for path in paths}
    assert f"state/step-{LAST:06d}/average.safetensors" in found and any("checkpoints" in name for name in found)
    return found


def the_same(one: Path, other: Path, most: float) -> None:
    """The same files of the same tensors, whose values are at most so far apart; 0 is bit for bit."""
    ours, theirs = files(one), files(other)
    assert ours.keys() == theirs.keys()
    for name, tensors in ours.items():
        assert tensors.keys() == theirs[name].keys()
        for key, value in tensors.items():
            assert value.shape == theirs[name][key].shape and value.dtype == theirs[name][key].dtype
            assert (value - theirs[name][key]).abs().max() <= most, (name, key)


def nearly(one: Path, other: Path) -> None:
    """The same events, but for rounding: sums of gradients and norms are added up in another order."""
    for event, key, least in (("step", "loss", 5), ("step", "gradient_norm", 5), ("step", "weight_norm", 5)):
        pair = told(one, event, key), told(other, event, key)
        assert len(pair[0]) == least and pair[1] == pytest.approx(pair[0], rel=1e-5), key
    for key in ("log_ratio", "loss"):
        pair = told(one, "validated", key), told(other, "validated", key)
        assert len(pair[0]) >= 3 and pair[1] == pytest.approx(pair[0], rel=1e-5, abs=1e-5), key


# Adam divides each gradient by its own size, so that where that is next to nothing, rounding moves a weight. The rates
# are 1.5e-3 and 1e-4, the most that a step moves a weight; the bounds are a hundredth of that.
BOUNDS = {"": 1.5e-5, "full ": 1e-6}


@pytest.mark.parametrize("kind", ["", "full "], ids=["lora", "full"])
def test_two_that_share_the_weights_do_what_two_with_copies_do(root: Path, kind: str) -> None:
    copied, sharded = root / f"{kind}copied", root / f"{kind}sharded"
    nearly(copied, sharded)
    the_same(copied, sharded, BOUNDS[kind])
    assert max(told(copied, "step", "gradient_norm")) > 0.01  # they were shortened
    assert max(map(abs, told(copied, "validated", "log_ratio"))) > 1e-3


def test_they_do_what_one_process_does(root: Path) -> None:
    alone = root / "base" / "project"
    nearly(alone, root / "sharded")
    the_same(alone, root / "sharded", BOUNDS[""])


def test_stopped_and_resumed_they_end_bit_for_bit_where_they_would_have_ended(root: Path) -> None:
    for key in ("loss", "gradient_norm", "weight_norm"):
        assert told(root / "again", "step", key) == told(root / "sharded", "step", key)
    assert (run_of(root / "again") / "state" / STOPPED).is_dir()
    the_same(root / "again", root / "sharded", 0.0)


def test_a_run_goes_on_with_copies_or_alone(root: Path, tmp_path: Path) -> None:
    nearly(root / "otherwise", root / "sharded")
    the_same(root / "otherwise", root / "sharded", BOUNDS[""])
    alone = run_of(Path(shutil.copytree(root / "sharded", tmp_path / "alone")))
    (alone / "result.json").unlink()
    for step in (LAST, LAST - 1):
        shutil.rmtree(alone / f"state/step-{step:06d}", ignore_errors=True)
    said: list[tuple[str, str]] = []
    resume(alone, report=lambda stage, done, total, note="": said.append((stage, note)))
    assert ("sharding", "there is one process, which holds all of the weights") in said
    nearly(tmp_path / "alone", root / "sharded")
    the_same(tmp_path / "alone", root / "sharded", BOUNDS[""])


def test_pictures_are_drawn_where_a_process_has_the_whole_network(root: Path) -> None:
    drawn = {name: len(list(run_of(root / name).glob("samples/progress/*/*.png"))) for name in ("copied", "sharded")}
    assert drawn["copied"] and not drawn["sharded"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "optimizer", "adafactor"),
        ("train", "mixed_precision", "fp16"),
        ("train", "max_adapter_norm", 1.0),
        ("model", "init", "pissa"),
        ("words", "train", True),
        ("model", "quantization", "nf4"),
        ("train", "masked_prior_preservation_weight", 1.0),
        ("train", "regularisation_target", "base"),
    ],
)
def test_what_does_not_work_with_shards_is_refused_before_anything_is_done(
    section: str, key: str, value: object
) -> None:
    content = {"train": {"sharding": "full"}}
    content.setdefault(section, {})[key] = value
    with pytest.raises(BespokeError, match="does not go together with") as caught:
        check_network(named(), parse(content, "recipe.toml"))
    assert key in caught.value.problem and 'train.sharding = "none"' in caught.value.hint


def named() -> Named:
    return Named("pico", find("pico"), None)


def test_without_shards_nothing_is_refused() -> None:
    check_network(named(), Recipe.model_validate({"train": {"max_adapter_norm": 1.0}}))
