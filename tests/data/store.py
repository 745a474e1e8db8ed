"""A stand-in for a store that speaks S3, and for a plain web server, on this machine: what Arrow's client and fsspec
ask of one. By hand the same was tried against moto 5.2.5, with s3fs 2026.9.0 and with Arrow."""

import io
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

REASONS = {"NoSuchKey": 404, "NoSuchBucket": 404, "AccessDenied": 403}


@dataclass
class Store:
    """What the stand-in holds, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """By bucket and key, `bucket/key`."""
    denied: str = "locked"
    """The bucket that nobody may see."""
    refuses: str = ""
    """The file that nobody may write."""
    asked: list[str] = field(default_factory=list[str])
    """Methods and paths, without what only lists."""
    ranges: list[str] = field(default_factory=list[str])
    """The parts of files that were asked for."""
    halts: dict[str, int] = field(default_factory=dict[str, int])
    """Files of which only so many bytes are sent before the answer stops, until `go` is set."""
    halted: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict[str, dict[int, bytes]])
    address: str = ""

    def fetched(self, method: str = "GET") -> list[str]:
        """The names of the files that were asked for so, each once, in order."""
        names = (line.partition(" ")[2].partition("/")[2] for line in self.asked if line.startswith(f"{method} "))
        return list(dict.fromkeys(name for name in names if name and not name.endswith("/")))


class Answers(BaseHTTPRequestHandler):
    """The parts of S3's interface that reading and writing shards take."""

    store: Store
    protocol_version = "HTTP/1.1"

    def _here(self) -> tuple[str, dict[str, list[str]]]:
        address = urlsplit(self.path)
        path, query = unquote(address.path).lstrip("/"), parse_qs(address.query, keep_blank_values=True)
        if "list-type" not in query:
            self.store.asked.append(f"{self.command} {path}")
        return path, query

    def _refused(self, path: str) -> bool:
        bucket = path.partition("/")[0]
        if bucket == self.store.denied or (path == self.store.refuses and self.command in ("PUT", "POST")):
            self._error("AccessDenied")
        elif not any(name.startswith(f"{bucket}/") for name in self.store.files):
            self._error("NoSuchBucket")
        else:
            return False
        return True

    def do_HEAD(self) -> None:
        path, _ = self._here()
        if self._refused(path):
            return
        if path.partition("/")[2] and path not in self.store.files:
            self._error("NoSuchKey")
        else:
            self._say(200, self.store.files.get(path, b""), about=path)

    def do_GET(self) -> None:
        path, query = self._here()
        if self._refused(path):
            return
        if "list-type" in query:
            self._list(path.partition("/")[0], query)
        elif path not in self.store.files:
            self._error("NoSuchKey")
        else:
            self._content(path)

    def _content(self, path: str) -> None:
        content, asked = self.store.files[path], self.headers.get("Range", "")
        if not asked:
            return self._say(200, content, about=path)
        self.store.ranges.append(asked)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        end = min(int(last), len(content) - 1) if last else len(content) - 1
        headers = {"Content-Range": f"bytes {first}-{end}/{len(content)}"}
        return self._say(206, content[int(first) : end + 1], about=path, headers=headers)

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys, folders = list[str](), dict[str, None]()
        for name in sorted(self.store.files):
            key = name.removeprefix(f"{bucket}/")
            if not name.startswith(f"{bucket}/") or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders[f"{prefix}{rest.partition(delimiter)[0]}{delimiter}"] = None
            else:
                keys.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{self._tag(f'{bucket}/{key}')}&quot;</ETag>"
            f"<Size>{len(self.store.files[f'{bucket}/{key}'])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys) + len(folders)}</KeyCount>"
        self._xml(
            "ListBucketResult", f"{head}<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{contents}{common}"
        )

    def do_PUT(self) -> None:
        path, query = self._here()
        content = self._body()
        if self._refused(path):
            return
        if "partNumber" in query:
            self.store.parts[path][int(query["partNumber"][0])] = content
        else:
            self.store.files[path] = content
        self._say(200, b"", headers={"ETag": f'"{md5(content, usedforsecurity=False).hexdigest()}"'})

    def do_POST(self) -> None:
        path, query = self._here()
        self._body()
        if self._refused(path):
            return
        bucket, _, key = path.partition("/")
        if "uploads" in query:
            self.store.parts[path] = {}
            self._xml(
                "InitiateMultipartUploadResult", f"<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>1</UploadId>"
            )
        else:
            self.store.files[path] = b"".join(part for _, part in sorted(self.store.parts.pop(path).items()))
            self._xml(
                "CompleteMultipartUploadResult", f"<Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>&quot;1&quot;</ETag>"
            )

    def do_DELETE(self) -> None:
        path, _ = self._here()
        self.store.files.pop(path, None)
        self._say(204, b"")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b"".join(_chunks(self.rfile))
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Amazon's clients put chunks, and a checksum behind them, into the chunks of HTTP.
        packed = "aws-chunked" in self.headers.get("Content-Encoding", "")
        return b"".join(_chunks(io.BytesIO(content))) if packed else content

    def _tag(self, path: str) -> str:
        return md5(self.store.files.get(path, b""), usedforsecurity=False).hexdigest()

    def _xml(self, name: str, inner: str) -> None:
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        body = f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{space}">{inner}</{name}>'
        self._say(200, body.encode(), headers={"Content-Type": "application/xml"})

    def _error(self, code: str) -> None:
        said = {"NoSuchBucket": "The specified bucket does not exist", "AccessDenied": "Access Denied"}.get(code, code)
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{said}</Message></Error>'
        self._say(REASONS[code], body.encode(), headers={"Content-Type": "application/xml"})

    def _say(self, status: int, body: bytes, *, about: str = "", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        own = {"ETag": f'"{self._tag(about)}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"} if about else {}
        for key, value in (own | {"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        if about:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command != "HEAD":
            self._send(body, self.store.halts.get(about) if about else None)

    def _send(self, body: bytes, halt: int | None) -> None:
        if halt is not None:
            self.wfile.write(body[:halt])
            self.wfile.flush()
            self.store.halted.set()
            self.store.go.wait(60)
            body = body[halt:]
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        """One answer; a client that was killed hears no more."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keeps quiet."""


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """What stands in chunks, each between its length, in hexadecimal, and the end of a line."""
    while length := int(stream.readline().partition(b";")[0].strip() or b"0", 16):
        yield stream.read(length)
        stream.readline()
    while stream.readline().strip():
        pass


@contextmanager
def running() -> Generator[Store]:
    """A store that answers while the block runs."""
    held = Store()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), {"store": held}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    held.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield held
    finally:
        held.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
