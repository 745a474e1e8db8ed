"""A recipe turned into an adapter: dataset read, everything encoded, the adapter trained, each event shown and kept."""

import json
import math
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from bespoke import data, training
from bespoke import recipe as recipes
from bespoke.errors import BespokeError, Interrupted
from bespoke.hardware import machine
from bespoke.models import Checkpoint, adapters
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.naming import base_of
from bespoke.pipeline.processes import accelerator, agreed, is_main, main_first
from bespoke.pipeline.reporting import Reporter, Stopwatch, silent
from bespoke.pipeline.signals import StopWish, stop_wish
from bespoke.records import Dataset
from bespoke.text import common_trigger
from bespoke.training import Material, Stopped, Trainer, state
from bespoke.workspace import Project, Run, write_json, write_text


@dataclass(frozen=True)
class Trained:
    """What a training left behind."""

    run: Path
    adapter: Path
    steps: int
    best_step: int
    reason: str
    seconds: dict[str, float]


def train(recipe: str | Path, overrides: Sequence[str] = (), *, report: Reporter = silent) -> Trained:
    """A new run of the recipe in a file, trained to its end.

    Raises: BespokeError when the recipe, the dataset or the model is not as it should be; Interrupted when a signal
    stopped it, after saving.
    """
    path = Path(recipe)
    asked = recipes.load(path, overrides)
    project = Project(path.resolve().parent)
    watch = Stopwatch()
    with watch.stage("check"):
        folder = _dataset_folder(project, asked)
        dataset = data.load(folder)
        data.check_enough(str(folder), dataset)
        checkpoint = base_of(asked, project.root)
        resolved, reasons = recipes.derive(asked, _facts(dataset, checkpoint))

    workers = accelerator(resolved.train.mixed_precision)  # refuses what this machine cannot before a run is there

    def begin() -> Path:
        new_run = project.new_run()
        write_text(new_run.recipe, recipes.dump(resolved, reasons))
        return new_run.root

    return _carry_out(Run(agreed(begin)), resolved, dataset, workers, report, watch)


def resume(run_folder: str | Path, *, report: Reporter = silent) -> Trained:
    """The run in a folder, trained on from its newest complete state; a finished one is only told about.

    Raises: BespokeError when the folder holds no run; Interrupted when a signal stopped it, after saving.
    """
    run = Run(Path(run_folder).resolve())
    if not run.recipe.is_file():
        raise BespokeError(f"{run_folder} is no run: it has no recipe.toml.", "Run folders lie in the project's runs/.")
    finished = _result(run)
    if finished:
        return finished
    recipe = recipes.load(run.recipe)
    dataset = data.load(_dataset_folder(_project(run), recipe))
    return _carry_out(run, recipe, dataset, accelerator(recipe.train.mixed_precision), report, Stopwatch())


def _carry_out(
    run: Run, recipe: recipes.Recipe, dataset: Dataset, workers: Any, report: Reporter, watch: Stopwatch
) -> Trained:
    project = _project(run)
    with _alone(run):
        checkpoint = base_of(recipe, project.root)
        with watch.stage("encode"), main_first():
            material = Encoder(project, checkpoint, recipe, report).material(dataset, _dataset_folder(project, recipe))
        # Before this a signal ends the process at once: what was encoded so far is kept in any case.
        with watch.stage("train"), stop_wish() as wish:
            trainer = trainer_for(run, recipe, checkpoint, material, workers)
            stopped = _fit(run, trainer, report, wish)
        if not stopped.finished:
            hint = f"Everything is saved. Go on with: bespoke train --resume {run.root}"
            raise Interrupted(wish.exit_code, f"{stopped.reason} after step {stopped.step}. {hint}")
        content = {
            "steps": stopped.step,
            "best_step": stopped.best_step,
            "reason": stopped.reason,
            "seconds": watch.seconds,
        }
        if is_main():
            write_json(run.result, content)
    return Trained(run.root, run.adapter, stopped.step, stopped.best_step, stopped.reason, watch.seconds)


def _result(run: Run) -> Trained | None:
    if not run.result.is_file():
        return None
    content: dict[str, Any] = json.loads(run.result.read_text(encoding="utf-8"))
    reason = f"finished before: {content['reason']}"
    return Trained(run.root, run.adapter, content["steps"], content["best_step"], reason, content["seconds"])


def _fit(run: Run, trainer: Trainer, report: Reporter, wish: StopWish) -> Stopped:
    kept = state.newest(run)
    if kept:
        trainer.restore(kept)
    tracker = training.Tracker(run, trainer.progress.step if kept else None) if is_main() else None
    total = trainer.train.max_train_steps or 1
    note, covered, stopped = "", "", None
    try:
        for event in trainer.fit(wish.reason):
            if tracker:
                tracker.log(event)
                note, covered = _note(event) or note, _coverage(event) or covered
                report("train", event.step, total, "  ".join(filter(None, (note, covered))))
            stopped = event if isinstance(event, Stopped) else stopped
    finally:
        if tracker:
            tracker.close()
    assert stopped is not None
    return stopped


def trainer_for(run: Run, recipe: recipes.Recipe, checkpoint: Checkpoint, material: Material, workers: Any) -> Trainer:
    """A trainer with a fresh adapter on the checkpoint's UNet."""
    from bespoke.diffusion import Schedule

    unet = checkpoint.unet()
    model = recipe.model
    adapters.attach(
        unet, rank=model.rank, alpha=model.alpha or model.rank, targets=checkpoint.family.lora_targets, seed=model.seed
    )
    unet.to(workers.device)
    return Trainer(unet, material, Schedule.from_config(checkpoint.scheduler_config), recipe, run, workers)


def _note(event: training.Event) -> str:
    if isinstance(event, training.Step):
        return f"loss {event.loss:.4f}  {event.images_per_second:.0f} pictures/s"
    if isinstance(event, training.Validated):
        return f"validation loss {100 * math.expm1(event.log_ratio):+.1f} % against the base"
    return ""


def _coverage(event: training.Event) -> str:
    if not isinstance(event, training.Covered):
        return ""
    place = "" if event.complete else " so far"
    return f"epoch {event.epoch}{place}: {100 * event.coverage:.4g} % of the pictures used"


def _facts(dataset: Dataset, checkpoint: Checkpoint) -> recipes.Facts:
    train = dataset.part("train")
    if len(train) < 2:
        raise BespokeError(f"The dataset has {len(train)} training pictures.", "Add pictures and import again.")
    here = machine()
    trigger = common_trigger([picture.text for picture in dataset.pictures])
    not_square = sum(picture.width != picture.height for picture in train)
    return recipes.Facts(len(train), checkpoint.resolution, trigger, here.device, here.bf16, not_square)


def _project(run: Run) -> Project:
    return Project(run.root.parent.parent)


def _dataset_folder(project: Project, recipe: recipes.Recipe) -> Path:
    return project.root / recipe.data.path


@contextmanager
def _alone(run: Run) -> Generator[None, None, None]:
    """A block that no other process enters for the same run; what a kill left half written is swept away first.

    Raises: BespokeError when another process trains this run.
    """
    if not is_main():
        yield  # the main process holds the lock for all
        return
    lock = filelock.FileLock(run.root / ".lock", timeout=0)
    try:
        with lock:
            for debris in (*run.root.glob(".*.tmp"), *run.root.glob("*/.*.tmp")):
                shutil.rmtree(debris) if debris.is_dir() else debris.unlink()
            yield
    except filelock.Timeout:
        raise BespokeError(f"Another process is training {run.root}.", "Wait for it, or stop it first.") from None
