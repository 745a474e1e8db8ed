"""Pictures that wait to be fetched, at addresses that nobody can guess."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from bespoke.serving.jobs import Picture


@dataclass(frozen=True)
class _Kept:
    picture: Picture
    until: float


class Kept:
    """Pictures in memory, for some seconds and up to some bytes; the oldest go first."""

    def __init__(self, seconds: float, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most_bytes, clock
        self._pictures: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, picture: Picture) -> str:
        """The name under which a picture can be found; 192 random bits are in it. The newest is kept however large."""
        name = f"{secrets.token_urlsafe(24)}.{picture.form}"
        self._pictures[name] = _Kept(picture, self._clock() + self._seconds)
        self._bytes += len(picture.data)
        self._drop()
        return name

    def find(self, name: str) -> tuple[Picture, float] | None:
        """A picture and the seconds for which it is kept, or None when it is not there any more."""
        self._drop()
        found = self._pictures.get(name)
        return (found.picture, found.until - self._clock()) if found else None

    @property
    def bytes(self) -> int:
        """What they take."""
        return self._bytes

    def _drop(self) -> None:
        now = self._clock()
        while self._pictures:
            name, oldest = next(iter(self._pictures.items()))
            if oldest.until > now and (self._bytes <= self._most or len(self._pictures) == 1):
                return
            self._bytes -= len(self._pictures.pop(name).picture.data)
