"""One training of pictures of two shapes shared by two processes: the same pictures and noise, so the same losses."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import bespoke
from bespoke.pipeline.train import resume

STEPS = 3
SETTINGS = (
    f"train.max_train_steps={STEPS}", f"train.checkpointing_steps={STEPS - 1}", "train.num_class_images=0",
    "train.log_every=1",
    # bfloat16, which some machines take by default, rounds a batch otherwise than its halves.
    'train.mixed_precision="no"',
    # With strata of an odd number the processes measure unequally much.
    "validation.validation_steps=2", "validation.strata=3", "data.validation_fraction=0.25",
    # The main process draws the first and the last column, and the other one waits.
    f"sample.sample_every_n_steps={STEPS}", "sample.num_inference_steps=1",
)  # fmt: skip
WAYS = {
    "whole": (),
    # Of a pass, one process may have pictures with masks and the other none.
    "masked": (
        "train.masked_training=true", "train.masked_prior_preservation_weight=1", "train.unmasked_probability=0.3",
    ),
}  # fmt: skip


def project(folder: Path) -> Path:
    source = folder / "in"
    source.mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        size = (64, 64) if number % 2 else (100, 60)
        Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
        if number % 4 < 2:
            mask = Image.new("L", size)
            mask.paste(255, (8, 8, 40, 52))
            mask.save(source / f"{number}-masklabel.png")
    return bespoke.new(folder / "project", source, overrides=SETTINGS).project


def weights(root: Path) -> dict[str, bytes]:
    """All files of weights, byte for byte: the last, the best, the states."""
    (run,) = (root / "runs").iterdir()
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*.safetensors")}


def rows(root: Path) -> list[dict[str, float]]:
    (run,) = (root / "runs").iterdir()
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


OTHERWISE = """
import os, sys, bespoke
recipe, *settings = sys.argv[1:]
bespoke.train(recipe, [*settings, *(['train.mixed_precision="bf16"'] if os.environ["RANK"] == "1" else [])])
"""
"""A process that is not the first and derived another number format, as where a measurement decided otherwise."""


def command(root: Path, way: tuple[str, ...], *launcher: str) -> list[str]:
    settings = (*SETTINGS, *way, "train.train_batch_size=2")
    words = [
        "-m",
        "bespoke",
        "train",
        str(root / "recipe.toml"),
        "--json",
        *(w for s in settings for w in ("--set", s)),
    ]
    if way:
        (root / "otherwise.py").write_text(OTHERWISE)
        words = [str(root / "otherwise.py"), str(root / "recipe.toml"), *settings]
    return [sys.executable, "-m", "torch.distributed.run", *launcher, *words]


def shared_by_two(root: Path, way: tuple[str, ...]) -> None:
    """Masked, one of them would compute in another format by itself, and takes the other's."""
    done = subprocess.run(
        command(root, way, "--nproc-per-node", "2", "--standalone"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def shared_by_two_machines(root: Path) -> None:
    """Two launchers that know each other by an address only, as on two machines; they are one and share its disk."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test")
    words = command(root, (), "--nnodes", "2", "--nproc-per-node", "1", *meeting, "--local-addr", "127.0.0.1")
    with tempfile.TemporaryFile("w+") as said:
        both = [subprocess.Popen(words, stdout=said, stderr=said) for _ in range(2)]
        codes = [each.wait(600) for each in both]
        said.seek(0)
        assert codes == [0, 0], said.read()


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_and_measure_as_one(tmp_path: Path, way: str) -> None:
    one, two = project(tmp_path / "one"), project(tmp_path / "two")
    bespoke.train(one / "recipe.toml", (*SETTINGS, *WAYS[way], "train.train_batch_size=4"))
    shared_by_two(two, WAYS[way])
    if way == "whole":
        three = project(tmp_path / "three")
        shared_by_two_machines(three)
        assert weights(three) == weights(two)
    alone, shared = rows(one), rows(two)
    for event, key, least in (
        ("validated", "loss", 3), ("step", "loss", 2), ("step", "gradient_norm", 2), ("covered", "coverage", 1),
    ):  # fmt: skip
        pairs = [[row[key] for row in rows if row["event"] == event] for rows in (alone, shared)]
        assert len(pairs[0]) >= least
        assert pairs[1] == pytest.approx(pairs[0], rel=1e-4)
    measures_the_same(alone, shared)
    goes_on_alone(two, shared, each=way == "whole")


def measures_the_same(alone: list[dict[str, float]], shared: list[dict[str, float]]) -> None:
    """All that a measurement says: each process measured a part, and knows the others'."""
    pairs = [[row for row in rows if row["event"] == "validated"] for rows in (alone, shared)]
    assert pairs[0][-1]["log_ratio"] != 0.0
    for ours, theirs in zip(*pairs, strict=True):
        assert (ours["step"], ours["best"]) == (theirs["step"], theirs["best"])
        assert ours["others"] == pytest.approx(theirs["others"], abs=1e-5)
        for key in ("log_ratio", "bands", "gap"):
            assert ours[key] == pytest.approx(theirs[key], abs=1e-5), key


def goes_on_alone(root: Path, shared: list[dict[str, float]], *, each: bool) -> None:
    """The run of two processes, as if killed in its last step, is ended by one process, which takes whole passes.

    Around masks a fresh adapter has almost no gradient, which AdamW's steps divide by: there the rounding of another
    batch size shows in single weights, so not `each` of them is compared, but all together.
    """
    (run,) = (root / "runs").iterdir()
    before = load_file(run / "last" / "adapter.safetensors")
    (run / "result.json").unlink()
    shutil.rmtree(run / "state" / f"step-{STEPS:06d}")
    resume(run)
    for event, key in (("step", "loss"), ("validated", "loss"), ("covered", "pictures")):
        ours, theirs = ([row for row in told if row["event"] == event] for told in (rows(root), shared))
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert ours[-1][key] == pytest.approx(theirs[-1][key], rel=1e-4)
    after = load_file(run / "last" / "adapter.safetensors")
    assert after.keys() == before.keys()
    if each:
        assert all(torch.allclose(after[name], before[name], rtol=1e-3, atol=1e-6) for name in after)
    grown = [name for name in before if ".up." in name]  # they begin at nothing
    ours, theirs = (torch.cat([held[name].flatten() for name in grown]) for held in (after, before))
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()
