"""Which example stands at which position of a training, for ever: a function of the seed alone, without state."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from bespoke.seeds import permutation, uniform


@dataclass(frozen=True)
class Visit:
    """One appearance of an example: its number, the epoch it counts for, and which of its repeats there it is."""

    number: int
    epoch: int
    repeat: int


class Lane:
    """The endless sequence of the visits to some examples: epoch after epoch, each in an order keyed by its number."""

    def __init__(self, numbers: np.ndarray, repeats: np.ndarray, starts: np.ndarray, seed: int) -> None:
        self.numbers, self.seed = numbers, seed
        self._repeats, self._starts = repeats[numbers], starts[numbers]
        self._mean = float(self._repeats.sum())
        self._current, self._order = (0, 0), np.empty((0, 2), np.int64)

    def visit(self, position: int) -> Visit:
        """The visit at a position of the lane."""
        epoch, first = self._current
        if not first <= position < first + len(self._order):
            epoch = self._epoch_of(position)
            first = self.before(epoch)
            self._current, self._order = (epoch, first), self.visits(epoch)
        number, repeat = self._order[position - first].tolist()
        return Visit(number, epoch, repeat)

    def before(self, epoch: int) -> int:
        """How many visits come before an epoch."""
        return int(self._come_before(epoch).sum())

    def visits(self, epoch: int) -> np.ndarray:
        """The numbers of an epoch's examples and which of their repeats each is, in the epoch's order: int64 [n 2]."""
        counts = self._come_before(epoch + 1) - self._come_before(epoch)
        places = np.repeat(np.arange(len(counts)), counts)
        repeats = np.arange(len(places)) - np.searchsorted(places, places)
        order = permutation(len(places), self.seed, "order", epoch)
        return np.stack([self.numbers[places], repeats], axis=1)[order]

    def _come_before(self, epoch: int) -> np.ndarray:
        """How often each example has come before an epoch: one that counts r times, ⌊r⌋ or ⌈r⌉ times in each."""
        return np.floor(epoch * self._repeats + self._starts).astype(np.int64)

    def _epoch_of(self, position: int) -> int:
        """The epoch in which a position lies: the last before which no more visits have come."""
        epoch = int(position / self._mean)
        while self.before(epoch) > position:
            epoch -= 1
        while self.before(epoch + 1) <= position:
            epoch += 1
        return epoch


class Order:
    """The sequence of all visits, in passes of `size` positions each, every pass of one shape.

    The examples of each shape have a lane, and a lane's passes are filled one after another. In an epoch a lane has as
    many passes as bring its visits up to the epoch's end; where the last one is not full, the lane's first visits of
    the next epoch come in it, and not again. So no visit is left out or comes twice, no pass is short, and when an
    epoch ends, all its visits have been made. The passes of an epoch come in a keyed order. With one shape this is
    the lane itself, whatever `size` is.
    """

    def __init__(
        self, keys: Sequence[str], repeats: Sequence[float], shapes: Sequence[Hashable], seed: int, size: int
    ) -> None:
        self.seed, self.size = seed, size
        counts = np.array(repeats)
        # Where each example stands in its own cycle at the start, in steps that floats hold without rounding.
        starts = np.array([np.floor(1024 * uniform(seed, "repeats", key)) / 1024 for key in keys])
        groups: dict[Hashable, list[int]] = {}
        for number, shape in enumerate(shapes):
            groups.setdefault(shape, []).append(number)
        # Sorted, so that the order of the shapes does not hang on which picture happens to come first.
        self.lanes = [Lane(np.array(groups[s]), counts, starts, seed) for s in sorted(groups, key=repr)]
        self.epoch = float(counts.sum())
        """Visits in an epoch, in the mean."""
        self._current, self._first, self._passes = 0, 0, self._schedule(0)

    def visit(self, position: int) -> Visit:
        """The visit at a position."""
        number, offset = divmod(position, self.size)
        self._go_to(number)
        lane, turn = self._passes[number - self._first].tolist()
        return self.lanes[lane].visit(turn * self.size + offset)

    def epochs_over(self, passes: int) -> int:
        """How many epochs are over after so many passes."""
        self._go_to(passes)
        return self._current

    def used(self, epoch: int, passes: int) -> np.ndarray:
        """The numbers of the examples that have been visited for an epoch after so many passes, each once: int64 [n].

        It follows the passes that were made, so that it shows what was trained on and not what should have been.
        """
        self._go_to(passes)
        made = self._passes[: passes - self._first, 0]
        done = [before + int((made == n).sum()) for n, before in enumerate(self._passes_before(self._current))]
        parts = [
            lane.visits(epoch)[: max(0, turns * self.size - lane.before(epoch)), 0]
            for lane, turns in zip(self.lanes, done, strict=True)
        ]
        return np.unique(np.concatenate(parts))

    def _passes_before(self, epoch: int) -> list[int]:
        """How many passes each lane has made before an epoch: all that its visits until then need."""
        return [-(-lane.before(epoch) // self.size) for lane in self.lanes]

    def _go_to(self, number: int) -> None:
        """Makes the epoch current in which a pass lies."""
        epoch = self._current
        if self._first <= number < self._first + len(self._passes):
            return
        if not self._first <= number <= self._first + 2 * len(self._passes):
            epoch = int(number * self.size / self.epoch)
        while sum(self._passes_before(epoch)) > number:
            epoch -= 1
        while sum(self._passes_before(epoch + 1)) <= number:
            epoch += 1
        self._current, self._first, self._passes = epoch, sum(self._passes_before(epoch)), self._schedule(epoch)

    def _schedule(self, epoch: int) -> np.ndarray:
        """The lane of each pass of an epoch, and which of the lane's passes it is, in order: int64 [n 2]."""
        before, after = (np.array(self._passes_before(e)) for e in (epoch, epoch + 1))
        lanes = np.repeat(np.arange(len(before)), after - before)
        order = permutation(len(lanes), self.seed, "passes", epoch)
        lanes = lanes[order]
        turns = np.empty(len(lanes), np.int64)
        for lane, first in enumerate(before):
            here = lanes == lane
            turns[here] = first + np.arange(int(here.sum()))
        return np.stack([lanes, turns], axis=1)
