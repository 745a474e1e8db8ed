"""What holds for every request, whatever it asks for: who may come in, how much it may bring, what is noted of it."""

import re
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bespoke.serving.access import CALLER, Access
from bespoke.serving.attending import GONE
from bespoke.serving.envelope import enveloped, refusal
from bespoke.serving.logs import Log, noting
from bespoke.serving.metrics import Metrics
from bespoke.serving.wishes import Refusal

LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))
SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""What a request id of a caller's may be: it goes into the log."""
READING = frozenset(("GET", "HEAD", "OPTIONS"))
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Stands before an application: refuses what may not come in, and writes down what became of each request."""

    def __init__(self, app: ASGIApp, access: Access, most_bytes: int, metrics: Metrics, log: Log) -> None:
        self._app, self._access, self._most = app, access, most_bytes
        self._metrics, self._log = metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, and never raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        answer = _Answer(send, given if SANE.fullmatch(given) else uuid.uuid4().hex)
        notes, began = noting(), time.monotonic()
        try:
            self._check(scope, headers)
            await self._app(scope, self._counted(receive), answer)
        except Exception as error:  # noqa: BLE001 - nothing may leave but an answer
            await self._failed(error, scope, answer)
        finally:
            self._note(scope, answer, notes, time.monotonic() - began)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raises: Refusal when nothing of the request needs to be read to refuse it."""
        if self._access.open:
            _from_here(headers)
        key = self._access.caller(headers)
        scope.setdefault("state", {})[CALLER] = key
        if scope["method"] in READING:
            return
        if self._access.keys is not None and key is None:  # before a body is read of somebody unknown
            raise self._access.refusal(headers)
        if _length(headers) > self._most:
            raise self._too_large()
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("application/json", "multipart/form-data") and _has_body(headers):
            raise Refusal(415, "unsupported_media_type", "Send JSON, with the header Content-Type: application/json.")

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if size > self._most:
                too_large = self._too_large()
                # Whatever reads a body lets this kind of error through.
                raise HTTPException(too_large.status, too_large.message)
            return message

        return counted

    def _too_large(self) -> Refusal:
        return Refusal(
            413, "request_too_large", f"A request may have {self._most / 2**20:g} MiB (serve.most_request_mb)."
        )

    async def _failed(self, error: Exception, scope: Scope, answer: "_Answer") -> None:
        response = enveloped(refusal(error), scope["path"])
        if not answer.status:
            await response(scope, _nothing, answer)

    def _note(self, scope: Scope, answer: "_Answer", notes: dict[str, Any], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unknown"
        method, code, status = str(scope["method"]), str(notes.get("code", "")), answer.status or GONE
        self._metrics.answered(route, method, status, seconds, code)
        known = {"request_id": answer.id, "method": method, "route": route, "status": status}
        self._log.write("request", **known, seconds=round(seconds, 4), **notes)


class _Answer:
    """What sends an answer, with the headers that every one has."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self.id, self.status = send, request_id, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


def _from_here(headers: Headers) -> None:
    """Raises: Refusal when a page of another site asks, be it by a name that it lets point to this machine."""
    if _host(f"//{headers.get('host', '')}") not in LOOPBACK:
        raise Refusal(421, "wrong_host", "Without keys the service answers to this machine alone, as 127.0.0.1.")
    origin = headers.get("origin")
    if origin and _host(origin) not in LOOPBACK:
        raise Refusal(403, "wrong_origin", "Pages of other sites may not ask.")


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _length(headers: Headers) -> int:
    """The bytes that a request says it has; they are counted, too."""
    said = headers.get("content-length", "")
    return int(said[:18]) if said.isdecimal() else 0


def _has_body(headers: Headers) -> bool:
    return _length(headers) > 0 or "transfer-encoding" in headers


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
