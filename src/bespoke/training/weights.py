"""A network's trained weights as the optimizer moves them: in their own place, or as copies in the host's memory."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Weights:
    """Trained weights that the optimizer moves where they are."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.moved = dict(parameters)
        """What the optimizer moves, by name."""

    @property
    def aside(self) -> dict[str, Tensor]:
        """Everything that is kept in the host's memory, by name."""
        return {}

    def arrived(self) -> None:
        """Returns when all gradients of a step are where the optimizer reads them."""

    def shown(self, *, wait: bool = True) -> None:
        """Gives the network what was moved; without `wait` the host goes on meanwhile."""

    def taken(self) -> None:
        """Takes over what was done to the network's own weights."""


class Offloaded(Weights):
    """Trained weights whose copies the optimizer moves, in the host's memory, where gradients and moments are, too.

    A gradient goes to the host as soon as it is there, beside the backward pass, and leaves the device. Further passes
    of a step add to it: it comes back for that, so that the sum is made as without offloading, and no one waits.
    Source: Ren et al. 2021, "ZeRO-Offload", section 4; as torchao's `CPUOffloadOptimizer` does.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.own = dict(parameters)
        self.on_gpu = next(iter(self.own.values())).device.type == "cuda"
        super().__init__({name: nn.Parameter(self._here(p).copy_(p.detach())) for name, p in self.own.items()})
        self._gradients = {name: self._here(parameter) for name, parameter in self.own.items()}
        self._stream: Any = torch.cuda.Stream() if self.on_gpu else None
        for name, parameter in self.own.items():
            parameter.register_post_accumulate_grad_hook(lambda there, name=name: self._send(name, there))

    @property
    def aside(self) -> dict[str, Tensor]:
        """The copies and the gradients."""
        return {**self.moved, **{f"gradient of {name}": gradient for name, gradient in self._gradients.items()}}

    def arrived(self) -> None:
        """Returns when all gradients of a step are in the host's memory."""
        if self._stream:
            self._stream.synchronize()

    @torch.no_grad()
    def shown(self, *, wait: bool = True) -> None:
        """Gives the network what was moved; without `wait` the host goes on, and may write after `arrived` only."""
        for name, parameter in self.own.items():
            parameter.copy_(self.moved[name], non_blocking=True)
        if wait and self.on_gpu:
            torch.cuda.current_stream().synchronize()

    @torch.no_grad()
    def taken(self) -> None:
        """Takes over what was done to the network's own weights."""
        for name, parameter in self.own.items():
            self.moved[name].copy_(parameter)

    def _here(self, parameter: Tensor) -> Tensor:
        """Room in the host's memory for a tensor; beside a GPU it is pinned, so that copies need not wait."""
        return torch.empty_like(parameter, device="cpu", requires_grad=False, pin_memory=self.on_gpu)

    @torch.no_grad()
    def _send(self, name: str, parameter: Tensor) -> None:
        """Sends a gradient away, added to what was sent in this step."""
        gradient, kept, copy = parameter.grad, self._gradients[name], self.moved[name]
        assert gradient is not None
        parameter.grad = None
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream())
            gradient.record_stream(self._stream)
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            if copy.grad is not None:
                gradient = kept.to(gradient.device, non_blocking=True) + gradient
            kept.copy_(gradient, non_blocking=True)
        copy.grad = kept
