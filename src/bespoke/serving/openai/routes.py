"""OpenAI's protocol for pictures: `/v1/images/…` and `/v1/models`."""

import asyncio
import functools
import hashlib
import time
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Header, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from bespoke.recipe.service import Serve
from bespoke.serving.access import Needs
from bespoke.serving.asked import known
from bespoke.serving.attending import attended
from bespoke.serving.envelope import INVALID, MISSING, REFUSALS
from bespoke.serving.jobs import Picture
from bespoke.serving.kept import Kept, named
from bespoke.serving.logs import note
from bespoke.serving.openai.answers import Address, Images, Listed, Served, images, served
from bespoke.serving.openai.asks import Asked, Edit, Generation, fingerprint
from bespoke.serving.openai.streams import streamed
from bespoke.serving.replies import Replies
from bespoke.serving.service import Drawing
from bespoke.serving.uploads import begun
from bespoke.serving.wishes import Refusal, Told, Wish

OnceOnly = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$", description="Ask again safely."),
]
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "description": "JSON, as docs say."}},
    "required": ["event", "data"],
}
Sent = Annotated[Edit, Form(media_type="multipart/form-data")]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Images,
        "content": {"text/event-stream": {"schema": EVENT}},
        "description": "Pictures.",
    },
    **REFUSALS,
}


def router(drawing: Drawing, settings: Serve, needs: Needs, kept: Kept[Picture], replies: Replies) -> APIRouter:
    """The routes of the protocol."""
    made, since = APIRouter(responses=REFUSALS), int(time.time())
    pictures = _Pictures(drawing, kept, replies)

    @made.post("/v1/images/generations", responses=ANSWERS, response_class=JSONResponse, tags=["openai"])
    async def generations(
        request: Request, asked: Generation, owner: Annotated[str, Depends(needs("draw"))], once: OnceOnly = None
    ) -> Response:
        """Pictures from words."""
        return await pictures.answer(request, owner, asked, once)

    @made.post("/v1/images/edits", responses=ANSWERS, response_class=JSONResponse, tags=["openai"])
    async def edits(
        request: Request, asked: Sent, owner: Annotated[str, Depends(needs("draw"))], once: OnceOnly = None
    ) -> Response:
        """A picture drawn anew, or what of it a mask leaves open."""
        sent = [*([asked.image] if asked.image else []), *asked.images]
        if len(sent) != 1:
            raise Refusal(400, INVALID, "image: Send one picture.", param="image")
        files = await sent[0].read(), await _content(asked.mask)
        ready = await asyncio.to_thread(begun, *files, settings.most_pixels)
        return await pictures.answer(request, owner, asked, once, *ready)

    @made.get("/v1/models", tags=["openai"], dependencies=[Depends(needs("draw"))])
    async def models() -> Listed:
        """The names that are served, and the adapters."""
        known = sorted(drawing.models.items())
        return Listed(data=[served(name, facts, since) for name, facts in known], adapters=sorted(drawing.adapters))

    @made.get("/v1/models/{name:path}", tags=["openai"], dependencies=[Depends(needs("draw"))])
    async def model(name: str) -> Served:
        """What a name means now."""
        models = drawing.models
        return served(name, models[known(models, name)], since)

    return made


class _Pictures:
    """What answers a request for pictures."""

    def __init__(self, drawing: Drawing, kept: Kept[Picture], replies: Replies) -> None:
        self._drawing, self._kept, self._replies = drawing, kept, replies

    async def answer(
        self, request: Request, owner: str, asked: Asked, once: str | None, image: bytes | None = None,
        mask: bytes | None = None,
    ) -> Response:  # fmt: skip
        """The answer, or the stream of events.

        Raises: Refusal.
        """
        wish, address = asked.wish(self._model(asked), image, mask), self._address(request)
        if asked.stream:
            if once is not None:
                raise Refusal(400, INVALID, "A stream has no Idempotency-Key.", param="Idempotency-Key")
            return await streamed(request, asked, functools.partial(self._drawn, wish, owner), address)
        if asked.partial_images or asked.progress:
            param = "partial_images" if asked.partial_images else "progress"
            raise Refusal(400, INVALID, f"{param}: That needs stream to be true.", param=param)

        async def work() -> bytes:
            done = images(asked, await self._drawn(wish, owner), address)
            return done.model_dump_json(exclude_none=True).encode()

        replayed = False
        if once is None:
            content = await attended(request, work())
        else:
            digest = hashlib.sha256(fingerprint(request.url.path, asked, image, mask)).hexdigest()
            content, replayed = await attended(request, self._replies.once(owner, once, digest, work))
        note(replayed=replayed or None)
        headers = {"Idempotency-Replayed": "true"} if replayed else {}
        return Response(content, media_type="application/json", headers=headers)

    def _drawn(self, wish: Wish, owner: str, told: Told | None = None) -> Coroutine[Any, Any, list[Picture]]:
        return self._drawing.draw(wish, owner, told)

    def _model(self, asked: Asked) -> str:
        if asked.model is not None:
            return asked.model
        names = sorted(self._drawing.models)
        if len(names) == 1:
            return names[0]
        raise Refusal(400, MISSING, f"model: Name one of {', '.join(names) or 'none yet'}.", param="model")

    def _address(self, request: Request) -> Address:
        return lambda picture: str(request.url_for("picture", name=named(self._kept, picture)))


async def _content(file: UploadFile | None) -> bytes | None:
    return await file.read() if file is not None else None
