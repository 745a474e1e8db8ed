"""A layer's change of low rank: LoRA's two matrices, and what can be made of them without a network."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """The change of one layer's weights: up · down · alpha / rank."""

    down: Tensor
    """[rank, in] or, of a convolution, [rank, in, height, width]."""
    up: Tensor
    """[out, rank] or, of a convolution, [out, rank, 1, 1]."""
    alpha: float
    magnitude: Tensor | None = None
    """DoRA's: the length of the weights of each output, in the shape that peft has it."""

    @property
    def rank(self) -> int:
        """How many rows the first matrix has."""
        return len(self.down)

    def change(self) -> Tensor:
        """What is added to the layer's weights, in their shape; without what DoRA does to the sum."""
        flat = self.up.flatten(1) @ self.down.flatten(1)
        return (flat * (self.alpha / self.rank)).reshape(len(self.up), *self.down.shape[1:])

    def resized(self, rank: int) -> "LowRank":
        """The nearest change of at most that rank; the same one where it is no larger.

        A DoRA's magnitudes stay. Source: Eckart and Young 1936; kohya's networks/resize_lora.py.
        """
        if rank >= self.rank:
            return self
        found = LowRank.nearest(self.change(), rank)
        return LowRank(found.down, found.up, found.alpha, self.magnitude)

    @staticmethod
    def nearest(change: Tensor, rank: int) -> "LowRank":
        """The change of at most that rank that lies nearest to a change of a layer's weights.

        It is exact where the change has that rank. The singular values are shared by both matrices, and alpha is the
        rank. Source: Eckart and Young 1936; kohya's networks/extract_lora_from_models.py.
        """
        u, s, v = torch.linalg.svd(change.double().flatten(1), full_matrices=False)
        rank = min(rank, len(s))
        root = s[:rank].sqrt()
        down, up = (root[:, None] * v[:rank]).float(), (u[:, :rank] * root).float()
        ones = [1] * (change.ndim - 2)
        return LowRank(down.reshape(rank, *change.shape[1:]), up.reshape(len(up), rank, *ones), float(rank))


LowRanks = Mapping[str, Mapping[str, LowRank]]
"""For each part of a model, `unet` or `text_encoder`, its changed layers by their own names."""
