"""Cached rows turned into training batches in which every random choice is a function of its key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bespoke.diffusion import Schedule
from bespoke.encoding import Rows, sampled
from bespoke.seeds import generator, normal, permutation, uniform
from bespoke.shapes import Latents, PerItem, TextStates, Timesteps


@dataclass(frozen=True)
class Example:
    """One picture with its caption, as numbers of cached rows."""

    key: str
    """What its randomness hangs on: a hash of the picture, not its place in the dataset."""
    latent: int
    text: int
    mirrored: int | None = None
    """The row of the mirrored picture, where mirroring is allowed."""
    weight: float = 1.0
    """What its loss counts for."""


@dataclass(frozen=True)
class Material:
    """All that training reads: rows of latents and text states, and the examples made of them."""

    latents: Rows
    texts: Rows
    empty: int
    """The row of the empty caption."""
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    scale: float
    """The autoencoder's scaling factor."""


@dataclass(frozen=True)
class Batch:
    """What one pass of the network takes."""

    clean: Latents
    noise: Latents
    times: Timesteps
    texts: TextStates
    weights: PerItem

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        moved = (
            t.to(device, non_blocking=True) for t in (self.clean, self.noise, self.times, self.texts, self.weights)
        )
        return Batch(*moved)


@dataclass(frozen=True)
class Choices:
    """The settings that the random choices depend on."""

    seed: int
    steps: int
    """Timesteps of the schedule."""
    empty_share: float
    noise_offset: float


class Stream:
    """The endless sequence of training examples: epoch after epoch, each a permutation keyed by its number.

    A position in it is one number, so that order and noise need no state to resume, and do not depend on batch size
    or on how many processes share the work.
    """

    def __init__(self, material: Material, choices: Choices) -> None:
        self.material, self.choices = material, choices
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, first: int, count: int) -> Batch:
        """The `count` examples from position `first`."""
        drawn = [self._draw(position) for position in range(first, first + count)]
        examples, epochs = zip(*drawn, strict=True)
        return self._assemble(examples, epochs)

    def _draw(self, position: int) -> tuple[Example, int]:
        epoch, place = divmod(position, len(self.material.train))
        if epoch != self._epoch:
            order = permutation(len(self.material.train), self.choices.seed, "order", epoch)
            self._epoch, self._order = epoch, order
        return self.material.train[int(self._order[place])], epoch

    def _assemble(self, examples: Sequence[Example], epochs: Sequence[int]) -> Batch:
        choices, material = self.choices, self.material
        keyed = [(choices.seed, epoch, example.key) for example, epoch in zip(examples, epochs, strict=True)]
        rows = [_mirrored(e, key) for e, key in zip(examples, keyed, strict=True)]
        moments = material.latents[rows]
        shape = (moments.shape[1] // 2, *moments.shape[2:])
        posterior = torch.from_numpy(np.stack([normal(shape, "posterior", *key) for key in keyed]))
        noise = np.stack([_noise(shape, choices.noise_offset, key) for key in keyed])
        times = [int(generator("timestep", *key).integers(choices.steps)) for key in keyed]
        texts = [
            material.empty if uniform("empty", *key) < choices.empty_share else example.text
            for example, key in zip(examples, keyed, strict=True)
        ]
        return Batch(
            clean=sampled(moments, posterior, material.scale),
            noise=torch.from_numpy(noise),
            times=torch.tensor(times),
            texts=material.texts[texts],
            weights=torch.tensor([example.weight for example in examples]),
        )


Keyed = tuple[int, int, str]


def _mirrored(example: Example, key: Keyed) -> int:
    if example.mirrored is not None and uniform("mirror", *key) < 0.5:
        return example.mirrored
    return example.latent


def _noise(shape: tuple[int, ...], offset: float, key: Keyed) -> np.ndarray:
    noise = normal(shape, "noise", *key)
    if offset:
        noise = noise + np.float32(offset) * normal((shape[0], 1, 1), "offset", *key)
    return noise


def validation_batches(material: Material, strata: int, seed: int, schedule: Schedule, size: int) -> Iterator[Batch]:
    """Every validation picture at the middle of each stratum of timesteps, always with the same noise.

    Strata that mirror each other about the middle share their noise, which makes the mean steadier. The latents are
    the posterior's mean. Source: EveryDream2's stabilised loss; strata as in MLPerf's Flux benchmark.
    """
    jobs = [(example, stratum) for example in material.validation for stratum in range(strata)]
    for start in range(0, len(jobs), size):
        part = jobs[start : start + size]
        moments = material.latents[[example.latent for example, _ in part]]
        mean = moments.chunk(2, dim=1)[0] * material.scale
        shape = tuple(mean.shape[1:])
        noise = [normal(shape, seed, "validation", e.key, min(b, strata - 1 - b)) for e, b in part]
        yield Batch(
            clean=mean,
            noise=torch.from_numpy(np.stack(noise)),
            times=torch.tensor([int((b + 0.5) / strata * schedule.steps) for _, b in part]),
            texts=material.texts[[example.text for example, _ in part]],
            weights=torch.ones(len(part)),
        )
