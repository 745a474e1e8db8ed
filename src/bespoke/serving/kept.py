"""What is kept in memory for a while, by names that nobody can guess or by names of its own."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from bespoke.serving.jobs import Picture

T = TypeVar("T")


@dataclass(frozen=True)
class _Kept(Generic[T]):
    what: T
    size: int
    until: float


class Kept(Generic[T]):
    """Things in memory, for some seconds, up to some bytes and so many at most; the oldest go first."""

    def __init__(
        self, seconds: float, most_bytes: int, clock: Callable[[], float] = time.monotonic, most: int | None = None
    ) -> None:
        self._seconds, self._most_bytes, self._clock, self._most = seconds, most_bytes, clock, most
        self._kept: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._bytes = 0

    def keep(self, name: str, what: T, size: int) -> None:
        """Keeps something under a new name; the newest is kept however large."""
        self._kept[name] = _Kept(what, size, self._clock() + self._seconds)
        self._bytes += size
        self._drop()

    def find(self, name: str) -> tuple[T, float] | None:
        """What has a name and the seconds for which it is kept, or None when it is not there any more."""
        self._drop()
        found = self._kept.get(name)
        return (found.what, found.until - self._clock()) if found else None

    @property
    def bytes(self) -> int:
        """What they take."""
        return self._bytes

    def _drop(self) -> None:
        now = self._clock()
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            many = self._most is not None and len(self._kept) > self._most
            full = self._bytes > self._most_bytes or many
            if oldest.until > now and not (full and len(self._kept) > 1):
                return
            self._bytes -= self._kept.pop(name).size


def named(kept: Kept[Picture], picture: Picture) -> str:
    """The name under which a picture is kept from now on; 192 random bits are in it."""
    name = f"{secrets.token_urlsafe(24)}.{picture.form}"
    kept.keep(name, picture, len(picture.data))
    return name
