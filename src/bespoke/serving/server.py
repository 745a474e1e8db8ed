"""A service and what answers over HTTP turned into a server that ends in good order."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from bespoke.errors import BespokeError
from bespoke.serving.service import Service

PATIENCE = 2
"""Seconds that open connections have to end once all that was accepted is answered."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(service: Service, app: Any, listening: socket.socket, ready: Callable[[str], None]) -> None:  # noqa: ANN401
    """Serves an application at a socket until a signal comes; `ready` hears the address once pictures can be drawn.

    A signal lets the service finish what it has accepted; a second one does not. `app` is any ASGI application.
    Raises: BespokeError when the service cannot begin.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=PATIENCE
    )
    with asyncio.Runner() as runner:
        runner.run(_serve(_Server(config, service), service, listening, ready))


async def _serve(server: "_Server", service: Service, listening: socket.socket, ready: Callable[[str], None]) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    starting = asyncio.create_task(service.start())
    try:
        await asyncio.wait((serving, starting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            ready(address(listening))
            await serving
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        server.should_exit = True
        await service.close()
        await serving


class _Server(uvicorn.Server):
    """uvicorn that, told to end, goes on answering until nothing that was accepted is left."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._ending: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """A block in which signals end the server; the process then leaves with 0, as one that did what it was told."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if self._ending:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that it was cut off is what was asked for
            self.should_exit = self.force_exit = True
        else:
            self._ending = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        await self._service.drain()
        self.should_exit = True


def address(listening: socket.socket) -> str:
    """The URL at which a socket is listened at."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def listening(host: str, port: int) -> socket.socket:
    """A socket at which connections wait until they are taken; port 0 is any free one.

    Raises: BespokeError when the port is in use or must not be used, or the host is not one of this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BespokeError(f"This machine has no address {host}: {error.strerror}.", "Leave the host out.") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
        found.listen()
    except (OSError, OverflowError) as error:
        found.close()
        raise BespokeError(f"{host}, port {port}, cannot be listened at: {error}.", "Give another port.") from None
    return found
