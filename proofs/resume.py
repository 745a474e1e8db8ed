"""Kill trainings with SIGKILL at every step of 40 and at random moments of saving, `python -m proofs.resume`.

Each killed training is resumed to its end and must leave the very bytes of one that nobody disturbed: weights,
optimizer, average and metrics. Every fifth kill falls into a validation, every third between the two passes of a step.
The processes are forked from a parent that has read everything, so that each costs only its steps.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from bespoke import data
from bespoke.diffusion import Schedule
from bespoke.models import Checkpoint, find, tuned
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.processes import accelerator
from bespoke.pipeline.reporting import silent
from bespoke.recipe import Recipe, parse
from bespoke.training import Material, Trainer, state
from bespoke.training.batch import Batch, Undrawn
from bespoke.training.window import Window
from bespoke.workspace import Project, Run, verified
from proofs import results

STEPS = 40
METHODS: dict[str, dict[str, Any]] = {"lora": {"rank": 4, "alpha": 4}, "full": {"method": "full", "alpha": 16}}
FILES = ("weights.safetensors", "optimizer.safetensors", "average.safetensors", "state.json")


def recipe(method: str) -> Recipe:
    """A short training in which an epoch is five steps of two passes, with all that a state holds."""
    content = {
        "model": METHODS[method],
        "data": {"resolution": 64},
        "train": {
            "max_train_steps": STEPS, "train_batch_size": 1, "gradient_accumulation_steps": 2, "learning_rate": 1e-4,
            "lr_warmup_steps": 4, "mixed_precision": "no", "use_ema": True, "checkpointing_steps": 8,
            "checkpoints_total_limit": 2, "num_class_images": 0, "log_every": 1, "save_every_n_epochs": 0,
        },
        "validation": {"validation_steps": 4, "strata": 2, "early_stopping": False},
    }  # fmt: skip
    return parse(content, "the proof's recipe")


class World:
    """What all trainings share, read once."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint: Checkpoint = find("pico")
        source, project = folder / "in", Project(folder / "project")
        source.mkdir()
        for number in range(12):
            picture = Image.new("RGB", (64, 64), (20 * number, 255 - 20 * number, 90))
            ImageDraw.Draw(picture).regular_polygon(
                (32, 32, 10 + number), 3 + number, fill=(250 - 20 * number, 40, 200)
            )
            picture.save(source / f"{number}.png")
            (source / f"{number}.txt").write_text(f"a thing with {3 + number} corners")
        settings = recipe("lora")
        dataset = data.build(source, project.root / "dataset", settings)
        self.material: Material = Encoder(project, self.checkpoint, settings, silent).material(
            dataset, project.root / "dataset"
        )

    def trainer(self, root: Path, method: str) -> Trainer:
        """A fresh training in a folder, or the one that is there, as its newest state has it."""
        settings, run = recipe(method), Run(root)
        made = Trainer(
            tuned(self.checkpoint, settings),
            self.material,
            Schedule.from_config(self.checkpoint.scheduler_config),
            settings,
            run,
            accelerator(settings.train),
        )
        newest = state.newest(run)
        if newest:
            made.restore(newest)
        return made

    def finish(self, root: Path, method: str) -> None:
        """Trains what is there to its end."""
        for _ in self.trainer(root, method).fit():
            pass


def forked(work: Callable[[], None]) -> int:
    """The number of a process that does some work and leaves."""
    process = os.fork()
    if process:
        return process
    try:
        work()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - a forked process must not go on with its parent's work
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def suicide_at(trainer: Trainer, step: int) -> None:
    """Arranges that SIGKILL falls within a step: before its first pass, between its passes, or within a validation."""
    in_validation = step % 5 == 0

    def die_if(due: bool) -> None:  # noqa: FBT001 - a wish, not a setting
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    def measuring(module: torch.nn.Module, _: object) -> None:
        die_if(in_validation and not module.training and trainer.progress.step >= step)

    trainer.bare.register_forward_pre_hook(measuring)
    plain, last = trainer.loader.batch, 2 * (step - 1) + (step % 3 == 0)

    def batch(turn: int) -> Batch | Undrawn:
        die_if(not in_validation and turn >= last)
        return plain(turn)

    trainer.loader.batch = batch


def ended(process: int) -> int:
    """The exit code of a process; minus the number of the signal that killed it."""
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def left(root: Path, method: str) -> dict[str, bytes]:
    """What a finished training leaves behind, byte for byte."""
    weights = (
        [Path("last/adapter.safetensors")]
        if method == "lora"
        else [Path("last/unet/diffusion_pytorch_model.safetensors")]
    )
    files = [*weights, *(Run(root).state(STEPS).relative_to(root) / name for name in FILES)]
    return {str(file): (root / file).read_bytes() for file in files}


def every_step(
    world: World, method: str, folder: Path, steps: Sequence[int], note: Callable[[str], None]
) -> dict[str, int]:
    """Kills one training at each step, and counts those that ended in the same bytes."""
    whole = folder / f"{method}-whole"
    assert ended(forked(lambda: world.finish(whole, method))) == 0
    wanted, same = left(whole, method), 0
    for done, step in enumerate(steps, start=1):
        root = folder / f"{method}-{step}"

        def die(root: Path = root, step: int = step) -> None:
            trainer = world.trainer(root, method)
            suicide_at(trainer, step)
            list(trainer.fit())

        assert ended(forked(die)) == -signal.SIGKILL, f"step {step} was not killed"
        assert ended(forked(partial(world.finish, root, method))) == 0
        same += left(root, method) == wanted
        shutil.rmtree(root)
        note(f"{method}: {same} of {done} ended in the same bytes")
    return {"kills": len(steps), "same bytes": same}


def while_saving(world: World, folder: Path, kills: int, note: Callable[[str], None]) -> dict[str, int]:
    """Kills a process that does nothing but save, at random moments; after each the newest state must be readable."""
    root, rng, good, fell = folder / "saving", random.Random(0), 0, 0
    for number in range(1, kills + 1):

        def save() -> None:
            trainer = world.trainer(root, "lora")
            next(iter(trainer.fit()))
            while True:
                trainer.step(Window(torch.device("cpu")))
                trainer._save()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

        process, began = forked(save), len(Run(root).states())
        deadline = time.monotonic() + 60
        while len(Run(root).states()) <= min(began, 1) and number == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3 + rng.random())
        os.kill(process, signal.SIGKILL)
        ended(process)
        fell += bool(list(root.glob(".*.tmp")))
        for debris in root.glob(".*.tmp"):
            shutil.rmtree(debris) if debris.is_dir() else debris.unlink()
        newest = state.newest(Run(root))
        if newest and verified(newest):
            world.trainer(root, "lora")
            good += all(verified(folder) for folder in Run(root).states())
        note(f"saving: {good} of {number} left every state whole, {fell} fell into the writing")
    return {"kills": kills, "all states whole": good, "fell into the writing": fell}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="kill at every so many steps")
    parser.add_argument("--kills", type=int, default=200, help="moments of saving")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has none of its parent's threads

    def note(line: str) -> None:
        sys.stderr.write(f"\r{line}  ")

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = World(folder)
        steps = range(1, STEPS + 1, options.every)
        figures: dict[str, Any] = {method: every_step(world, method, folder, steps, note) for method in METHODS}
        figures["saving"] = while_saving(world, folder, options.kills, note)
    sys.stderr.write("\n")
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    results.write("resume", figures)
    complete = all(figures[m]["same bytes"] == figures[m]["kills"] for m in METHODS)
    sys.exit(0 if complete and figures["saving"]["all states whole"] == options.kills else 1)


if __name__ == "__main__":
    main()
