"""An application as clients meet it: in this process, or behind a real server on a free port."""

import asyncio
import functools
import io
import json
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from bespoke.recipe.service import Serve
from bespoke.serving.app import application
from bespoke.serving.logs import Log

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
Test = Callable[..., Coroutine[Any, Any, None]]


def awaited(test: Test) -> Callable[..., None]:
    """A test that runs in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


def app_of(drawing: Any, settings: Serve | None = None, *given: Any, **named: Any) -> FastAPI:
    """An application, with the default settings unless it is given others; its log goes nowhere unless it is said."""
    return application(drawing, settings or Serve(), *given, **{"log": Log(io.StringIO())} | named)


@asynccontextmanager
async def asking(app: FastAPI, **headers: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of an application in this process and event loop."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


@contextmanager
def served(app: FastAPI, port: int = 0) -> Generator[str, None, None]:
    """The address of a real server of an application, in another thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=1))
    began = threading.Event()
    startup = server.startup

    async def told(*given: Any, **named: Any) -> None:
        await startup(*given, **named)
        began.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert began.wait(60)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """What a log says."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def until(true: Callable[[], bool]) -> None:
    """Waits until something is so; the test fails where it never is."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)
