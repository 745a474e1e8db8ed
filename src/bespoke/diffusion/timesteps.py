"""Which timesteps training visits how often: a chance for each, and the timestep that a number in [0, 1) means."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import logit, ndtr

from bespoke.errors import BespokeError

Distribution = Literal["uniform", "logit_normal", "mode"]


@dataclass(frozen=True)
class Sampling:
    """How timesteps are chosen: a distribution over the way from picture to noise, shifted, weighted and cut.

    Without anything said, all timesteps come equally often.
    """

    distribution: Distribution = "uniform"
    mean: float = 0.0
    """Of the logit-normal one, before the sigmoid: above 0 the noisy half comes more often."""
    std: float = 1.0
    shift: float = 1.0
    """Above 1 the noisy end comes more often, by the shift that flow matching uses for large pictures."""
    first: int = 0
    """The lowest timestep that is visited."""
    end: int | None = None
    """The timestep after the last one that is visited; without it all are."""
    bands: tuple[float, ...] = ()
    """What each of so many equal parts, from picture to noise, counts for; without any they count the same."""
    scale: float = 1.29
    """Of the mode one: above 0 the middle comes more often, below 0 both ends. Source: Esser et al. 2024, table 1."""


def chances(sampling: Sampling, steps: int) -> np.ndarray:
    """The chance of each of `steps` timesteps, float64 [steps]; outside the range it is 0, inside it keeps its form.

    Raises: BespokeError when no timestep is left.
    """
    at = np.arange(steps)
    found = _shares(sampling, steps)
    if sampling.bands:
        found = found * np.array(sampling.bands)[at * len(sampling.bands) // steps]
    end = steps if sampling.end is None else sampling.end
    found = np.where((at >= sampling.first) & (at < end), found, 0.0)
    if not found.sum() > 0:
        problem = f"No timestep is left to train on: they go from {sampling.first} to below {end}, of {steps}."
        raise BespokeError(problem, "Give min_timestep and max_timestep room, and timestep_bias a band in it above 0.")
    return found / found.sum()


def cumulative(sampling: Sampling, steps: int) -> np.ndarray | None:
    """The chance of each timestep or one below it, float64 [steps]; nothing where all come equally often.

    Raises: BespokeError when no timestep is left.
    """
    if sampling == Sampling():
        return None
    found = chances(sampling, steps).cumsum()
    return found / found[-1]


def timestep(cumulative: np.ndarray, u: float) -> int:
    """The timestep that a number in [0, 1) means: where u is uniform, each comes with its chance."""
    return int(np.searchsorted(cumulative, u, side="right"))


def _shares(sampling: Sampling, steps: int) -> np.ndarray:
    """What the distribution gives to each of `steps` equal parts of the way from picture to noise.

    Source: Esser et al. 2024, "Scaling rectified flow transformers for high-resolution image synthesis", equations 19
    (logit-normal), 20 (mode) and 23 (shift).
    """
    part = np.arange(steps + 1) / steps
    part = part / (sampling.shift - (sampling.shift - 1) * part)
    if sampling.distribution == "uniform":
        return np.diff(part)
    if sampling.distribution == "mode":
        return np.diff(_below(part, sampling.scale))
    scores = (logit(part) - sampling.mean) / sampling.std
    low, high = scores[:-1], scores[1:]
    # Above the middle the same from the other end: a difference of two numbers near 1 would be none.
    return np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))


def _below(part: np.ndarray, scale: float) -> np.ndarray:
    """The chance of the mode distribution below each part of the way: its formula, which always falls, turned back."""
    u = np.linspace(1, 0, 20_001)
    at = 1 - u - scale * (np.cos(np.pi / 2 * u) ** 2 - 1 + u)
    return np.interp(part, at, 1 - u)
