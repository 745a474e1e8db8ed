"""One training of pictures of two shapes shared by two processes: the same pictures and noise, so the same losses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
