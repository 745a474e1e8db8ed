"""The Slurm example: stopped before its time is over, put back in the queue, and gone on with."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bespoke.pipeline.new import new
from bespoke.training import read, state
from bespoke.workspace import Run

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "train.sbatch"
SETTINGS = """
[train]
max_train_steps = 24
train_batch_size = 1
num_class_images = 0
log_every = 1
[validation]
validation_steps = 24
strata = 1
early_stopping = false
[sample]
sample_every_n_steps = 0
[track]
mlflow = false
tensorboard = false
"""
PATIENCE = 180.0

pytestmark = pytest.mark.skipif(not shutil.which("bash") or os.name == "nt", reason="Slurm's scripts are for bash")


@pytest.fixture
def pictures(tmp_path):
    """Seven pictures that differ, with captions."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
    return folder


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def submitted(folder):
    """The script as Slurm starts it; `scontrol` only notes what it was asked for."""
    program(folder / "bin", "scontrol", f'echo "$@" >>"{folder}/asked"')
    program(folder / "bin", "bespoke", f'exec "{sys.executable}" -m bespoke "$@"')
    known = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "77", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(["bash", SCRIPT, "project"], cwd=folder, env={**os.environ, **known})


def steps(folder):
    return [row["step"] for run in folder.glob("project/runs/*") for row in read(Run(run).metrics) if row["step"]]


def test_it_is_a_script():
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0


@pytest.mark.slow
def test_a_job_saves_before_its_time_is_over_and_goes_on_when_its_turn_comes(tmp_path, pictures):
    made = new(tmp_path / "project", pictures)
    made.recipe.write_text(made.recipe.read_text() + SETTINGS)
    job, deadline = submitted(tmp_path), time.monotonic() + PATIENCE
    while not steps(tmp_path):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(PATIENCE) == 0
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    (root,) = (tmp_path / "project" / "runs").iterdir()
    saved = state.newest(Run(root))
    assert saved is not None and not Run(root).result.exists()

    assert submitted(tmp_path).wait(PATIENCE) == 0
    assert [folder.name for folder in (tmp_path / "project" / "runs").iterdir()] == [root.name]
    assert Run(root).result.exists() and sorted(set(steps(tmp_path))) == list(range(1, 25))
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert not (tmp_path / "project" / ".slurm-77").exists()


def test_what_the_person_must_mend_is_not_put_back_in_the_queue(tmp_path):
    (tmp_path / "project").mkdir()
    assert submitted(tmp_path).wait(PATIENCE) == 2
    assert not (tmp_path / "asked").exists()
