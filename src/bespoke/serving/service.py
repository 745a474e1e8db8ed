"""Wishes turned into pictures: what the protocols ask, and nothing of how it is drawn."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from bespoke.serving.jobs import Facts, Picture
from bespoke.serving.wishes import Told, Wish


class Drawing(Protocol):
    """The service as the protocols see it."""

    state: str
    """`starting`, `ready`, `draining` or `closed`."""

    @property
    def models(self) -> Mapping[str, Facts]:
        """What each name that is served means now."""
        ...

    @property
    def adapters(self) -> Sequence[str]:
        """The names of adapters that wishes may have."""
        ...

    async def draw(self, wish: Wish, owner: str, told: Told | None = None) -> list[Picture]:
        """The pictures of a wish; whoever stops waiting (the task is cancelled) lets the service leave off.

        `owner` is the name of the key that asked, whose share it counts to.
        Raises: Refusal.
        """
        ...
