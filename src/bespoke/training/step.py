"""A batch turned into a loss for each of its pictures."""

from typing import Any

from bespoke.diffusion import Schedule, min_snr_weights, squared_errors
from bespoke.shapes import PerItem
from bespoke.training.batches import Batch


def losses(network: Any, batch: Batch, schedule: Schedule) -> PerItem:
    """The squared error of the network's answer for each picture, unweighted."""
    noisy = schedule.noisy(batch.clean, batch.noise, batch.times)
    answer = network(noisy, batch.times, batch.texts)
    return squared_errors(answer, schedule.target(batch.clean, batch.noise, batch.times))


def weighted(errors: PerItem, batch: Batch, schedule: Schedule, snr_gamma: float | None) -> PerItem:
    """What each picture adds to the batch's loss."""
    if snr_gamma is None:
        return errors * batch.weights
    ratio = schedule.signal_to_noise(batch.times)
    return errors * batch.weights * min_snr_weights(ratio, schedule.prediction, snr_gamma)
