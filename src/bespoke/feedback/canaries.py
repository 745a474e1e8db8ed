"""Pictures of the same prompts and seeds, first and now, turned into whether the model still draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from bespoke import seeds
from bespoke.evaluation.features import FeatureSet, directions

Became = Literal["same", "other bits", "changed"]
NUDGE = 2
"""Rounding may move a channel by so many of 255 steps."""
MARGIN = 4.0
"""So many times as far as a nudged picture may features move and still be called rounding."""
WORST: tuple[Became, ...] = ("same", "other bits", "changed")


@dataclass(frozen=True)
class Canary:
    """A prompt and a seed that are drawn again and again."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Return:
    """What became of one canary."""

    canary: Canary
    became: Became
    distance: float
    """One less the cosine of its features, now and at first."""
    rounding: float
    """What of that may be rounding."""


def returned(
    canaries: Sequence[Canary],
    same: Bool[np.ndarray, " n"],
    first: Float[np.ndarray, "n d"],
    now: Float[np.ndarray, "n d"],
    nudged: Float[np.ndarray, "n d"],
) -> tuple[Return, ...]:
    """What became of each canary: the same bits, other bits with the features of rounding, or another picture.

    `same` tells whose pixels are equal bit for bit, `nudged` are the features of the first pictures after `nudge`.

    Raises: BespokeError when features are broken.
    """
    distances, rounding = _cosine_distances(first, now), MARGIN * _cosine_distances(first, nudged)
    found: list[Return] = []
    for canary, bits, distance, allowed in zip(canaries, same, distances, rounding, strict=True):
        became: Became = "same" if bits else "other bits" if distance <= allowed else "changed"
        found.append(Return(canary, became, 0.0 if bits else float(distance), float(allowed)))
    return tuple(found)


def worst(found: Sequence[Return]) -> Became | Literal[""]:
    """The most that became of a canary; nothing where there are none."""
    return WORST[max(WORST.index(one.became) for one in found)] if found else ""


def nudge(pixels: UInt8[np.ndarray, "H W 3"], canary: Canary) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with each channel moved by up to `NUDGE` steps at random, always the same for one canary."""
    steps = seeds.generator("nudge", canary.prompt, canary.seed).integers(-NUDGE, NUDGE + 1, pixels.shape)
    return np.clip(pixels.astype(np.int16) + steps, 0, 255).astype(np.uint8)


def _cosine_distances(x: FeatureSet, y: FeatureSet) -> Float[np.ndarray, " _"]:
    """One less the cosine of each pair of rows, never below nothing."""
    a, b = directions(x, "canaries"), directions(y, "canaries")
    return np.maximum(0.0, 1 - (a * b).mean(axis=1))
