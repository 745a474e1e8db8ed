"""Pages turned into a server that runs until it is stopped."""

from collections.abc import Callable
from contextlib import suppress

import uvicorn

from bespoke.feedback import Store
from bespoke.pipeline.blind import Blind
from bespoke.serving.server import address, listening
from bespoke.web import opinions, rating

PATIENCE = 2
"""Seconds that open requests have to end when the server is stopped."""


def serve(shown: Blind | Store, *, host: str = "127.0.0.1", port: int = 0, ready: Callable[[str], None]) -> None:
    """Serves the pages of a blind study, or of kept pictures, until Ctrl-C.

    `ready` hears the address once a browser can open it. Port 0 is any free one.

    Raises:
        BespokeError: the port is in use or must not be used, or the host is not one of this machine.
    """
    with listening(host, port) as listened:
        local = host in ("127.0.0.1", "::1", "localhost")
        if isinstance(shown, Store):
            app = opinions.application(shown, loopback=local)
        else:
            app = rating.application(shown, loopback=local)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=PATIENCE
        )
        # Connections wait in the socket's queue until the server takes them: the address can be opened already.
        ready(address(listened))
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listened])
