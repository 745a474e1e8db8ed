"""Pictures as OpenAI's protocol answers them: base64 or addresses in JSON, or events on the way."""

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from bespoke.serving.jobs import Facts, Picture, Progress
from bespoke.serving.openai.asks import Asked

Address = Callable[[Picture], str]
"""Keeps a picture, and gives its address."""


class Image(BaseModel):
    """A picture that was drawn."""

    id: str
    """Ours: what feedback calls it by."""
    b64_json: str | None = None
    """The file, in base64."""
    url: str | None = None
    """Where the file can be fetched for a while."""
    seed: int
    """Ours: it draws this picture again."""
    flagged: bool
    """Ours: whether the safety checker put a black picture in its place."""


class Images(BaseModel):
    """What was drawn."""

    created: int
    """Seconds since 1970."""
    data: list[Image]
    model: str
    """Ours: the title of the version that drew it."""
    size: str
    output_format: str
    """`png`, `jpeg` or `webp`."""
    background: Literal["opaque"] = "opaque"


class Served(BaseModel):
    """A name that is served, and what it means now."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """Seconds since 1970: when the service began."""
    owned_by: str = "bespoke"
    title: str
    """Ours: the version."""
    width: int
    """Ours: the size that it draws in if none is asked for."""
    height: int
    settings: dict[str, Any]
    """Ours: how it draws what says nothing else."""
    facts: dict[str, str]
    """Ours: its base, its hash, its family."""
    schedulers: list[str]
    """Ours: what `scheduler` may be."""


class Listed(BaseModel):
    """The names that are served."""

    object: Literal["list"] = "list"
    data: list[Served]
    adapters: list[str]
    """Ours: what `lora` may name."""


class Alive(BaseModel):
    """How the service is."""

    state: str


def served(name: str, facts: Facts, since: int) -> Served:
    """What is told of a name."""
    return Served(
        id=name, created=since, title=facts.title, width=facts.width, height=facts.height,
        settings=dict(facts.settings), facts=dict(facts.facts), schedulers=list(facts.schedulers),
    )  # fmt: skip


def images(asked: Asked, pictures: Sequence[Picture], address: Address) -> Images:
    """The answer of a request that is no stream; its pictures are of one version and size."""
    first = pictures[0]
    by_address = asked.response_format == "url"
    data = [
        Image(
            url=address(one) if by_address else None, b64_json=None if by_address else encoded(one.data),
            id=one.id, seed=one.seed, flagged=one.flagged,
        )
        for one in pictures
    ]  # fmt: skip
    size = f"{first.width}x{first.height}"
    return Images(created=int(time.time()), data=data, model=first.model, size=size, output_format=first.form)


def completed(asked: Asked, index: int, picture: Picture, address: Address) -> dict[str, Any]:
    """The event of a finished picture. OpenAI's `usage` counts tokens; nothing here is counted in them."""
    by_address = asked.response_format == "url"
    file = {"url": address(picture)} if by_address else {"b64_json": encoded(picture.data)}
    about = {"size": f"{picture.width}x{picture.height}", "output_format": picture.form}
    own = {"id": picture.id, "index": index, "seed": picture.seed, "flagged": picture.flagged, "model": picture.model}
    return {**_event(asked, "completed"), **file, **about, "usage": None, **own}


def partial(asked: Asked, index: int, number: int, preview: bytes) -> dict[str, Any]:
    """The event of an unfinished picture, which is a PNG whatever was asked for; `number` counts them from 0."""
    about = {"size": asked.size or "auto", "output_format": "png", "partial_image_index": number, "index": index}
    return {**_event(asked, "partial_image"), "b64_json": encoded(preview), **about}


def progressed(asked: Asked, index: int, progress: Progress) -> dict[str, Any]:
    """The event of a step."""
    return {**_event(asked, "progress"), "index": index, "step": progress.number, "steps": progress.steps}


def encoded(file: bytes) -> str:
    """A file in base64."""
    return base64.b64encode(file).decode("ascii")


def _event(asked: Asked, kind: str) -> dict[str, Any]:
    now = int(time.time())
    return {"type": f"{asked.form_of}.{kind}", "created_at": now, "quality": "auto", "background": "opaque"}
