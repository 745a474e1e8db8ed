"""How many pictures a key may ask for in the long run."""

import time
from collections.abc import Callable

from bespoke.serving.wishes import Refusal

MINUTE = 60.0


class Buckets:
    """One bucket of tokens for each caller: a picture takes one, and time fills them up again.

    Source: the token bucket, Turner 1986, "New directions in communications".
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """The tokens of each caller, and when there were so many."""

    def take(self, owner: str, count: int, rate: float, room: int) -> None:
        """Takes `count` tokens; `rate` come back a minute, up to those of a minute, or `room` if that is more.

        Raises: Refusal of 429, with the seconds after which there will be so many.
        """
        if not rate:
            return
        there, when = self._filled(owner, rate, room), self._clock()
        # Sums of parts of tokens end a little off; a millionth of one is not worth a second request.
        if there < count - 1e-6:
            seconds = (count - there) * MINUTE / rate
            message = (
                f"This key may ask for {rate:g} pictures a minute; {count} more can be had in {seconds:.1f} seconds."
            )
            raise Refusal(429, "rate_limit_exceeded", message, param="n", retry_after=seconds)
        self._buckets[owner] = (there - count, when)

    def give_back(self, owner: str, count: int, rate: float, room: int) -> None:
        """Gives tokens back for which nothing was drawn."""
        if rate:
            there, when = self._filled(owner, rate, room), self._clock()
            self._buckets[owner] = (min(there + count, _size(rate, room)), when)

    def _filled(self, owner: str, rate: float, room: int) -> float:
        size = _size(rate, room)
        there, when = self._buckets.get(owner, (size, self._clock()))
        return min(size, there + (self._clock() - when) * rate / MINUTE)


def _size(rate: float, room: int) -> float:
    # Smaller than the largest request, it would refuse that one for ever.
    return max(rate, float(room))
