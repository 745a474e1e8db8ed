"""A network and a batch's shapes turned into a trainer of one pass's worth of empty pictures, to measure its steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from bespoke.diffusion import Schedule
from bespoke.encoding import Rows
from bespoke.models import Tuned
from bespoke.recipe import Recipe
from bespoke.training import captured, masking
from bespoke.training.batches import Example, Material
from bespoke.training.loop import Trainer
from bespoke.training.step import losses
from bespoke.training.window import Window
from bespoke.workspace import Run

WARM_UP = 1
"""Steps before those that are timed: the first one makes the optimizer's memory."""
TIMED = 2


@dataclass(frozen=True)
class Shapes:
    """What one picture and its caption are to the network, largest first come."""

    moments: tuple[int, ...]
    """Of the autoencoder's means and log variances: twice the latent channels, rows, columns."""
    text: tuple[int, ...]
    """Of the text encoder's states, or of the tokens where it is trained too."""


@dataclass(frozen=True)
class Times:
    """Seconds that steps took."""

    step: float
    """One optimizer step: the quickest of `TIMED`."""
    measured: float
    """One batch of validation: the network forwards, once for each picture."""


def rehearsal(network: Tuned, shapes: Shapes, schedule: Schedule, recipe: Recipe, accelerator: Accelerator) -> Trainer:
    """A trainer of `network` by a resolved recipe, on as many empty pictures as a pass holds; it writes nothing."""
    size = recipe.train.train_batch_size or 1
    moments, text = np.zeros(shapes.moments, np.float32), np.zeros(shapes.text, np.float32)
    half = np.full((1, *shapes.moments[1:]), 0.5, np.float32)
    masks = (0,) if recipe.train.masked_training else ()
    sizes = ((0,) * 6,) if network.told_sizes else ()
    examples = [Example(str(number), (number,), 0, masks=masks, sizes=sizes) for number in range(size)]
    if recipe.data.regularisation and recipe.train.regularisation_target == "base":
        examples[0] = replace(examples[0], masks=(), taught=True)
    material = Material(
        Rows([moments] * size), Rows([text]), 0, tuple(examples), (), scale=1.0, masks=Rows([half]),
        masking=masking.of(recipe.train),
    )  # fmt: skip
    return Trainer(network, material, schedule, recipe, Run(Path()), accelerator)


def step(trainer: Trainer) -> None:
    """Makes one optimizer step, by the code that trains."""
    trainer.step(Window(trainer.accelerator.device))


def settled(trainer: Trainer) -> Window:
    """The window of steps that were made, by the code that trains, until the next ones are like all others."""
    window = Window(trainer.accelerator.device)
    for _ in range(WARM_UP + (captured.WARM_UP if trainer.captured else 0)):
        trainer.step(window)
    return window


def times(trainer: Trainer) -> Times:
    """How long a rehearsal's steps take here; its network is changed by them."""
    with trainer.loader.running():
        window = settled(trainer)
        taken = [_seconds(trainer, lambda: trainer.step(window)) for _ in range(TIMED)]
    return Times(min(taken), _seconds(trainer, lambda: _measure(trainer)))


@torch.no_grad()
def _measure(trainer: Trainer) -> None:
    trainer.network.eval()
    batch = replace(trainer.stream.batch(0, trainer.size), kept=None)  # the base is asked in training only
    losses(trainer.network, batch.to(trainer.accelerator.device), trainer.schedule)
    trainer.network.train()


def _seconds(trainer: Trainer, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
