"""A training's batches on its device: beside a GPU they are assembled ahead, by a thread, and copied while it computes.

What a batch holds is a function of its turn alone, so it is the same whoever makes it and when. On a processor there is
no thread: assembling takes less than a hundredth of a step, and the cores are busy (`benchmarks/loader.py`).
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from bespoke.training.batch import Batch, Undrawn
from bespoke.training.batches import Stream, Visited

AHEAD = 2
"""Batches that are made, or being made, while one is used; as many are on the device."""


def ahead_on(device: str) -> int:
    """How many batches are made ahead for a kind of device."""
    return 0 if device == "cpu" else AHEAD


class Loader:
    """The batches of one process's passes. Inside `running` they are made ahead, else when they are asked for."""

    def __init__(
        self, stream: Stream, device: torch.device, share: tuple[int, int], pass_size: int, ahead: int | None = None
    ) -> None:
        """`share` is which of how many processes this is; together they take `pass_size` pictures a pass."""
        self.stream, self.device = stream, device
        self.size = pass_size // share[1]
        self._first, self._pass_size = share[0] * self.size, pass_size
        # Rows that a network encodes when they are read would have it work in two threads at once.
        self.ahead = (ahead_on(device.type) if ahead is None else ahead) if stream.material.latents.ready else 0
        self._thread: ThreadPoolExecutor | None = None
        self._made: deque[tuple[int, Future[Any]]] = deque()
        self._copies: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """A block in which batches are made ahead; where it is left, however that is, the thread ends."""
        if not self.ahead:
            yield
            return
        self._thread = ThreadPoolExecutor(1, "bespoke-loader")
        try:
            yield
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None
            self._made.clear()

    def batch(self, turn: int) -> Batch | Undrawn:
        """The batch of a pass, on the device.

        Raises: whatever went wrong when it was assembled, in whichever thread that was.
        """
        if self._thread is None:
            return self._whole(self._position(turn)).to(self.device)
        if self._made and self._made[0][0] != turn:
            self._made.clear()
        while len(self._made) <= self.ahead:
            following = turn + len(self._made)
            # The stream remembers where it stands, so that it is asked in this thread.
            drawn = self.stream.drawn(self._position(following), self.size)
            self._made.append((following, self._thread.submit(self._make, drawn)))
        return self._arrived(*self._made.popleft()[1].result())

    def _whole(self, first: int) -> Batch | Undrawn:
        return self.stream.assembled(self.stream.drawn(first, self.size))

    def _position(self, turn: int) -> int:
        return turn * self._pass_size + self._first

    def _make(self, drawn: Sequence[Visited]) -> tuple[Batch | Undrawn, Any]:
        """A batch on its way to the device, and the event after which it is there; in the loader's thread."""
        batch = self.stream.assembled(drawn)
        if self._copies is None:
            return batch.to(self.device), None
        # torch keeps pinned memory that is no longer used, and gives it out again once its copies are made.
        pinned = batch.each(torch.Tensor.pin_memory)
        with torch.cuda.stream(self._copies):
            return pinned.to(self.device), self._copies.record_event()

    def _arrived(self, batch: Batch | Undrawn, copied: Any) -> Batch | Undrawn:
        """The batch, which what is computed from now on may read; nobody waits for it here."""
        if copied is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(copied)
            for tensor in batch.tensors.values():
                tensor.record_stream(here)
        return batch
