"""What one pass of the network takes, as tensors with names: ready, or with noise that the device is still to draw."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from bespoke.diffusion.philox import normals
from bespoke.encoding import sampled
from bespoke.shapes import Latents, Moments, PerItem, Places, Sizes, TextRows, TextStates, Timesteps

Kind = TypeVar("Kind", bound="Tensors")


@dataclass(frozen=True)
class Tensors:
    """A record of tensors, some of which may be nothing."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def each(self: Kind, change: Callable[[Tensor], Tensor]) -> Kind:
        """The same of what `change` makes of each tensor."""
        return replace(self, **{name: change(tensor) for name, tensor in self.tensors.items()})

    def to(self: Kind, device: torch.device) -> Kind:
        """The same on a device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class Batch(Tensors):
    """What one pass of the network takes."""

    clean: Latents
    noise: Latents
    times: Timesteps
    texts: TextStates | TextRows
    weights: PerItem
    added: Latents | None = None
    """The noise that is on the clean latents, where it is another than the one that is asked for."""
    places: Places | None = None
    """What each place counts for where it is learnt; nothing where all count 1."""
    kept: Places | None = None
    """What each place counts for where the base's answer is kept; nothing where none is."""
    sizes: Sizes | None = None
    """The sizes of the pictures and where they were cut out, where the network is told."""

    def drawn(self) -> "Batch":
        """Itself, for nothing is left to draw."""
        return self


PURPOSES = ("posterior", "noise", "offset", "perturbation")
"""What noise is drawn for, in the order of an undrawn batch's keys."""


@dataclass(frozen=True)
class Undrawn(Tensors):
    """A batch whose noise is still to be drawn, on whatever device it is then; no host is asked for that."""

    moments: Moments
    keys: Int[Tensor, "purposes b 2"]
    """The keys of each picture's noise for each of `PURPOSES`."""
    times: Timesteps
    texts: TextStates | TextRows
    weights: PerItem
    scale: float
    shift: float
    """The autoencoder's."""
    offset: float = 0.0
    """How far the noise of each channel is shifted as a whole."""
    perturbation: float = 0.0
    """How much more noise is on the pictures than the network is asked for."""
    places: Places | None = None
    kept: Places | None = None
    sizes: Sizes | None = None

    def drawn(self) -> Batch:
        """The batch: as the host makes it, of the same words, but with other normal numbers made of them."""
        channels, rows, columns = self.moments.shape[1] // 2, *self.moments.shape[2:]
        keys = dict(zip(PURPOSES, self.keys, strict=True))
        noise = normals(keys["noise"], (channels, rows, columns))
        if self.offset:
            noise = noise + self.offset * normals(keys["offset"], (channels, 1, 1))
        added = None
        if self.perturbation:
            added = noise + self.perturbation * normals(keys["perturbation"], (channels, rows, columns))
        posterior = normals(keys["posterior"], (channels, rows, columns))
        return Batch(
            clean=sampled(self.moments, posterior, self.scale, self.shift),
            noise=noise,
            times=self.times,
            texts=self.texts,
            weights=self.weights,
            added=added,
            places=self.places,
            kept=self.kept,
            sizes=self.sizes,
        )
