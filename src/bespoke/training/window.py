"""Losses and gradient norms summed on the device, so that the host waits for them in a report and not each step."""

import math
import time
from typing import Any

import torch
from torch import Tensor


class Window:
    """Sums since the last report. A step whose gradient is no number is not in them, and is counted.

    The tensors stay where they are, so that a recorded step can add to them.
    """

    def __init__(self, device: torch.device) -> None:
        self.began, self.images, self.steps, self.rate = time.perf_counter(), 0, 0, 0.0
        self.loss, self.norm, self.skipped, self._passes = (torch.zeros((), device=device) for _ in range(4))
        self.in_a_row = torch.zeros((), device=device)
        """How many of the last steps were left out, one after another; it outlives the report."""

    def add(self, loss: Tensor) -> None:
        """Takes in the loss of one pass; the device's part."""
        self._passes.add_(loss)

    def stepped(self, norm: Tensor) -> Tensor:
        """Takes in one optimizer step, and tells whether its gradient is a number, without waiting for it: bool []."""
        good = norm.isfinite() & self._passes.isfinite()
        nothing = torch.zeros_like(self._passes)
        self.loss.add_(torch.where(good, self._passes, nothing))
        self.norm.add_(torch.where(good, norm.to(nothing.dtype), nothing))
        self.skipped.add_((~good).float())
        self.in_a_row.copy_(torch.where(good, nothing, self.in_a_row + 1))
        self._passes.zero_()
        return good

    def counted(self, images: int) -> None:
        """Counts one optimizer step of so many pictures; the host's part."""
        self.images, self.steps = self.images + images, self.steps + 1

    def means(self, accelerator: Any) -> tuple[float, float]:
        """The mean loss of a step over all processes and its gradient norm; the host waits here."""
        counted = self.steps - int(self.skipped)
        if not counted:
            return math.nan, math.nan
        shared: Tensor = accelerator.reduce(self.loss.clone(), reduction="mean")
        return float(shared) / counted, float(self.norm) / counted

    def images_per_second(self) -> float:
        """The rate since the window began."""
        return self.images / max(1e-9, time.perf_counter() - self.began)

    def restart(self) -> None:
        """Begins anew, but remembers how many of the last steps were left out."""
        self.began, self.images, self.steps = time.perf_counter(), 0, 0
        for total in (self.loss, self.norm, self.skipped):
            total.zero_()
