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
    repeats: float = 1.0
    """How often it comes in an epoch."""


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
    """The endless sequence of training examples: epoch after epoch, each in an order keyed by its number.

    A position in it is one number, so that order and noise need no state to resume, and do not depend on batch size
    or on how many processes share the work.
    """

    def __init__(self, material: Material, choices: Choices) -> None:
        self.material, self.choices = material, choices
        self._repeats = np.array([example.repeats for example in material.train])
        self.epoch = float(self._repeats.sum())
        """Examples in an epoch, in the mean."""
        # Where each example stands in its own cycle at the start, in steps that floats hold without rounding.
        starts = [np.floor(1024 * uniform(choices.seed, "repeats", e.key)) / 1024 for e in material.train]
        self._starts = np.array(starts)
        self._current, self._order = (0, 0), np.empty((0, 2), np.int64)

    def batch(self, first: int, count: int) -> Batch:
        """The `count` examples from position `first`."""
        return self._assemble([self._draw(position) for position in range(first, first + count)])

    def _draw(self, position: int) -> tuple[Example, "Keyed"]:
        """The example at a position, with what its randomness hangs on."""
        epoch, first = self._current
        if not first <= position < first + len(self._order):
            epoch = self._epoch_of(position)
            first = int(self._come_before(epoch).sum())
            self._current, self._order = (epoch, first), self._visits(epoch)
        number, repeat = self._order[position - first].tolist()
        example = self.material.train[number]
        return example, (self.choices.seed, epoch, example.key, repeat)

    def _come_before(self, epoch: int) -> np.ndarray:
        """How often each example has come before an epoch: one that counts r times, ⌊r⌋ or ⌈r⌉ times in each."""
        return np.floor(epoch * self._repeats + self._starts).astype(np.int64)

    def _epoch_of(self, position: int) -> int:
        """The epoch in which a position lies: the last before which no more examples have come."""
        epoch = int(position / self.epoch)
        while self._come_before(epoch).sum() > position:
            epoch -= 1
        while self._come_before(epoch + 1).sum() <= position:
            epoch += 1
        return epoch

    def _visits(self, epoch: int) -> np.ndarray:
        """The numbers of an epoch's examples and which of their repeats each is, in the epoch's order: int64 [n 2]."""
        counts = self._come_before(epoch + 1) - self._come_before(epoch)
        numbers = np.repeat(np.arange(len(counts)), counts)
        repeats = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
        return np.stack([numbers, repeats], axis=1)[permutation(len(numbers), self.choices.seed, "order", epoch)]

    def _assemble(self, drawn: Sequence[tuple[Example, "Keyed"]]) -> Batch:
        choices, material = self.choices, self.material
        examples, keyed = zip(*drawn, strict=True)
        rows = [_mirrored(e, key) for e, key in drawn]
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


Keyed = tuple[int, int, str, int]
"""Seed, epoch, what the picture's randomness hangs on, and which repeat of it in the epoch this is."""


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
