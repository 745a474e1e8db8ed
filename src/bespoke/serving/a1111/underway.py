"""Requests whose pictures are being drawn: how far each is, for whom, and how it is left off."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi import Request

from bespoke.serving.attending import attended
from bespoke.serving.jobs import Picture, Progress
from bespoke.serving.wishes import Refusal


@dataclass(eq=False)
class Errand:
    """A request that waits for its pictures."""

    owner: str
    name: str
    """What it is: `txt2img`, …"""
    count: int
    steps: int
    preview: bytes | None = field(default=None, repr=False)
    """A PNG file of what was shown last."""
    interrupted: bool = False
    began: float = field(default_factory=time.monotonic)
    at: datetime = field(default_factory=lambda: datetime.now().astimezone())
    _made: dict[int, Progress] = field(default_factory=dict[int, Progress], init=False, repr=False)

    def told(self, picture: int, progress: Progress) -> None:
        """Hears of the progress of one of its pictures."""
        self._made[picture] = progress
        if progress.previews:  # those of this picture alone: others in its batch are somebody else's
            self.preview = progress.previews[0]

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return sum(one.number / max(1, one.steps) for one in self._made.values()) / self.count

    @property
    def step(self) -> tuple[int, int]:
        """The step of the picture that is being drawn, and how many steps there are."""
        made = list(self._made.values())
        now = next((one for one in made if one.number < one.steps), made[-1] if made else Progress(0, self.steps))
        return now.number, now.steps

    @property
    def finished(self) -> int:
        """Pictures of it all of whose steps are made."""
        return sum(one.number >= one.steps for one in self._made.values())

    @property
    def remaining_s(self) -> float:
        """Seconds that it will go on, if it goes on as until now; 0 where nothing is known."""
        passed = time.monotonic() - self.began
        return passed / self.share - passed if self.share else 0.0


class Underway:
    """The requests of everybody that wait for pictures, in the order in which they came."""

    def __init__(self) -> None:
        self._errands: dict[Errand, asyncio.Task[Any]] = {}

    def of(self, owner: str) -> Sequence[Errand]:
        """The requests of one caller."""
        return [errand for errand in self._errands if errand.owner == owner]

    def interrupt(self, owner: str | None = None) -> int:
        """Leaves off the requests of one caller, or else of everybody; how many there were."""
        found = [errand for errand in self._errands if owner in (None, errand.owner)]
        for errand in found:
            errand.interrupted = True
            self._errands[errand].cancel()
        return len(found)

    async def drawn(
        self, errand: Errand, request: Request, drawing: Callable[[], Coroutine[Any, Any, list[Picture]]]
    ) -> list[Picture]:
        """What the drawing gives; it is left off when it is interrupted, or when the caller hangs up.

        Raises: Refusal of 409 when it was interrupted, of 499 when nobody listens any more, or what the drawing raises.
        """

        async def work() -> list[Picture]:
            task = asyncio.current_task()
            assert task is not None
            self._errands[errand] = task
            try:
                return await drawing()
            except asyncio.CancelledError:
                if errand.interrupted:
                    message = "The drawing was interrupted before it was done."
                    raise Refusal(409, "interrupted", message) from None
                raise
            finally:
                del self._errands[errand]

        return await attended(request, work())
