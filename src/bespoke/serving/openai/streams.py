"""Pictures and what is to be seen of them on the way, as server-sent events."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from bespoke.serving.attending import attended
from bespoke.serving.envelope import envelope, refusal
from bespoke.serving.jobs import Picture, Progress
from bespoke.serving.openai.answers import Address, completed, partial, progressed
from bespoke.serving.openai.asks import Asked
from bespoke.serving.wishes import Told

QUIET_S = 15.0
"""After so many seconds without an event a comment is sent: what stands between would take the line for dead."""
Draw = Callable[[Told], Coroutine[Any, Any, list[Picture]]]
Heard = asyncio.Queue[tuple[int, Progress] | None]


async def streamed(request: Request, asked: Asked, draw: Draw, address: Address) -> StreamingResponse:
    """The events of a drawing. They begin with the first step: what is refused before has a status of its own.

    Raises: Refusal when it fails before its first step.
    """
    heard: Heard = asyncio.Queue()
    drawing = asyncio.ensure_future(
        attended(request, draw(lambda index, progress: heard.put_nowait((index, progress))))
    )
    drawing.add_done_callback(lambda _: heard.put_nowait(None))
    try:
        first = await heard.get()
    except asyncio.CancelledError:
        drawing.cancel()
        raise
    if first is None:
        drawing.result()
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(asked, drawing, heard, first, address), media_type="text/event-stream", headers=headers
    )


async def _events(
    asked: Asked, drawing: asyncio.Future[list[Picture]], heard: Heard, item: tuple[int, Progress] | None,
    address: Address,
) -> AsyncGenerator[bytes, None]:  # fmt: skip
    shown = Counter[int]()
    try:
        while item is not None:
            for event in _seen(asked, *item, shown):
                yield event
            while (item := await _next(heard)) is ...:
                yield b": still drawing\n\n"
        for index, picture in enumerate(await drawing):
            yield _written(completed(asked, index, picture, address))
    except Exception as error:  # noqa: BLE001 - the answer has begun: whatever it is, it can only be told within
        yield _broken(error)
    finally:
        drawing.cancel()


def _seen(asked: Asked, index: int, progress: Progress, shown: Counter[int]) -> list[bytes]:
    """The events of a step; `shown` counts the unfinished pictures of each picture."""
    events = [progressed(asked, index, progress)] if asked.progress else []
    for preview in progress.previews:
        events.append(partial(asked, index, shown[index], preview))
        shown[index] += 1
    return [_written(event) for event in events]


async def _next(heard: Heard) -> Any:  # noqa: ANN401 - what the queue holds, or the ellipsis
    """What is heard next, or `...` when it is quiet for long."""
    try:
        return await asyncio.wait_for(heard.get(), QUIET_S)
    except TimeoutError:
        return ...


def _broken(error: Exception) -> bytes:
    return _written({"type": "error", **envelope(refusal(error))})


def _written(event: dict[str, Any]) -> bytes:
    """An event as it goes over the line. Source: the HTML standard, "Server-sent events"."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
