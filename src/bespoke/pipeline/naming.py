"""A model's name on the command line turned into a checkpoint and an adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, find
from bespoke.recipe.tree import Sample
from bespoke.workspace import Run

DRAWING = Sample()


@dataclass(frozen=True)
class Named:
    """A model that pictures can be drawn with."""

    name: str
    checkpoint: Checkpoint
    adapter: Path | None = None
    settings: Sample = DRAWING
    """How the recipe of a run wants pictures drawn."""

    def pipeline(self, *, safety_checker: bool = True) -> Any:
        """The model as a diffusers pipeline, on the best device here."""
        from bespoke.hardware import machine

        return self.checkpoint.pipeline(self.adapter, safety_checker=safety_checker).to(machine().device)


def named(model: str) -> Named:
    """The model called `pico`, a hub id, a diffusers folder, a run folder, or `RUN@last`.

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
    local = folder / recipe.model.base
    named = str(local) if recipe.model.base != "pico" and local.is_dir() else recipe.model.base
    return find(named, download=download)


def _of_run(run: Run, name: str, which: str) -> Named:
    files = {"best": run.adapter, "last": run.last / "adapter.safetensors"}
    if which not in files:
        raise BespokeError(
            f"{name}: a run has no {which!r}.", "Say RUN for the best adapter, RUN@last for the last one."
        )
    if not files[which].is_file():
        hint = f"Let it train on: bespoke train --resume {run.root}"
        raise BespokeError(f"{run.root} has no {which} adapter yet.", hint)
    recipe = recipes.load(run.recipe)
    return Named(name, base_of(recipe, run.root.parent.parent), files[which], recipe.sample)
