"""Pages turned into a server that runs until it is stopped."""

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from bespoke.errors import BespokeError
from bespoke.pipeline.blind import Blind
from bespoke.web.rating import application

PATIENCE = 2
"""Seconds that open requests have to end when the server is stopped."""


def serve(blind: Blind, *, host: str = "127.0.0.1", port: int = 0, ready: Callable[[str], None]) -> None:
    """Serves the pages until Ctrl-C; `ready` hears the address once a browser can open it. Port 0 is any free one.

    Raises:
        BespokeError: the port is in use or must not be used, or the host is not one of this machine.
    """
    with _listening(host, port) as listening:
        local = host in ("127.0.0.1", "::1", "localhost")
        app = application(blind, loopback=local)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=PATIENCE
        )
        shown = f"[{host}]" if ":" in host else host
        # Connections wait in the socket's queue until the server takes them: the address can be opened already.
        ready(f"http://{shown}:{listening.getsockname()[1]}/")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BespokeError(f"This machine has no address {host}: {error.strerror}.", "Leave --host out.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise BespokeError(f"{host}, port {port}, cannot be listened at: {error}.", "Give another --port.") from None
    return listening
