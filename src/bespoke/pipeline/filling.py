"""A size of memory turned into the largest batch that fits in it."""

from collections.abc import Callable


class Filling:
    """The largest batches that fit, of one training, in whatever sizes of memory are asked for.

    The bytes of a step grow with its batch in straight pieces that bend upwards only, for they are the highest of
    several moments, each of which is linear. So a line through two known batches is above the truth between them and
    below it beyond them, and few batches have to be measured.
    """

    def __init__(self, taken: Callable[[int], int], most: int) -> None:
        """`taken` gives the bytes that a batch takes; no batch is larger than `most`, which is at least 1."""
        self.taken, self.most = taken, most
        self.known: dict[int, int] = {}

    def largest(self, limit: int) -> int:
        """The largest batch that takes at most `limit` bytes; 0 where not even one picture fits."""
        if self._at(1) > limit:
            return 0
        low, high = self._bracket(limit)
        while high - low > 1:
            middle = min(high - 1, max(low + 1, self._guess(low, high, limit)))
            if self._beyond(middle, limit) or self._at(middle) > limit:
                high = middle
            else:
                low = middle
        return low

    def _at(self, batch: int) -> int:
        if batch not in self.known:
            self.known[batch] = self.taken(batch)
        return self.known[batch]

    def _bracket(self, limit: int) -> tuple[int, int]:
        """The largest known batch that fits, and the smallest that is known, or too many, not to."""
        fitting = [batch for batch, size in self.known.items() if size <= limit]
        others = [batch for batch, size in self.known.items() if size > limit]
        return max(fitting), min([*others, self.most + 1])

    def _guess(self, low: int, high: int, limit: int) -> int:
        """Where a straight line through two known batches reaches the limit, or the double of `low` without two."""
        ends = (low, high) if high in self.known else tuple(sorted(self.known))[-2:]
        if len(ends) < 2:
            return 2 * low
        first, last = ends
        slope = (self._at(last) - self._at(first)) / (last - first)
        return low + int((limit - self._at(low)) / slope) if slope > 0 else 2 * low

    def _beyond(self, batch: int, limit: int) -> bool:
        """Whether what is known of smaller batches says that a batch does not fit, without measuring it."""
        below = [known for known in sorted(self.known) if known < batch][-2:]
        if len(below) < 2:
            return False
        first, last = below
        slope = (self._at(last) - self._at(first)) / (last - first)
        return self._at(last) + slope * (batch - last) > limit
