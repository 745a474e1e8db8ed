"""A server of pictures on this machine with every fault of the web, which counts what it is asked."""

import gzip
import io
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image


def pixels(number: int, side: int = 40) -> np.ndarray:
    """A picture that looks like no other."""
    return np.kron(
        np.random.default_rng(number).integers(0, 255, (8, 8, 3)), np.ones((side // 8, side // 8, 1))
    ).astype(np.uint8)


def picture(number: int, kind: str = "JPEG", side: int = 40) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels(number, side)).save(content, kind)
    return content.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 400 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@dataclass
class Web:
    """What the server does and was asked; `/NUMBER` is a picture, `/FAULT/NUMBER` one with a fault."""

    address: str = ""
    asked: Counter[str] = field(default_factory=Counter[str])
    """How often each path was asked for."""
    served: Counter[str] = field(default_factory=Counter[str])
    """How often each path was answered with a whole picture."""
    times: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    agents: set[str] = field(default_factory=set[str])
    robots: bytes | None = None
    robots_status: int = 200
    at_once: int = 0
    most_at_once: int = 0
    slowness: float = 0.0
    """Seconds before each answer."""
    stall: float = 2.5
    """Seconds for which nothing is said where an answer stalls."""
    engine: Callable[[str, dict[str, str], dict[str, str]], tuple[int, bytes, dict[str, str]] | None] | None = None
    """What else is answered: status, body and headers of an answer by path, query and the question's headers."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


class Answers(BaseHTTPRequestHandler):
    web: Web
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        web, path = self.web, urlsplit(self.path).path
        with web.lock:
            web.asked[self.path] += 1
            web.times.setdefault(path, []).append(time.monotonic())
            web.agents.add(self.headers["User-Agent"])
            web.at_once += 1
            web.most_at_once = max(web.most_at_once, web.at_once)
        try:
            time.sleep(web.slowness)
            self._answer(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with web.lock:
                web.at_once -= 1

    def _answer(self, path: str) -> None:
        if path == "/robots.txt":
            status = 404 if self.web.robots is None else self.web.robots_status
            self._say(status, self.web.robots or b"", "text/plain")
        elif (found := self._found(path)) is not None:
            self._say(found[0], found[1], "application/json", found[2])
        else:
            self._picture(path)

    def _found(self, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        return self.web.engine(path, query, dict(self.headers)) if self.web.engine else None

    def _picture(self, path: str) -> None:
        fault, _, number = path.strip("/").rpartition("/")
        own = picture(int(number)) if number.isdigit() else b""
        times = self.web.asked[self.path]
        known = {
            "": lambda: self._say(200, own, "image/jpeg"),
            "page": lambda: self._say(200, b"<!DOCTYPE html><html><body>no</body></html>", "image/jpeg"),
            "text": lambda: self._say(200, own, "text/plain"),
            "png": lambda: self._say(200, picture(int(number), "PNG"), "image/jpeg"),
            "bomb": lambda: self._say(200, bomb(), "image/png"),
            "empty": lambda: self._say(200, b"", "image/jpeg"),
            "gone": lambda: self._say(410, b"", "text/plain"),
            "forbidden": lambda: self._say(403, b"", "text/plain"),
            "once": lambda: self._say(*((500, b"") if times == 1 else (200, own)), "image/jpeg"),
            "broken": lambda: self._say(500, b"", "text/plain"),
            "busy": lambda: self._say(*((429, b"") if times == 1 else (200, own)), "image/jpeg", {"Retry-After": "x"}),
            "wait": lambda: self._say(*((429, b"") if times == 1 else (200, own)), "image/jpeg", {"Retry-After": "1"}),
            "shut": lambda: self._say(429, b"", "text/plain", {"Retry-After": "3600"}),
            "moved": lambda: self._say(302, b"", "", {"Location": f"/{number}"}),
            "circle": lambda: self._say(302, b"", "", {"Location": f"/circle/{(int(number) + 1) % 2}"}),
            "far": lambda: self._say(302, b"", "", {"Location": f"/far/{int(number) + 1}"}),
            "file": lambda: self._say(302, b"", "", {"Location": "file:///etc/passwd"}),
            "inward": lambda: self._say(302, b"", "", {"Location": f"{self.web.address}/{number}"}),
            "noai": lambda: self._say(200, own, "image/jpeg", {"X-Robots-Tag": "noindex, noai"}),
            "gzip": lambda: self._say(200, gzip.compress(own), "image/jpeg", {"Content-Encoding": "gzip"}),
            "badgzip": lambda: self._say(200, own, "image/jpeg", {"Content-Encoding": "gzip"}),
            "short": lambda: self._cut(own),
            "shortonce": lambda: self._cut(own) if times == 1 else self._say(200, own, "image/jpeg"),
            "torn": lambda: self._say(200, own[: len(own) // 2], "image/jpeg"),
            "giant": self._giant,
            "stall": lambda: time.sleep(self.web.stall),
            "trickle": lambda: self._trickle(own),
            "trickleheaders": self._trickle_headers,
        }  # fmt: skip
        known.get(fault, lambda: self._say(404, b"not here", "text/plain"))()

    def _say(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        if status == 200 and body[:3] in (b"\xff\xd8\xff", b"\x89PN"):
            with self.web.lock:
                self.web.served[self.path] += 1

    def _cut(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def _giant(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(picture(0))
        for _ in range(2000):
            self.wfile.write(bytes(1 << 16))
        self.close_connection = True

    def _trickle(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for at in range(len(body)):
            self.wfile.write(body[at : at + 1])
            self.wfile.flush()
            time.sleep(0.05)

    def _trickle_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(1000):
            self.wfile.write(f"X-{number}: 1\r\n".encode())
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keeps quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of ours."""


@contextmanager
def serving() -> Generator[Web, None, None]:
    """The server, while the block runs."""
    web = Web()
    server = Server(("127.0.0.1", 0), type("Handler", (Answers,), {"web": web}))
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with serving() as alone:
        sys.stdout.write(f"{alone.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
