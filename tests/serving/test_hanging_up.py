"""Who hangs up is drawn for no longer, who stays is told that it goes on: over real sockets, with a real server."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.serving.listening import GENERATIONS, app_of, awaited, served, until
from tests.serving.painter import Painter


class Line:
    """A connection on which a request was sent as bytes."""

    def __init__(self, address: str, body: dict, **headers: str) -> None:
        parts, content = urlsplit(address), json.dumps(body).encode()
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        said = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": len(content)} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self.socket.sendall(f"POST {GENERATIONS} HTTP/1.1\r\n{head}\r\n".encode() + content)

    async def heard(self, words: bytes) -> bytes:
        """What is answered until some words come."""
        found = b""
        while words not in found:
            part = await asyncio.to_thread(self.socket.recv, 65536)
            assert part, found
            found += part
        return found


def hang_up(line: Line) -> None:
    line.socket.close()


def reset(line: Line) -> None:
    line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.socket.close()


@pytest.mark.parametrize("leave", [hang_up, reset])
@pytest.mark.parametrize("stream", [False, True], ids=["one answer", "a stream"])
@awaited
async def test_a_drawing_ends_with_whom_it_is_for(leave: Callable[[Line], None], stream: bool):
    painter = Painter(shut=True)
    with served(app_of(painter)) as address:
        line = Line(address, {"prompt": "a cat", "stream": stream, "progress": stream or None})
        if stream:
            assert b"200 OK" in await line.heard(b'"step": 1')
        await until(lambda: len(painter.wishes) == 1)
        assert painter.left == []
        leave(line)
        await until(lambda: len(painter.left) == 1)


@awaited
async def test_it_goes_on_where_another_waits_for_the_same():
    painter = Painter(shut=True)
    with served(app_of(painter)) as address:
        body = {"prompt": "a cat", "seed": 3}
        first = Line(address, body, **{"Idempotency-Key": "k"})
        await until(lambda: len(painter.wishes) == 1)
        second = Line(address, body, **{"Idempotency-Key": "k"})
        third = Line(address, {"prompt": "another"})  # answered requests tell that those before were begun
        await until(lambda: len(painter.wishes) == 2)
        hang_up(first)
        hang_up(third)
        await until(lambda: len(painter.left) == 1)
        assert [wish.prompt for wish in painter.left] == ["another"]
        painter.gate.set()
        assert b"idempotency-replayed: true" in await second.heard(b'"seed":3')
        fourth = Line(address, body, **{"Idempotency-Key": "k"})
        assert b"idempotency-replayed: true" in await fourth.heard(b'"seed":3')
        for line in (second, fourth):
            hang_up(line)
    assert len(painter.wishes) == 2


@awaited
async def test_a_quiet_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bespoke.serving.openai.streams.QUIET_S", 0.01)
    painter = Painter(shut=True)
    with served(app_of(painter)) as address:
        line = Line(address, {"prompt": "a cat", "stream": True})
        await line.heard(b": still drawing\n\n")
        painter.gate.set()
        await line.heard(b"event: image_generation.completed")
        hang_up(line)
