"""The quickest ways to compute attention: measured for a training before its first step, and kept by its run."""

import json
from collections.abc import Mapping

from bespoke.models.attention import install, seen
from bespoke.models.backends import Shape, quickest
from bespoke.pipeline.processes import agreed
from bespoke.training import Trainer
from bespoke.training.step import losses
from bespoke.workspace import Run, write_json


def attend(trainer: Trainer) -> Mapping[Shape, str]:
    """The ways by which a trainer's denoiser now computes attention of its shapes, in place.

    A run that goes on takes the ways that it began with, and processes take the first one's: other ways round
    otherwise. Shapes that come in validation alone are computed as without this.
    """
    shapes = shapes_of(trainer)
    ways = agreed(lambda: _ways(trainer.run, shapes, trainer))
    choices = {shape: ways[str(shape)] for shape in shapes}
    install(trainer.bare.denoiser, choices)
    return choices


def shapes_of(trainer: Trainer) -> list[Shape]:
    """The shapes of attention in a trainer's passes, one pass for each shape of latents; nothing is computed."""
    found = dict[Shape, None]()
    for batch in trainer.stream.of_each_shape(trainer.size):
        with trainer.accelerator.autocast(), seen(trainer.bare.denoiser) as shapes:
            losses(trainer.bare, batch.to(trainer.accelerator.device), trainer.schedule)
        found |= shapes
    return list(found)


def _ways(run: Run, shapes: list[Shape], trainer: Trainer) -> dict[str, str]:
    """The ways by their shapes' names: those of the run, and for others what is the quickest on this machine."""
    kept: dict[str, str] = json.loads(run.attention.read_text("utf-8")) if run.attention.is_file() else {}
    missing = [shape for shape in shapes if str(shape) not in kept]
    if missing:
        kept |= {str(shape): way for shape, way in quickest(missing, trainer.accelerator.device).items()}
        write_json(run.attention, kept)
    return kept
