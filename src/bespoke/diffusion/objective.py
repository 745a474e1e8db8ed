"""A network's answers turned into one number for each picture: how far they are from what was wanted."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from bespoke.diffusion.schedule import Schedule
from bespoke.shapes import Latents, PerItem, Places, Timesteps

LossType = Literal["l2", "huber", "smooth_l1"]
HuberSchedule = Literal["constant", "exponential", "snr"]


def squared_errors(answer: Latents, target: Latents, places: Places | None = None) -> PerItem:
    """The mean squared error of each picture, in float32 whatever the network computed in.

    `places` is what each row and column counts for, here and below; without it all count 1.
    """
    return _mean((answer.float() - target.float()).square(), places)


def smooth_errors(answer: Latents, target: Latents, c: PerItem, places: Places | None = None) -> PerItem:
    """The mean of 2 (√(d² + c²) − c) over each picture's differences d, in float32: about d² / c, then 2 |d|.

    Source: Khrapov et al. 2024, "Improving diffusion models's data-corruption resistance using scheduled pseudo-Huber
    loss"; the factor 2 as in kohya's sd-scripts. Written as a quotient, which loses no digits where d is small.
    """
    squares, c = (answer.float() - target.float()).square(), c[:, None, None, None]
    return _mean(2 * squares / ((squares + c.square()).sqrt() + c), places)


def huber_errors(answer: Latents, target: Latents, c: PerItem, places: Places | None = None) -> PerItem:
    """The mean pseudo-Huber error of each picture, `c` times the smooth one: d² where d is small, 2 c |d| where not.

    Source: as for `smooth_errors`.
    """
    return c * smooth_errors(answer, target, c, places)


def huber_thresholds(c: float, over_time: HuberSchedule, times: Timesteps, schedule: Schedule) -> PerItem:
    """The distance at each of `times` above which errors count less than squared; `c` is what it falls to.

    It is always `c`, falls from 1 by powers of `c`, or falls as the noise grows against the signal.
    Source: Khrapov et al. 2024, as in kohya's sd-scripts.
    """
    if over_time == "exponential":
        return torch.exp(times.float() * (math.log(c) / schedule.steps))
    if over_time == "snr":
        signal = schedule.signal[times]
        return (1 - c) / (1 + ((1 - signal) / signal).sqrt()).square() + c
    return torch.full(times.shape, c, device=times.device)


@dataclass(frozen=True)
class Loss:
    """How errors are counted before they are weighted."""

    kind: LossType = "l2"
    c: float = 0.1
    """The lowest threshold of `huber` and `smooth_l1`, above 0."""
    over_time: HuberSchedule = "snr"
    """How their threshold goes with the timestep."""

    def errors(
        self, answer: Latents, target: Latents, times: Timesteps, schedule: Schedule, places: Places | None = None
    ) -> PerItem:
        """What each picture's answer lacks, at places that count for so much; the device is not waited for."""
        if self.kind == "l2":
            return squared_errors(answer, target, places)
        thresholds = huber_thresholds(self.c, self.over_time, times, schedule)
        return (huber_errors if self.kind == "huber" else smooth_errors)(answer, target, thresholds, places)


def _mean(errors: Latents, places: Places | None) -> PerItem:
    return (errors if places is None else errors * places).mean(dim=(1, 2, 3))
