"""Cached rows turned into training batches in which every random choice is a function of its key."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bespoke.diffusion import Schedule
from bespoke.diffusion.noise import Pyramid, noise, perturbed
from bespoke.diffusion.philox import keys_of
from bespoke.diffusion.timesteps import timestep
from bespoke.encoding import Rows, fitted, sampled
from bespoke.seeds import normal, uniform, whole_number
from bespoke.shapes import Latents, Mask, Sizes, TextRows, TextStates
from bespoke.training.batch import PURPOSES, Batch, Undrawn
from bespoke.training.masking import Masking
from bespoke.training.order import Order, Visit


@dataclass(frozen=True)
class Example:
    """One picture with its caption, as numbers of cached rows."""

    key: str
    """What its randomness hangs on: a hash of the picture, not its place in the dataset."""
    latents: tuple[int, ...]
    """The rows of its versions, all of one shape; every visit takes one of them. The first is what is measured on."""
    text: int
    weight: float = 1.0
    """What its loss counts for."""
    repeats: float = 1.0
    """How often it comes in an epoch."""
    wordings: tuple[int, ...] = ()
    """The rows of other wordings of its caption; training reads one of them now and then, measurements never."""
    drawn: bool = False
    """Whether it is there to keep the base as it is - the base drew it, or it is of a regularisation set - so that it
    is none of the pictures to learn from."""
    masks: tuple[int, ...] = ()
    """The rows of the masks of its versions, as many as those of latents; none where it counts whole."""
    mask: str = ""
    """A hash of the mask."""
    taught: bool = False
    """Whether what the base says of it is to be kept, in place of what it shows."""
    sizes: tuple[tuple[int, ...], ...] = ()
    """Of each version six numbers, where the network is told them: (height, width) as it was read, of the corner where
    it was cut out, and as it is."""


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
    others: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    """What else is measured: the `probe` of training pictures, and the sets that the recipe names."""
    masks: Rows = field(default_factory=lambda: Rows(()))
    """Masks at the latents' size, each [1 h w], 0 to 1."""
    masking: Masking = field(default_factory=Masking)
    """What masks do."""
    summarised: bool = False
    """Whether the last row of a text's states is a summary of it."""
    shift: float = 0.0
    """What is taken from the autoencoder's latents before they are scaled."""

    @property
    def fingerprint(self) -> str:
        """A hash of what is trained on: which pictures, how often they come and what they count for."""
        facts = [
            (e.key, len(e.latents), e.weight, e.repeats, *(e.wordings and (len(e.wordings),)), *filter(None, (e.mask,)))
            for e in self.train
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Choices:
    """The settings that the random choices depend on."""

    seed: int
    steps: int
    """Timesteps of the schedule."""
    empty_share: float
    noise_offset: float
    wording_share: float = 0.0
    """Part of the visits that read another wording of the caption."""
    pyramid: Pyramid | None = None
    input_perturbation: float = 0.0
    cumulative: np.ndarray | None = None
    """The chance of each timestep or one below it, float64 [steps]; without it all come equally often."""
    on_device: bool = False
    """Whether noise is left to the device to draw."""


class Stream:
    """The endless sequence of training examples: epoch after epoch, each in an order keyed by its number.

    A position in it is one number, so that order and noise need no state to resume. The `size` positions of a pass are
    of one shape; how many processes share a pass does not matter.
    """

    def __init__(self, material: Material, choices: Choices, size: int = 1) -> None:
        self.material, self.choices = material, choices
        examples = material.train
        shapes = [material.latents.shape(example.latents[0]) for example in examples]
        repeats = [example.repeats for example in examples]
        self.order = Order([example.key for example in examples], repeats, shapes, choices.seed, size)
        self.epoch = self.order.epoch
        """Examples in an epoch, in the mean."""
        self.pictures = sum(not example.drawn for example in examples)
        """How many of the examples are the person's pictures."""

    def batch(self, first: int, count: int) -> Batch:
        """The `count` examples from position `first`; they lie in one pass, or all passes are of one shape."""
        return self.assembled(self.drawn(first, count)).drawn()

    def drawn(self, first: int, count: int) -> "Sequence[Visited]":
        """Which examples these are, each with what its randomness hangs on."""
        return [self._draw(position) for position in range(first, first + count)]

    def of_each_shape(self, count: int) -> Iterator[Batch]:
        """A batch of `count` examples of each shape that latents have."""
        for lane in self.order.lanes:
            yield self.assembled([self._visited(lane.visit(turn)) for turn in range(count)]).drawn()

    def used(self, epoch: int, passes: int) -> int:
        """How many of the person's pictures have been trained on for an epoch after so many passes."""
        return sum(not self.material.train[number].drawn for number in self.order.used(epoch, passes).tolist())

    def _draw(self, position: int) -> "Visited":
        return self._visited(self.order.visit(position))

    def _visited(self, visit: Visit) -> "Visited":
        example = self.material.train[visit.number]
        return example, (self.choices.seed, visit.epoch, example.key, visit.repeat)

    def assembled(self, drawn: "Sequence[Visited]") -> Batch | Undrawn:
        """The batch of some examples: a function of these alone, which another thread may ask for."""
        choices, material = self.choices, self.material
        examples, keyed = zip(*drawn, strict=True)
        versions = [_version(len(e.latents), key) for e, key in drawn]
        moments = material.latents[[e.latents[version] for e, version in zip(examples, versions, strict=True)]]
        shape = (moments.shape[1] // 2, *moments.shape[2:])
        texts = [self._text(example, key) for example, key in drawn]
        masks = [self._mask(example, key, version) for (example, key), version in zip(drawn, versions, strict=True)]
        places, kept = material.masking.places(masks, [example.taught for example in examples], shape[1:])
        shared: dict[str, Any] = {
            "times": torch.tensor([self._time(key) for key in keyed]),
            "texts": _together(material, texts),
            "weights": torch.tensor([example.weight for example in examples]),
            "places": places,
            "kept": kept,
            "sizes": _sizes(examples, versions),
        }
        if choices.on_device:
            keys = torch.stack([keys_of([(purpose, *key) for key in keyed]) for purpose in PURPOSES])
            strengths = {"offset": choices.noise_offset, "perturbation": choices.input_perturbation}
            return Undrawn(moments, keys, scale=material.scale, shift=material.shift, **strengths, **shared)
        posterior = torch.from_numpy(np.stack([normal(shape, "posterior", *key) for key in keyed]))
        wanted = [noise(shape, key, choices.noise_offset, choices.pyramid) for key in keyed]
        return Batch(
            clean=sampled(moments, posterior, material.scale, material.shift),
            noise=torch.from_numpy(np.stack(wanted)),
            added=_added(wanted, choices.input_perturbation, keyed),
            **shared,
        )

    def _mask(self, example: Example, key: "Keyed", version: int) -> Mask | None:
        """The mask of the version that a visit takes; nothing where it counts whole."""
        if not example.masks or uniform("unmasked", *key) < self.material.masking.unmasked_probability:
            return None
        return self.material.masks[[example.masks[version]]]

    def _time(self, key: "Keyed") -> int:
        if self.choices.cumulative is None:
            return whole_number(self.choices.steps, "timestep", *key)
        return timestep(self.choices.cumulative, uniform("timestep", *key))

    def _text(self, example: Example, key: "Keyed") -> int:
        """The row of what a visit reads: nothing, the caption, or another wording of it."""
        if uniform("empty", *key) < self.choices.empty_share:
            return self.material.empty
        others = example.wordings
        if others and uniform("wording", *key) < self.choices.wording_share:
            return others[int(len(others) * uniform("which wording", *key))]
        return example.text


Keyed = tuple[int, int, str, int]
"""Seed, epoch, what the picture's randomness hangs on, and which repeat of it in the epoch this is."""
Visited = tuple[Example, Keyed]


def _version(count: int, key: Keyed) -> int:
    """Which of `count` versions a visit takes; of a picture and its mirrored twin, each half of the time."""
    return count - 1 - int(count * uniform("mirror", *key)) if count > 1 else 0


def _added(wanted: Sequence[np.ndarray], strength: float, keyed: Sequence[Keyed]) -> Latents | None:
    if not strength:
        return None
    return torch.from_numpy(np.stack([perturbed(one, strength, key) for one, key in zip(wanted, keyed, strict=True)]))


def _together(material: Material, rows: Sequence[int]) -> TextStates | TextRows:
    """The rows of captions, which may have different numbers of windows."""
    texts = material.texts
    if len({texts.shape(row) for row in rows}) == 1:
        return texts[rows]
    return fitted([texts[[row]][0] for row in rows], summarised=material.summarised)


def _sizes(examples: Sequence[Example], versions: Sequence[int]) -> Sizes | None:
    """What the network is told of the sizes of the examples' versions."""
    if not examples[0].sizes:
        return None
    return torch.tensor([e.sizes[version] for e, version in zip(examples, versions, strict=True)]).float()


def validation_batches(
    material: Material,
    measured: Sequence[Example],
    strata: int,
    seed: int,
    schedule: Schedule,
    size: int,
    share: tuple[int, int] = (0, 1),
    *,
    even: bool = False,
) -> Iterator[tuple[slice, Batch]]:
    """Every measured picture at the middle of each stratum of timesteps, always with the same noise.

    Each batch comes with the places of its losses among those of all. Strata that mirror each other about the middle
    share their noise, which makes the mean steadier. The latents are the posterior's mean; masks count always. Shape
    after shape, and within each in the material's order. `share` is which of how many processes this is: they take
    turns. With `even` all get equally many: who would have one less gets the last once more, without a place.

    Source: EveryDream2's stabilised loss; strata as in MLPerf's Flux benchmark.
    """
    groups: dict[tuple[int, ...], list[Example]] = {}
    for example in measured:
        groups.setdefault(material.latents.shape(example.latents[0]), []).append(example)
    first, made, (index, processes) = 0, 0, share
    part: list[tuple[Example, int]] = []
    for examples in groups.values():
        jobs = [(example, stratum) for example in examples for stratum in range(strata)]
        for start in range(0, len(jobs), size):
            part = jobs[start : start + size]
            if made % processes == index:
                yield slice(first, first + len(part)), _measured(material, part, strata, seed, schedule)
            first, made = first + len(part), made + 1
    if even and 0 < made % processes <= index:
        yield slice(0, 0), _measured(material, part, strata, seed, schedule)


def _measured(
    material: Material, jobs: Sequence[tuple[Example, int]], strata: int, seed: int, schedule: Schedule
) -> Batch:
    moments = material.latents[[example.latents[0] for example, _ in jobs]]
    mean = (moments.chunk(2, dim=1)[0] - material.shift) * material.scale
    shape = tuple(mean.shape[1:])
    drawn = [normal(shape, seed, "validation", e.key, min(b, strata - 1 - b)) for e, b in jobs]
    masks = [material.masks[[example.masks[0]]] if example.masks else None for example, _ in jobs]
    places, _ = material.masking.places(masks, [False] * len(jobs), shape[1:])
    return Batch(
        clean=mean,
        noise=torch.from_numpy(np.stack(drawn)),
        times=torch.tensor([int((b + 0.5) / strata * schedule.steps) for _, b in jobs]),
        texts=_together(material, [example.text for example, _ in jobs]),
        weights=torch.ones(len(jobs)),
        places=places,
        sizes=_sizes([example for example, _ in jobs], [0] * len(jobs)),
    )
