"""What the weights draw while they are trained: the same prompts and seeds at intervals, one column for each time."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bespoke.pipeline.naming import Named
from bespoke.pipeline.pictures import in_rgb
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.sample import file_name, write
from bespoke.recipe import Recipe
from bespoke.records import Dataset
from bespoke.sampling import Request, table
from bespoke.seeds import uniform
from bespoke.text import unweighed
from bespoke.training import Event, Step, Stopped, Trainer
from bespoke.workspace import Run, atomic_file

FEW = 4
"""How many prompts are drawn where the recipe names none."""
SHARDED = "No pictures are drawn while training: no process has all of the weights. Draw when it is over."
"""What is said where the processes share out the weights."""


@dataclass(frozen=True)
class Column:
    """The pictures of one moment, in the order of the prompts."""

    step: int
    pictures: tuple[Path, ...]

    @property
    def head(self) -> str:
        """What stands above it."""
        return f"step {self.step}" if self.step else "base"


def wanted(recipe: Recipe, dataset: Dataset) -> list[Request]:
    """What is drawn while training: the recipe's prompts, else some of its objective's, else some captions."""
    prompts: Sequence[str] = recipe.sample.prompts
    if not prompts:
        change, keep = recipe.objective.change_prompts, recipe.objective.keep_prompts
        half = FEW // 2
        few = (max(half, FEW - len(keep)), max(half, FEW - len(change)))
        prompts = [*_spread(change, few[0]), *_spread(keep, few[1])] or _captions(recipe, dataset)
    return [Request(prompt, recipe.sample.seed + number) for number, prompt in enumerate(prompts)]


def columns(run: Run, requests: Sequence[Request]) -> list[Column]:
    """What was drawn so far, oldest first; a column that lacks a picture is left out."""
    found: list[Column] = []
    for folder in sorted(run.samples.glob("progress/step-*")):
        files = tuple(folder / file_name(number, request) for number, request in enumerate(requests))
        if files and all(file.is_file() for file in files):
            found.append(Column(int(folder.name.removeprefix("step-")), files))
    return found


class Progress:
    """Draws a run's columns between the events of its training, without changing it by one bit."""

    def __init__(self, run: Run, trainer: Trainer, start: Named, requests: Sequence[Request]) -> None:
        self._run, self._trainer, self._start, self._requests = run, trainer, start, requests
        asked = trainer.recipe.sample.sample_every_n_steps if requests else 0
        self._every = 0 if trainer.sharded else asked
        self._last = 0
        self._pipeline: Any = None
        self.trouble: str | None = SHARDED if trainer.sharded and asked else None
        """Why no more pictures are drawn, in words, if that is so."""

    def begin(self) -> None:
        """Takes away the columns of steps that come again, and draws the base's."""
        if not self._every:
            return
        now = self._trainer.progress.step
        for column in sorted(self._run.samples.glob("progress/step-*")):
            if not now or int(column.name.removeprefix("step-")) > now:
                shutil.rmtree(column)
        there = [column.step for column in columns(self._run, self._requests)]
        self._last = max(there, default=0)
        if 0 not in there and (now == 0 or self._trainer.bare.adapted):
            with self._trainer.bare.untouched():
                self._draw(0)

    def after(self, event: Event) -> bool:
        """Draws a column if it is time, and tells whether it was."""
        due = isinstance(event, Step) and bool(self._every) and event.step // self._every > self._last // self._every
        over = isinstance(event, Stopped) and event.finished and bool(self._every) and event.step > self._last
        if not (due or over):
            return False
        with self._trainer.for_use():
            self._draw(event.step)
        self._last = event.step
        return True

    def _draw(self, step: int) -> None:
        folder = self._run.samples / "progress" / f"step-{step:06d}"
        settings = self._trainer.recipe.sample.model_copy(update={"format": "png"})
        name = f"{self._run.root.name} after step {step}"
        try:
            with _aside(self._trainer):
                write(self._drawer(), self._requests, folder, settings, name if step else self._start.name, silent)
                self._park("cpu")
        except torch.OutOfMemoryError:  # the training itself has what it needs
            self._every, self._pipeline = 0, None
            torch.cuda.empty_cache()
            self.trouble = "There is no memory to draw while training, which goes on. Try a lower sample.batch_size."
            return
        self._join()

    def _drawer(self) -> Any:
        """A pipeline around the very networks that are trained; no second UNet is read."""
        if self._pipeline is None:
            parts = self._trainer.bare.networks
            self._pipeline = self._start.checkpoint.pipeline(safety_checker=False, parts=parts)
        self._park(self._trainer.accelerator.device)
        return self._pipeline

    def _park(self, device: Any) -> None:
        """Brings what is not trained to where it is needed; between two drawings the GPU is the training's."""
        checkpoint = self._start.checkpoint
        for name in ("vae", checkpoint.family.denoiser, *(encoder for _, encoder in checkpoint.reading)):
            if name not in self._trainer.bare.networks:
                getattr(self._pipeline, name).to(device)

    def _join(self) -> None:
        """All columns as one picture."""
        drawn = columns(self._run, self._requests)
        sheet = table(
            [[in_rgb(file) for file in column.pictures] for column in drawn],
            [column.head for column in drawn],
            [request.prompt for request in self._requests],
        )
        with atomic_file(self._run.samples / "progress.png") as temporary:
            sheet.save(temporary, format="PNG")


@contextmanager
def _aside(trainer: Trainer) -> Generator[None, None, None]:
    """A block that draws with what is trained and leaves it as it was: its modes, and torch's streams of numbers."""
    modes = {module: module.training for module in trainer.bare.modules()}
    devices = [trainer.accelerator.device] if trainer.accelerator.device.type == "cuda" else []
    eager = torch.compiler.set_stance("force_eager")  # pictures have other shapes than a training's batches
    with torch.random.fork_rng(devices), trainer.accelerator.autocast(), eager:
        trainer.bare.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def _spread(prompts: Sequence[str], count: int) -> list[str]:
    """So many of the prompts, from all parts of the list."""
    count = min(count, len(prompts))
    return [prompts[number * len(prompts) // count] for number in range(count)]


def _captions(recipe: Recipe, dataset: Dataset) -> list[str]:
    """Captions of training pictures, always the same ones while they are there."""
    train = sorted(dataset.part("train"), key=lambda p: (uniform(recipe.sample.seed, "progress", p.pixels), p.file))
    texts = list(dict.fromkeys(picture.text for picture in train))[:FEW]
    return [unweighed(text) for text in texts] if recipe.sample.brackets == "letters" else texts
