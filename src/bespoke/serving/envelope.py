"""Why there is no answer, in the words and the form of the protocol that was spoken; no path and no traceback."""

import math
import traceback
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from bespoke.serving.logs import note
from bespoke.serving.wishes import Refusal

WEBUI = "/sdapi/"
"""What the paths of A1111's protocol begin with."""
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 415: "unsupported_media_type"}

MISSING, UNKNOWN, INVALID = "missing_parameter", "unknown_parameter", "invalid_value"


class Error(BaseModel):
    """What OpenAI's protocol says of an error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Errors(BaseModel):
    """OpenAI's envelope of an error."""

    error: Error


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": Errors,
        "description": "The request is refused; asking the same again will not help, save for 429.",
    },
    "5XX": {"model": Errors, "description": "The service could not draw it; asking again later may help."},
}
"""What routes say in the OpenAPI document of answers that are none."""


def envelope(refusal: Refusal) -> dict[str, Any]:
    """A refusal in OpenAI's envelope; it is noted for the log."""
    # What is said of a request may quote its prompt; what is said of the service does not.
    ours = refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    note(code=refusal.code, param=refusal.param, why=refusal.message if ours else None)
    kind = TYPES.get(refusal.status, "server_error" if ours else "invalid_request_error")
    error = Error(message=refusal.message, type=kind, param=refusal.param, code=refusal.code)
    return Errors(error=error).model_dump()


def enveloped(refusal: Refusal, path: str) -> Response:
    """A refusal as the protocol to which the path belongs says it."""
    content = envelope(refusal)
    if path.startswith(WEBUI):
        content = {"error": refusal.code, "detail": refusal.message, "body": "", "errors": refusal.message}
    return JSONResponse(content, refusal.status, headers=_headers(refusal))


def install(app: FastAPI) -> None:
    """Lets an application answer refusals, wrong requests and HTTP's own errors in the protocol's envelope."""

    async def answer(request: Request, error: Exception) -> Response:
        response = enveloped(refusal(error), request.url.path)
        if isinstance(error, HTTPException):
            response.headers.update(error.headers or {})
        return response

    for kind in (Refusal, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def refusal(error: Exception) -> Refusal:
    """The refusal that an error means for whoever asked; one that nobody expected is noted for the log as it is."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError):
        return _explained(error)
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "invalid_request")
        return Refusal(error.status_code, code, str(error.detail))
    note(error="".join(traceback.format_exception(error)))
    return Refusal(500, "internal_error", "Something went wrong here; the service's log says what, by the request id.")


def _explained(error: RequestValidationError) -> Refusal:
    """The first thing that is wrong with a request."""
    first = error.errors()[0]
    kind, message = first["type"], str(first["msg"])
    if kind == "json_invalid":
        return Refusal(400, "invalid_json", "The body is no JSON.")
    place = ".".join(str(part) for part in first["loc"][1:])
    if kind == UNKNOWN:
        return Refusal(400, UNKNOWN, message, param=first["ctx"]["param"])
    said = f"{place}: {message.removesuffix('.')}." if place else message
    return Refusal(400, MISSING if kind == "missing" else INVALID, said, param=place or None)


def _headers(refusal: Refusal) -> dict[str, str]:
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == HTTPStatus.UNAUTHORIZED else {}
    if refusal.retry_after is not None:
        # HTTP has whole seconds; the client of OpenAI reads the other one.
        headers["Retry-After"] = str(max(0, math.ceil(refusal.retry_after)))
        headers["retry-after-ms"] = str(max(0, math.ceil(refusal.retry_after * 1000)))
    return headers
