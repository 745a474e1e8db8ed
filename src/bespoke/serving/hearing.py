"""Pictures that a service drew turned into samples, as far as it may keep them, and into what people say of them."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from bespoke.errors import BespokeError
from bespoke.feedback import Kind, Opinion, Sample, Store
from bespoke.feedback.keeping import keep
from bespoke.recipe.service import Serve
from bespoke.serving.access import Needs
from bespoke.serving.envelope import REFUSALS
from bespoke.serving.jobs import Picture
from bespoke.serving.kept import Kept
from bespoke.serving.wishes import Refusal, Wish

LOG = logging.getLogger("bespoke.serving")
MEBIBYTE = 2**20
TEND_S = 3600.0
"""So often it is looked whether kept pictures are too old or too many."""
MOST_PICTURES = 10_000
"""So many pictures are remembered at most, however small they are."""
_Recent = tuple[Sample, bytes]
Picked = Annotated[str, Field(min_length=1, max_length=64)]


class Said(BaseModel):
    """What somebody says of a picture that the service drew, or of two."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)
    picture: Picked
    """The `id` that came with it."""
    kind: Kind
    """`thumb`, `flag`, `caption` or `choice`."""
    value: Annotated[str, Field(max_length=32)] = ""
    """Of a thumb `up` or `down`; of a flag `unsafe`, `person`, `copy`, `broken`, `wrong` or `other`; of a choice
    `first`, `second` or `tie`."""
    other: Annotated[str, Field(max_length=64)] = ""
    """The second picture of a choice."""
    words: Annotated[str, Field(max_length=2000)] = ""
    """A better caption, or what there is to say of a flag."""
    rater: Annotated[str, Field(max_length=64)] = ""
    """A name that means nobody to others; by default that of the key."""
    consent: bool = False
    """Whether the picture, with these words, may be kept and learnt from."""
    licence: Annotated[str, Field(max_length=200)] = ""
    """Under what licence, by its SPDX name or in words."""


class Heard(BaseModel):
    """What was kept of it."""

    id: str
    """By it the opinion can be taken back."""
    model: str
    """The version that drew the picture."""
    kept: bool
    """Whether the picture itself is kept, too."""
    object: Literal["feedback"] = "feedback"


class Hearing:
    """The pictures of the last while, in memory; of them a share, and those that people speak of, in a store."""

    def __init__(
        self, store: Callable[[], Store], settings: Serve, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`store` opens the store; it is asked once there is something to keep."""
        self._open, self._settings = store, settings
        most_bytes = int(settings.keep_pictures_mb * MEBIBYTE)
        self._recent = Kept[_Recent](settings.keep_pictures_s, most_bytes, clock, MOST_PICTURES)
        self._store: Store | None = None
        self._lots = random.Random()
        self._tasks: set[asyncio.Task[None]] = set()

    def drew(self, wish: Wish, owner: str, pictures: Sequence[Picture], seconds: float) -> None:
        """Remembers pictures that were drawn, and keeps those of them that the lot falls on."""
        for picture in pictures:
            sample = Sample(
                picture.id, picture.model, wish.prompt, name=wish.model, seed=picture.seed, owner=owner,
                negative_prompt=str(wish.settings.get("negative_prompt") or ""), settings=dict(wish.settings),
                flagged=picture.flagged, seconds=seconds,
            )  # fmt: skip
            self._recent.keep(sample.id, (sample, picture.data), len(picture.data))
            if self._lots.random() < self._settings.sample_share:
                task = asyncio.create_task(self._keep(sample, picture.data))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def say(self, said: Said, owner: str) -> Heard:
        """An opinion kept; with the rater's consent the picture that it is about, too.

        Raises: Refusal when there is no such picture, or nothing of the kind can be said.
        """
        opinion = Opinion(
            said.kind, said.picture, said.rater or owner, said.value, said.other, said.words, said.consent, said.licence
        )
        found = {name: self._recent.find(name) for name in filter(None, (opinion.sample, opinion.other))}
        return await asyncio.to_thread(self._said, opinion, {name: each[0] for name, each in found.items() if each})

    async def withdraw(self, opinion: str, rater: str) -> None:
        """Takes back what a rater said. Raises: Refusal when that rater said no such thing."""
        if not await asyncio.to_thread(lambda: self._opened().withdraw(opinion, rater)):
            raise Refusal(404, "not_found", "There is no such opinion of yours.", param="id")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """A block in which what is kept does not grow older or larger than it may; its end waits for what is kept."""
        tending = asyncio.create_task(self._tend())
        try:
            yield
        finally:
            tending.cancel()
            await asyncio.gather(tending, *self._tasks, return_exceptions=True)
            if self._store:
                self._store.close()

    async def _tend(self) -> None:
        """Deletes what is too old or too much, now and then as long as the service lives."""
        while True:
            if self._store or self._settings.sample_share:
                try:
                    await asyncio.to_thread(self._delete)
                except Exception as error:  # noqa: BLE001 - it is tried again, and pictures are drawn meanwhile
                    LOG.error("samples not deleted", extra={"why": str(error)})
            await asyncio.sleep(TEND_S)

    def _delete(self) -> None:
        keep(self._opened(), days=self._settings.sample_days, megabytes=self._settings.sample_mb)

    def _said(self, opinion: Opinion, recent: Mapping[str, _Recent]) -> Heard:
        try:
            store, kept = self._opened(), True
            for which in filter(None, (opinion.sample, opinion.other)):
                kept = _known(store, which, recent, consent=opinion.consent) and kept
            models = {name: sample.model for name, (sample, _) in recent.items()}
            told = replace(opinion, model=models.get(opinion.sample, ""), other_model=models.get(opinion.other, ""))
            heard = store.say(told)
        except BespokeError as error:
            if isinstance(error.__cause__, Exception):  # the store could not be reached: nothing of it leaves
                LOG.exception("feedback lost", extra={"why": error.problem})
                raise Refusal(503, "store_unavailable", "It could not be kept.", retry_after=10.0) from None
            raise Refusal(400, "invalid_value", f"{error.problem} {error.hint}".strip()) from None
        return Heard(id=heard.id, model=heard.model, kept=kept)

    async def _keep(self, sample: Sample, data: bytes) -> None:
        try:
            await asyncio.to_thread(lambda: self._opened().add(sample, data))
        except BespokeError as error:  # nobody who asked for a picture must suffer from it
            LOG.error("sample lost", extra={"why": error.problem})

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open()
        return self._store


def _known(store: Store, name: str, recent: Mapping[str, _Recent], *, consent: bool) -> bool:
    """Whether a picture is kept, which it is from now on if its rater lets it. Raises: Refusal if it is unknown."""
    if store.has(name):
        return True
    if name not in recent:
        message = "There is no picture of this id, or it was drawn too long ago."
        raise Refusal(404, "not_found", message, param="picture")
    if consent:
        store.add(*recent[name])
    return consent


def router(hearing: Hearing, needs: Needs) -> APIRouter:
    """The routes by which programs say what people think of pictures, and take it back."""
    made = APIRouter(prefix="/v1/feedback", responses=REFUSALS, tags=["feedback"])

    @made.post("", status_code=201)
    async def say(said: Said, owner: Annotated[str, Depends(needs("draw"))]) -> Heard:
        """Keeps what somebody says of a picture."""
        return await hearing.say(said, owner)

    @made.delete("/{opinion}", status_code=204)
    async def withdraw(opinion: Picked, owner: Annotated[str, Depends(needs("draw"))], rater: str = "") -> None:
        """Takes it back: it counts no more, and nothing is learnt from it."""
        await hearing.withdraw(opinion, rater or owner)

    return made
