"""A training on a Ray cluster: a process killed, a Ctrl-C, gone on with; it ends bit for bit as it does without Ray."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from tests.training.test_processes import project

STEPS, EVERY = 60, 3
SETTINGS = [
    f"train.max_train_steps={STEPS}", f"train.checkpointing_steps={EVERY}", "train.num_class_images=0",
    "train.train_batch_size=1", "train.log_every=1", 'train.mixed_precision="no"', "train.use_ema=true",
    "train.checkpoints_total_limit=50", "train.save_every_n_epochs=0",
    f"validation.validation_steps={STEPS}", "validation.strata=1", "validation.probe=false",
    "data.validation_fraction=0.25", "sample.sample_every_n_steps=0", "track.mlflow=false", "track.tensorboard=false",
]  # fmt: skip
SET = [part for setting in SETTINGS for part in ("--set", setting)]
PATIENCE = 900.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two projects alike; the first is trained by two processes without Ray."""
    folder = tmp_path_factory.mktemp("on-ray")
    plain = project(folder / "plain")
    shutil.copytree(plain, folder / "ray")
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "bespoke", "train")
    subprocess.run([sys.executable, "-m", *launcher, str(plain / "recipe.toml"), *SET], check=True, capture_output=True)
    return folder


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A training on a cluster of its own, whose processes are not put behind those of others."""
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "bespoke", "train", *words, "--ray", "--workers", "2", "--json"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def states(run: Path) -> list[int]:
    return sorted(int(folder.name.removeprefix("step-")) for folder in run.glob("state/step-*"))


def workers(process: subprocess.Popen[str]) -> Iterable[psutil.Process]:
    """Those of the group that train, by the name that Ray gives them."""
    return [
        p for p in psutil.Process(process.pid).children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())
    ]


def weights(run: Path) -> dict[str, bytes]:
    """Files of weights, byte for byte; of states the last, for one of a stop is nowhere else."""
    paths = [p for p in run.rglob("*.safetensors") if "state" not in p.parts or p.parent.name == f"step-{STEPS:06d}"]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_killed_and_stopped_it_goes_on_and_ends_in_the_bits_of_a_training_without_ray(root: Path) -> None:
    process = started(root, "ray/recipe.toml", *SET)
    until(lambda: [run for run in root.glob("ray/runs/*") if states(run)], process)
    (run,) = root.glob("ray/runs/*")
    killed = list(workers(process))
    assert len(killed) == 2
    killed[-1].send_signal(signal.SIGKILL)
    known = states(run)[-1]
    until(
        lambda: states(run)[-1] > known and not any(p.pid in {k.pid for k in killed} for p in workers(process)), process
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert not out and f"bespoke train --resume {run} --ray" in err
    assert not (run / "result.json").exists() and states(run)[-1] < STEPS

    process = started(root, "--resume", str(run))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["steps"] == STEPS and (root / told["run"]).resolve() == run
    assert "train" in err and "ray: 2 processes" in err
    (plain,) = root.glob("plain/project/runs/*")
    assert weights(run) == weights(plain) and len(weights(run)) >= 4
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["event"] == "step"] == list(range(1, STEPS + 1))
    assert {p.name for p in run.iterdir()} == {p.name for p in plain.iterdir()}
    assert not (root / "ray" / "cache" / "ray" / run.name).exists()


@pytest.mark.slow
def test_what_is_wrong_is_told_before_a_run_is_there(root: Path) -> None:
    before = sorted(root.glob("ray/runs/*"))
    process = started(root, "ray/recipe.toml", *SET, "--set", "train.optimizer=lion", "--set", 'train.sharding="full"')
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "does not go together with" in err
    assert sorted(root.glob("ray/runs/*")) == before


def test_options_of_a_cluster_belong_to_it() -> None:
    from typer.testing import CliRunner

    from bespoke.cli.commands import app

    done = CliRunner().invoke(app, ["train", "recipe.toml", "--workers", "2"])
    assert done.exit_code == 2
