"""What keeps other sites, and other people's names, out of pages that a person answers on."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from bespoke.errors import BespokeError

TOKEN = "X-Bespoke-Token"  # noqa: S105 - a header's name
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # The address of a page holds the rater's name.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
Next = Callable[[Request], Awaitable[Response]]


class Secret:
    """What only the pages of one application know."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def keyed(self, *parts: str) -> str:
        """A name for these parts that nobody else can make."""
        return hmac.new(self._secret, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:32]

    def token(self, rater: str) -> str:
        """What a request must bring to write in a rater's name; only a page of this server can know it."""
        return self.keyed("token", rater)

    def admit(self, rater: str, token: str) -> None:
        """Nothing, for a request with a rater's token. Raises: HTTPException of 403."""
        if not hmac.compare_digest(token.encode(), self.token(rater).encode()):
            raise HTTPException(403, "This page belongs to a server that was stopped. Load it again.")


def guarded(app: FastAPI, *, loopback: bool) -> FastAPI:
    """The application, in place, with headers that keep other sites out, and errors in words.

    With `loopback` a name that somebody lets point to this machine, which would make a foreign page one of ours, is
    refused.
    """

    async def guard(request: Request, answer: Next) -> Response:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if loopback and host not in LOOPBACK:
            return PlainTextResponse("Only for this machine.", status_code=421)
        response = await answer(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.middleware("http")(guard)
    app.add_exception_handler(BespokeError, _told)
    return app


def page(content: Callable[[str], str]) -> HTMLResponse:
    """A page, made for a nonce, whose own scripts and styles are the only ones that run."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src 'nonce-{nonce}'; "
        f"style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    return HTMLResponse(content(nonce), headers={"Content-Security-Policy": policy})


def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, BespokeError)
    return JSONResponse({"detail": error.problem, "hint": error.hint}, status_code=400)
