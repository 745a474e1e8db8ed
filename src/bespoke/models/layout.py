"""How a network's numbers lie in memory: as what computes with them reads them fastest."""

from typing import Any

import torch
from torch import nn

from bespoke.models.packed import pack

NARROW = 8
"""Channels of a group below which torch's group normalisation on a processor is slow when channels lie last."""


def arrange(network: nn.Module, device: str) -> None:
    """Lets the numbers of a network that is to be trained lie as a kind of device reads them fastest, in place.

    Channels last, for convolutions; on a processor not where groups of channels are narrow. There the weights of frozen
    convolutions are sorted as well. Names and shapes are as before, answers but for rounding.
    """
    if device == "cuda" or (device == "cpu" and _narrowest(network) >= NARROW):
        last: Any = torch.channels_last
        network.to(memory_format=last)
    if device == "cpu":
        pack(network)


def _narrowest(network: nn.Module) -> int:
    """Channels of the narrowest group that is normalised together; without any, as good as none."""
    widths = [part.num_channels // part.num_groups for part in network.modules() if isinstance(part, nn.GroupNorm)]
    return min(widths, default=NARROW)
