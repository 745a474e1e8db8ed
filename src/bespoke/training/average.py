"""Weights turned into their running average, which draws better than the weights of any one step."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Average:
    """An exponential moving average of named parameters; without decay it is the parameters themselves.

    The decay rises to its full value over the first steps. Source: Tan & Le 2019's TensorFlow schedule,
    min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float | None) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = {} if decay is None else {name: p.detach().float().clone() for name, p in parameters.items()}
        device = next((value.device for value in self.values.values()), None)
        self._weight = torch.ones((), device=device)
        """What the parameters count for: a tensor, so that a recorded step reads it anew."""

    def update(self, step: int) -> None:
        """Takes in the parameters after `step`."""
        self.weigh(step)
        self.take()

    def weigh(self, step: int) -> None:
        """Says what the parameters after `step` will count for."""
        if self.decay is not None:
            self._weight.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def take(self) -> None:
        """Takes in the parameters, which count for what was said; on the device alone."""
        for name, value in self.values.items():
            value.lerp_(self.parameters[name].to(value.dtype), self._weight)

    @torch.no_grad()
    def restart(self) -> None:
        """Begins again with the parameters as they are now."""
        for name, value in self.values.items():
            value.copy_(self.parameters[name])

    @contextmanager
    def in_place(self) -> Generator[None, None, None]:
        """A block in which the parameters hold their averages."""
        kept = {name: self.parameters[name].detach().clone() for name in self.values}
        self._copy(self.values)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.parameters[name].copy_(value)
