"""Losses and gradient norms summed on the device, so that the host waits for them in a report and not each step."""

import math
import time
from typing import Any

import torch
from torch import Tensor


class Window:
    """Sums since the last report. A step whose gradient is no number is not in them, and is counted."""

    def __init__(self, device: torch.device, in_a_row: Tensor | None = None) -> None:
        self.began, self.images, self.steps, self.rate = time.perf_counter(), 0, 0, 0.0
        nothing = torch.zeros((), device=device)
        self.loss, self.norm, self.skipped, self._passes = nothing, nothing, nothing, nothing
        self.in_a_row = nothing if in_a_row is None else in_a_row
        """How many of the last steps were left out, one after another."""

    def add(self, loss: Tensor, images: int) -> None:
        """Takes in one pass."""
        self._passes, self.images = self._passes + loss, self.images + images

    def stepped(self, norm: Tensor) -> Tensor:
        """Takes in one optimizer step, and tells whether its gradient is a number, without waiting for it: bool []."""
        good = norm.isfinite() & self._passes.isfinite()
        nothing = torch.zeros_like(self._passes)
        self.loss = self.loss + torch.where(good, self._passes, nothing)
        self.norm = self.norm + torch.where(good, norm.to(nothing.dtype), nothing)
        self.skipped = self.skipped + (~good).float()
        self.in_a_row = torch.where(good, nothing, self.in_a_row + 1)
        self._passes, self.steps = nothing, self.steps + 1
        return good

    def means(self, accelerator: Any) -> tuple[float, float]:
        """The mean loss of a step over all processes and its gradient norm; the host waits here."""
        counted = self.steps - int(self.skipped)
        if not counted:
            return math.nan, math.nan
        shared: Tensor = accelerator.reduce(self.loss, reduction="mean")
        return float(shared) / counted, float(self.norm) / counted

    def images_per_second(self) -> float:
        """The rate since the window began."""
        return self.images / max(1e-9, time.perf_counter() - self.began)

    def next(self) -> "Window":
        """An empty window that remembers how many of the last steps were left out."""
        return Window(self.loss.device, self.in_a_row)
