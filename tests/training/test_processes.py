"""One training of pictures of two shapes shared by two processes: the same pictures and noise, so the same losses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

STEPS = 3


def project(folder: Path) -> Path:
    source = folder / "in"
    source.mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        size = (64, 64) if number % 2 else (100, 60)
        Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
    command = [sys.executable, "-m", "bespoke", "new", str(folder / "project"), "--images", str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "project"


def losses(root: Path, batch: int, *launcher: str) -> list[dict[str, float]]:
    settings = {"max_train_steps": STEPS, "train_batch_size": batch, "num_class_images": 0, "log_every": 1}
    settings["checkpointing_steps"] = STEPS - 1
    # bfloat16, which some machines take by default, rounds a batch otherwise than its halves.
    flags = ["--set", "train.mixed_precision=no"]
    flags += [part for key, value in settings.items() for part in ("--set", f"train.{key}={value}")]
    command = [sys.executable, *launcher, "-m", "bespoke", "train", str(root / "recipe.toml"), "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = (root / "runs").iterdir()
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    alone = losses(project(tmp_path / "one"), 4)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    shared = losses(project(tmp_path / "two"), 2, *launcher)
    for event, key, least in (
        ("validated", "loss", 2), ("step", "loss", 2), ("step", "gradient_norm", 2), ("covered", "coverage", 1),
    ):  # fmt: skip
        pairs = [[row[key] for row in rows if row["event"] == event] for rows in (alone, shared)]
        assert len(pairs[0]) >= least
        assert pairs[1] == pytest.approx(pairs[0], rel=1e-4)
    goes_on_alone(tmp_path / "two" / "project", shared)


def goes_on_alone(root: Path, shared: list[dict[str, float]]) -> None:
    """The run of two processes, as if killed in its last step, is ended by one process, which takes whole passes."""
    (run,) = (root / "runs").iterdir()
    before = load_file(run / "last" / "adapter.safetensors")
    (run / "result.json").unlink()
    shutil.rmtree(run / "state" / f"step-{STEPS:06d}")
    command = [sys.executable, "-m", "bespoke", "train", "--resume", str(run), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for event, key in (("step", "loss"), ("validated", "loss"), ("covered", "pictures")):
        ours, theirs = ([row for row in told if row["event"] == event] for told in (rows, shared))
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert ours[-1][key] == pytest.approx(theirs[-1][key], rel=1e-4)
    after = load_file(run / "last" / "adapter.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.allclose(after[name], before[name], rtol=1e-3, atol=1e-6) for name in after)
