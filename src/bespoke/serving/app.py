"""The service's application: both protocols, and what tells how it is, behind one guard."""

import time
from collections.abc import Callable
from importlib import metadata

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from bespoke.recipe.service import Serve
from bespoke.serving.a1111 import routes as a1111
from bespoke.serving.access import Access
from bespoke.serving.desk import Desk
from bespoke.serving.envelope import REFUSALS, install
from bespoke.serving.guard import LOOPBACK, Guard
from bespoke.serving.hearing import Hearing
from bespoke.serving.hearing import router as hearings
from bespoke.serving.jobs import Picture
from bespoke.serving.kept import Kept
from bespoke.serving.keys import Keys
from bespoke.serving.limits import Buckets
from bespoke.serving.logs import Log
from bespoke.serving.metrics import Metrics
from bespoke.serving.openai import routes as openai
from bespoke.serving.openai.answers import Alive
from bespoke.serving.replies import Replies
from bespoke.serving.service import Drawing
from bespoke.serving.wishes import Refusal

MIB = 2**20
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def application(
    drawing: Drawing,
    settings: Serve,
    keys: Keys | None = None,
    metrics: Metrics | None = None,
    *,
    hearing: Hearing | None = None,
    log: Log | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """What answers over HTTP with what `drawing` draws.

    Without `keys` everybody may draw who reaches `settings.host`. With `hearing` people may say what they think of
    pictures. `clock` gives seconds, for rates and for how long pictures and answers are kept.
    """
    metrics, access = metrics or Metrics(), Access(keys, loopback=settings.host in LOOPBACK)
    desk = Desk(drawing, settings, keys, Buckets(clock), hearing)
    keeping = (settings.keep_pictures_s, int(settings.keep_pictures_mb * MIB), clock)
    kept, replies = Kept[Picture](*keeping), Replies(*keeping)
    # The pages of a documentation would come from another site; the document itself is enough for clients.
    app = FastAPI(
        title="bespoke", version=metadata.version("bespoke"), docs_url=None, redoc_url=None, redirect_slashes=False,
        lifespan=(lambda _: hearing.open()) if hearing else None,
    )  # fmt: skip
    install(app)
    app.include_router(_about(desk, access, metrics, kept))
    app.include_router(openai.router(desk, settings, access.needs, kept, replies))
    if hearing:
        app.include_router(hearings(hearing, access.needs))
    app.include_router(a1111.router(desk, settings, access.needs))
    most = int(settings.most_request_mb * MIB)
    app.add_middleware(Guard, access=access, most_bytes=most, metrics=metrics, log=log or Log())
    return app


def _about(drawing: Drawing, access: Access, metrics: Metrics, kept: Kept[Picture]) -> APIRouter:
    """The routes that tell how the service is, and that of pictures that are fetched."""
    made = APIRouter()

    @made.get("/")
    async def about() -> dict[str, str]:
        """What this is."""
        return {"service": "bespoke", "openapi": "/openapi.json", "models": "/v1/models", "ready": "/readyz"}

    @made.get("/livez")
    async def alive() -> Alive:
        """Whether the process answers."""
        return Alive(state=drawing.state)

    @made.get("/readyz", response_model=Alive, responses={503: {"model": Alive, "description": "It is not."}})
    async def ready() -> Response:
        """Whether it draws."""
        return JSONResponse({"state": drawing.state}, 200 if drawing.state == "ready" else 503)

    @made.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=REFUSALS,
        dependencies=[Depends(access.needs("metrics"))],
    )
    async def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type=PROMETHEUS)

    files = {f"image/{form}": {"schema": {"type": "string", "format": "binary"}} for form in ("png", "jpeg", "webp")}
    found = {200: {"content": files, "description": "The file."}, **REFUSALS}

    @made.get("/pictures/{name}", response_class=Response, responses=found, name="picture")
    async def picture(name: str, request: Request) -> Response:  # noqa: ARG001
        """A picture that was asked for by `url`."""
        there = kept.find(name)
        if there is None:
            raise Refusal(404, "not_found", "There is no such picture, or no longer.")
        return _file(*there)

    return made


def _file(picture: Picture, seconds: float) -> Response:
    # A page of another site may show it: whoever knows the address may have it.
    headers = {
        "Cache-Control": f"private, max-age={int(seconds)}, immutable",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return Response(picture.data, media_type=f"image/{picture.form}", headers=headers)
