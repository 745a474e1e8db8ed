"""Answers that are given again to whoever asks again: `Idempotency-Key`."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bespoke.serving.wishes import Refusal

LEAST = 4096
"""What an answer counts for at least, in bytes: its keeping takes memory, too."""

AT_ONCE = 256
"""So many answers are looked at when some may have to go."""


@dataclass
class _Reply:
    digest: str
    work: asyncio.Task[bytes]
    until: float
    waiting: int = 0
    size: int = 0


class Replies:
    """Answers by caller and key, for some seconds and up to some bytes; the oldest go first.

    Those that failed are not kept: whoever asks again gets another try.
    """

    def __init__(self, seconds: float, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most_bytes, clock
        self._replies: OrderedDict[tuple[str, str], _Reply] = OrderedDict()
        self._bytes = 0

    async def once(
        self, owner: str, key: str, digest: str, work: Callable[[], Coroutine[Any, Any, bytes]]
    ) -> tuple[bytes, bool]:
        """The answer that the work gave or gives to this caller's key, and whether that is an earlier one's.

        Work that is still going on is waited for. It goes on until nobody waits any more: who began it may hang up.
        `digest` is the hash of what is asked for.

        Raises: Refusal of 400 when the key was used for something else; else what the work raises.
        """
        self._drop()
        name = (owner, key)
        found = self._replies.get(name)
        if found is not None and found.digest != digest:
            message = "This Idempotency-Key was used for another request. Take a new one for each."
            raise Refusal(400, "idempotency_key_reused", message, param="Idempotency-Key")
        if found is not None:
            return await self._awaited(name, found), True
        begun = _Reply(digest, asyncio.ensure_future(work()), self._clock() + self._seconds)
        self._replies[name] = begun
        begun.work.add_done_callback(lambda done: self._done(name, begun, done))
        return await self._awaited(name, begun), False

    def __len__(self) -> int:
        """How many are kept or being made."""
        return len(self._replies)

    async def _awaited(self, name: tuple[str, str], reply: _Reply) -> bytes:
        reply.waiting += 1
        try:
            return await asyncio.shield(reply.work)
        finally:
            reply.waiting -= 1
            if not reply.waiting and not reply.work.done():
                # Forgotten at once: whoever asks in this moment must not wait for what is being left off.
                self._forget(name, reply)
                reply.work.cancel()

    def _done(self, name: tuple[str, str], reply: _Reply, done: asyncio.Task[bytes]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._forget(name, reply)
        elif self._replies.get(name) is reply:
            reply.size = max(LEAST, len(done.result()))
            self._bytes += reply.size

    def _forget(self, name: tuple[str, str], reply: _Reply) -> None:
        if self._replies.get(name) is reply:
            del self._replies[name]
            self._bytes -= reply.size

    def _drop(self) -> None:
        """Lets the oldest go that are too old, or too much; never one that is being made."""
        now = self._clock()
        for name, reply in list(islice(self._replies.items(), AT_ONCE)):
            if reply.size and (reply.until <= now or self._bytes > self._most):
                self._forget(name, reply)
