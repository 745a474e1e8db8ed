"""A batch turned into a loss for each of its pictures."""

from typing import Any

from bespoke.diffusion import Loss, Schedule, Weighting
from bespoke.shapes import PerItem
from bespoke.training.batches import Batch

PLAIN = Loss()
"""The squared error: what is measured, whatever is trained by."""


def losses(network: Any, batch: Batch, schedule: Schedule, loss: Loss = PLAIN) -> PerItem:
    """The error of the network's answer for each picture, unweighted."""
    noisy = schedule.noisy(batch.clean, batch.noise if batch.added is None else batch.added, batch.times)
    answer = network(noisy, batch.times, batch.texts)
    return loss.errors(answer, schedule.target(batch.clean, batch.noise, batch.times), batch.times, schedule)


def weighted(errors: PerItem, batch: Batch, schedule: Schedule, weighting: Weighting | None) -> PerItem:
    """What each picture adds to the batch's loss."""
    if weighting is None:
        return errors * batch.weights
    ratio = schedule.signal_to_noise(batch.times)
    return errors * batch.weights * weighting(ratio, schedule.prediction)
