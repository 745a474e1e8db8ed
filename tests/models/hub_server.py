"""A stand-in for Hugging Face's hub on this machine: models by revision, and the faults of the real one."""

import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]
LARGE = (".safetensors", ".bin", ".ckpt")
"""Files that the hub keeps elsewhere (LFS): their ETag is their SHA-256, and asking for one leads to another place."""


def files_in(folder: Path, **more: bytes) -> Files:
    """The files of a folder, as a repository holds them; `more` stand beside them."""
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {".gitattributes": b"*.safetensors filter=lfs\n", **found, **more}


def commit_of(files: Files) -> str:
    """The commit of a repository's files."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name, content in sorted(files.items()):
        digest.update(name.encode() + hashlib.sha1(content, usedforsecurity=False).digest())
    return digest.hexdigest()


@dataclass
class Hub:
    """What the stand-in holds, what is wrong with it, and what it was asked."""

    commits: dict[str, dict[str, Files]] = field(default_factory=dict[str, dict[str, Files]])
    """The files of each repository by their commits."""
    refs: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """The commit of each branch and tag of each repository."""
    gated: set[str] = field(default_factory=set[str])
    private: set[str] = field(default_factory=set[str])
    cut: dict[str, int] = field(default_factory=dict[str, int])
    """After how many bytes the next answer with a file breaks off."""
    gone: set[str] = field(default_factory=set[str])
    """Files of which no more is to be had."""
    wrong: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """What is sent instead of a file."""
    asked: list[str] = field(default_factory=list[str])
    ranges: list[str] = field(default_factory=list[str])
    sent: int = 0
    """Bytes of large files."""
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, name: str, files: Files, *refs: str) -> str:
        """Puts files into a repository, on its main branch and under further names; the commit."""
        commit = commit_of(files)
        self.commits.setdefault(name, {})[commit] = files
        self.refs.setdefault(name, {}).update(dict.fromkeys(("main", *refs), commit))
        return commit

    def contents(self) -> set[str]:
        """The files whose content was asked for."""
        return {line.partition("/resolve/")[2].partition("/")[2] for line in self.asked if line[:4] == "GET "} - {""}

    def forget(self) -> None:
        """Forgets what was asked."""
        self.asked.clear()
        self.ranges.clear()
        self.sent = 0


class Answers(BaseHTTPRequestHandler):
    """The parts of the hub's interface that reading a model takes."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        with self.hub.lock:
            self.hub.asked.append(f"{self.command} {unquote(self.path)}")
        # A revision with a slash, refs/pr/1, comes as one piece.
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        large, api = parts[0] == "large", parts[:2] == ["api", "models"]
        parts = parts[1:] if large else parts[2:] if api else parts
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.hub.commits or (name in self.hub.private and "good" not in self._token()):
            return self._missing()
        verb, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        commit = self.hub.refs[name].get(revision, revision)
        files = self.hub.commits[name].get(commit)
        if files is None:
            return self._say(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if api:
            return self._tree(files) if verb == "tree" else self._about(name, commit, files)
        if name in self.hub.gated and "good" not in self._token() and not large:
            return self._say(403 if self._token() else 401, "GatedRepo", f"Access to model {name} is restricted.")
        path = "/".join(rest[2:])
        if path not in files:
            return self._say(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        return self._file(name, commit, path, files[path], large=large)

    def _missing(self) -> None:
        """The same of what is missing and of what is private, but other to one who is logged in."""
        if self._token():
            return self._say(404, "RepoNotFound", "Repository not found")
        return self._say(401, "", "Invalid username or password.")

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _about(self, name: str, commit: str, files: Files) -> None:
        siblings = [{"rfilename": path} for path in sorted(files)]
        gated = "auto" if name in self.hub.gated else False
        about = {"_id": "1", "id": name, "modelId": name, "sha": commit, "gated": gated, "siblings": siblings}
        self._send(200, json.dumps({**about, "private": name in self.hub.private, "tags": []}).encode())

    def _tree(self, files: Files) -> None:
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        entries: list[dict[str, Any]] = []
        for path, content in sorted(files.items()):
            if "/" in path and not recursive:
                continue
            entry: dict[str, Any] = {"type": "file", "oid": _blob(content), "size": len(content), "path": path}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._send(200, json.dumps(entries).encode())

    def _file(self, name: str, commit: str, path: str, content: bytes, *, large: bool) -> None:
        about = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if path.endswith(LARGE) and not large:
            about |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            return self._send(302, b"", about | {"Location": f"{self.hub.address}/large/{name}/at/{commit}/{path}"})
        about["ETag"] = f'"{hashlib.sha256(content).hexdigest() if large else _blob(content)}"'
        if self.command == "HEAD":
            return self._send(200, content, about)
        return self._content(path, self.hub.wrong.get(path, content), about)

    def _content(self, path: str, content: bytes, about: dict[str, str]) -> None:
        begin, asked = 0, self.headers.get("Range", "")
        if asked:
            self.hub.ranges.append(f"{path} {asked}")
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
            about["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if begin and path in self.hub.gone:
            return self._send(503, b"")
        self._send(206 if asked else 200, content[begin:], about, most=self.hub.cut.pop(path, None))
        self.hub.sent += len(content) - begin if path.endswith(LARGE) else 0
        return None

    def _say(self, status: int, code: str, message: str, more: dict[str, str] | None = None) -> None:
        headers = ({"X-Error-Code": code} if code else {}) | {"X-Error-Message": message} | (more or {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, most: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:most])
        if most is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keeps quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of ours."""


@contextmanager
def serving() -> Generator[Hub, None, None]:
    """The stand-in, while the block runs."""
    hub = Hub()
    server = Server(("127.0.0.1", 0), type("Handler", (Answers,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _blob(content: bytes) -> str:
    """Git's name for a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
