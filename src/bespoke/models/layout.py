"""How a network computes on a kind of device: how its numbers lie in memory, and which way attention goes."""

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from bespoke.models.attention import install
from bespoke.models.fusednorms import fuse_norms
from bespoke.models.groupnorm import why_not
from bespoke.models.packed import pack
from bespoke.models.tuned import Tuned

NARROW = 8
"""Channels of a group below which torch's group normalisation on a processor is slow when channels lie last."""


def arrange(network: Tuned, device: str, *, sparing: bool = False) -> None:
    """Lets a network that is to be trained compute as a kind of device does it fastest, in place.

    Channels last, for convolutions; on a processor not where groups of channels are narrow. There attention in bfloat16
    goes in blocks, and the weights of frozen convolutions are sorted once, which lie beside the others: not where it is
    sparing of memory. On a GPU with Triton a norm and its SiLU are one kernel. Names and shapes are as before, answers
    but for rounding. It follows from the network, the device and the recipe alone, so that a training that goes on, or
    goes on elsewhere, computes alike. What was arranged before stays.
    """
    if network.arranged:
        return
    network.arranged = True
    if device == "cuda" or (device == "cpu" and _narrowest(network) >= NARROW):
        channels_last(network)
    if device == "cuda" and not why_not(torch.device(device)):
        fuse_norms(network.denoiser)
    if device == "cpu":
        install(network.denoiser)
    if device == "cpu" and not sparing:
        pack(network)


def channels_last(network: nn.Module) -> None:
    """Lets the channels of a place lie side by side, as convolutions read them, in place.

    Tensors without contents, by which memory is planned, stay: torch cannot turn those that are watched.
    """
    turned: Any = network
    if not any(isinstance(parameter, FakeTensor) for parameter in network.parameters()):
        turned.to(memory_format=torch.channels_last)


def _narrowest(network: nn.Module) -> int:
    """Channels of the narrowest group that is normalised together; without any, as good as none."""
    widths = [part.num_channels // part.num_groups for part in network.modules() if isinstance(part, nn.GroupNorm)]
    return min(widths, default=NARROW)
