"""A batch turned into a loss for each of its pictures."""

from collections.abc import Callable
from typing import Any

from bespoke.diffusion import Loss, Schedule, Weighting
from bespoke.shapes import Latents, PerItem
from bespoke.training.batches import Batch

PLAIN = Loss()
"""The squared error: what is measured, whatever is trained by."""


def losses(
    network: Any,
    batch: Batch,
    schedule: Schedule,
    loss: Loss = PLAIN,
    base: Callable[..., Latents] | None = None,
) -> PerItem:
    """The error of the network's answer for each picture, unweighted; `base` gives the answers that it is to keep.

    Source: OneTrainer's masked prior preservation; SimpleTuner's base model as the teacher of regularisation data.
    """
    noisy = schedule.noisy(batch.clean, batch.noise if batch.added is None else batch.added, batch.times)
    told = schedule.told(batch.times)
    sizes = () if batch.sizes is None else (batch.sizes,)
    # The base is asked first: asking moves weights, which must not happen between an answer and its gradient.
    wanted = base(noisy, told, batch.texts, *sizes) if base and batch.kept is not None else None
    answer = network(noisy, told, batch.texts, *sizes)
    target = schedule.target(batch.clean, batch.noise, batch.times)
    errors = loss.errors(answer, target, batch.times, schedule, batch.places)
    if wanted is None:
        return errors
    return errors + loss.errors(answer, wanted, batch.times, schedule, batch.kept)


def weighted(errors: PerItem, batch: Batch, schedule: Schedule, weighting: Weighting | None) -> PerItem:
    """What each picture adds to the batch's loss."""
    if weighting is None:
        return errors * batch.weights
    ratio = schedule.signal_to_noise(batch.times)
    return errors * batch.weights * weighting(ratio, schedule.prediction)
