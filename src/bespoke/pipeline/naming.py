"""A model's name on the command line turned into a checkpoint and an adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, adapters, find, put_in
from bespoke.recipe.tree import Sample
from bespoke.training.state import WEIGHTS
from bespoke.workspace import Run

DRAWING = Sample()


@dataclass(frozen=True)
class Named:
    """A model that pictures can be drawn with, or that a training can begin with."""

    name: str
    checkpoint: Checkpoint
    adapter: Path | None = None
    settings: Sample = DRAWING
    """How the recipe of a run wants pictures drawn."""
    state: Path | None = None
    """The folder of a state to resume from, whose weights are used."""
    recipe: recipes.Recipe | None = None
    """The recipe of the run that it comes from."""

    def pipeline(self, *, safety_checker: bool = True) -> Any:
        """The model as a diffusers pipeline, on the best device here."""
        from bespoke.hardware import machine

        pipeline = self.checkpoint.pipeline(self.adapter, safety_checker=safety_checker)
        if self.state and self.recipe:
            put_in(pipeline, self.checkpoint, self.recipe, self.state / WEIGHTS)
        return pipeline.to(machine().device)


def named(model: str) -> Named:
    """The model called `pico`, a hub id, a diffusers folder, a run folder, or `RUN@last`, `@epoch-27`, `@step-400`.

    Raises: BespokeError when nothing is called so.
    """
    folder, at, which = model.rpartition("@")
    run = Run(Path(folder if at else model))
    if run.recipe.is_file():
        return _of_run(run, model, which if at else "best")
    return Named(model, find(model))


def base_of(recipe: recipes.Recipe, folder: Path, *, download: bool = True) -> Checkpoint:
    """The checkpoint that a recipe in `folder` builds on; a relative folder counts from the recipe's.

    Raises: BespokeError when there is none, or it would have to be downloaded and must not.
    """
    return start_of(recipe, folder, download=download).checkpoint


def start_of(recipe: recipes.Recipe, folder: Path, *, download: bool = True) -> Named:
    """What a recipe in `folder` begins with: a checkpoint or, where its base is a run, also that run's adapter.

    Raises: BespokeError when there is none, it would have to be downloaded and must not, or it cannot be gone on with.
    """
    base = recipe.model.base
    path, at, which = base.rpartition("@")
    run = Run(folder / (path if at else base))
    if base != "pico" and run.recipe.is_file():
        start = _of_run(run, base, which if at else "best")
        if start.state:
            hint = "Name RUN, RUN@last or RUN@epoch-9."
            raise BespokeError(f"{base}: a training begins with weights, not with a state.", hint)
        if start.adapter and recipe.model.method == "full":
            hint = 'Set model.method = "lora", or name the model that the adapter belongs to.'
            raise BespokeError(f"{base} is an adapter; all weights cannot be trained from there.", hint)
        return start
    local = folder / base
    name = str(local) if base != "pico" and local.is_dir() else base
    return Named(name, find(name, download=download))


def _of_run(run: Run, name: str, which: str) -> Named:
    recipe = recipes.load(run.recipe)
    start = start_of(recipe, run.root.parent.parent)
    kind, _, number = which.partition("-")
    if kind == "step" and number.isdecimal():
        if not run.state(int(number)).is_dir():
            raise BespokeError(f"{run.root} has no state {which}.", _there_are("step", run.states()))
        return Named(name, start.checkpoint, None, recipe.sample, run.state(int(number)), recipe)
    full = recipe.model.method == "full"
    folder = {"best": run.model if full else run.root, "last": run.last}.get(which)
    if kind == "epoch" and number.isdecimal():
        folder = run.checkpoint(int(number))
    if folder is None:
        hint = "Say RUN for the best weights, RUN@last for the last ones, RUN@epoch-27 or RUN@step-400."
        raise BespokeError(f"{name}: a run has no {which!r}.", hint)
    adapter = folder / adapters.FILE
    if not ((folder / "unet").is_dir() if full else adapter.is_file()):
        if kind == "epoch":
            raise BespokeError(f"{run.root} has no {which}.", _there_are("epoch", run.checkpoints()))
        hint = f"Let it train on: bespoke train --resume {run.root}"
        raise BespokeError(f"{run.root} has no {which} {'model' if full else 'adapter'} yet.", hint)
    if full:
        return Named(name, start.checkpoint.with_trained(folder), None, recipe.sample, recipe=recipe)
    return Named(name, start.checkpoint, adapter, recipe.sample, recipe=recipe)


def _there_are(kind: str, folders: Sequence[Path]) -> str:
    known = ", ".join(str(int(folder.name.removeprefix(f"{kind}-"))) for folder in folders)
    return f"There are: {known}." if known else "There are none."
