"""Who asks, by the key that a request brings, and what that key opens."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBasic, HTTPBearer
from starlette.datastructures import Headers

from bespoke.serving.keys import Key, Keys, Scope
from bespoke.serving.logs import note
from bespoke.serving.wishes import Refusal

ANYONE = "anyone"
"""The name of whoever asks a service that has no keys."""
CALLER = "caller"
"""Where a request's state has its key."""
Needs = Callable[[Scope], Callable[..., Awaitable[str]]]
"""What makes a dependency of a scope: it gives the caller's name, or refuses the request."""


class Access:
    """What requests may do."""

    def __init__(self, keys: Keys | None, *, loopback: bool) -> None:
        """Without keys everybody may draw; the rest, too, where only this machine can ask (`loopback`)."""
        self.keys, self.loopback = keys, loopback

    @property
    def open(self) -> bool:
        """Whether anyone on this machine may do everything."""
        return self.keys is None and self.loopback

    def caller(self, headers: Headers) -> Key | None:
        """The key that a request brings, if it holds."""
        secret = presented(headers)
        return self.keys.find(secret) if self.keys is not None and secret else None

    def refusal(self, headers: Headers) -> Refusal:
        """Why a request that has no key that holds is refused."""
        if presented(headers):
            return Refusal(401, "invalid_api_key", "This key is not known here, or was revoked.")
        return Refusal(401, "missing_api_key", "A key is needed: Authorization: Bearer KEY.")

    def needs(self, scope: Scope) -> Callable[..., Awaitable[str]]:
        """A dependency that gives the caller's name. It raises: Refusal of 401 or 403."""

        async def anyone() -> str:
            if scope != "draw" and not self.loopback:
                raise Refusal(
                    403, "missing_scope", f"This needs a key with the scope {scope}; the service has no keys."
                )
            note(owner=ANYONE)
            return ANYONE

        async def caller(
            request: Request,
            _bearer: Annotated[object, Security(HTTPBearer(auto_error=False))],
            _header: Annotated[object, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
            _basic: Annotated[object, Security(_Basic())],
        ) -> str:
            key: Key | None = getattr(request.state, CALLER, None) or self.caller(request.headers)
            if key is None:
                raise self.refusal(request.headers)
            note(owner=key.name)
            if not key.may(scope):
                raise Refusal(403, "missing_scope", f"This needs the scope {scope}, which the key {key.name} lacks.")
            return key.name

        return anyone if self.keys is None else caller


class _Basic(HTTPBasic):
    """HTTP's basic way, for the OpenAPI document; FastAPI's own refuses in its own words what is no base64."""

    async def __call__(self, request: Request) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing: `presented` reads all ways."""


def presented(headers: Headers) -> str | None:
    """The key in a request's headers: `Authorization: Bearer`, `X-API-Key`, or the password of HTTP's basic way."""
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return rest.strip() or None
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return headers.get("x-api-key") or None
