"""Work that goes on only while somebody waits for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from bespoke.serving.wishes import Refusal

Done = TypeVar("Done")
GONE = 499
"""The status that is noted of a request whose caller hung up. Source: nginx."""


async def attended(request: Request, work: Coroutine[Any, Any, Done]) -> Done:
    """What the work gives; when the caller hangs up it is cancelled. The request's body must have been read.

    Raises: Refusal of 499, which nobody reads, when the caller hung up; else what the work raises.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait((working,))
        raise Refusal(GONE, "client_closed_request", "The caller hung up.")
    finally:
        working.cancel()
        leaving.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
