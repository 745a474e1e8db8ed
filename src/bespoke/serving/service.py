"""Wishes turned into pictures, by versions that may change meanwhile."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, runtime_checkable

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving.dispatch import Dispatcher, Meter
from bespoke.serving.jobs import FAILURES, Facts, Failure, Job, Lost, OutOfMemory, Picture, Worker
from bespoke.serving.queue import Queue, Ticket
from bespoke.serving.wishes import Refusal, Told, Wish

LOG = logging.getLogger("bespoke.serving")
SEEDS = 2**32
"""Seeds that nobody asked for are below it, so that every program can be told them."""
AGAIN_S = 30.0
"""Seconds after which a version that could not be brought into use is tried again."""


@runtime_checkable
class Drawing(Protocol):
    """The service as the protocols see it."""

    state: str
    """`starting`, `ready`, `draining` or `closed`."""

    @property
    def models(self) -> Mapping[str, Facts]:
        """What each name that is served means now."""
        ...

    @property
    def adapters(self) -> Sequence[str]:
        """The names of adapters that wishes may have."""
        ...

    async def draw(self, wish: Wish, owner: str, told: Told | None = None) -> list[Picture]:
        """The pictures of a wish; whoever stops waiting (the task is cancelled) lets the service leave off.

        `owner` is the name of the key that asked, whose share it counts to.
        Raises: Refusal.
        """
        ...


class Service:
    """A queue, workers, and what the names that are served mean now: a `Drawing`."""

    def __init__(
        self, names: Sequence[str], workers: Sequence[Worker], settings: Serve, meter: Meter,
        *, means: Callable[[str], str] = str, adapters: Callable[[], Sequence[str]] = tuple,
        share: Callable[[str], int | None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`means` turns a name into the title of what it means now, as `my-style@champion` into `my-style@7`.

        It is asked in a thread, and may raise BespokeError. `adapters` tells what adapters there are, and `share` how
        many pictures an owner may have unanswered where that is not what the settings say.
        """
        self.state = "starting"
        self.troubles: dict[str, str] = {}
        """Why a version that a name means is not in use, by name."""
        self._names, self._settings, self._means = tuple(names), settings, means
        self._adapters, self._share = adapters, share
        self._queue = Queue(settings.most_waiting)
        self._dispatcher = Dispatcher(workers, self._queue, settings, meter)
        self._titles: dict[str, str] = {}
        self._facts: dict[str, Facts] = {}
        self._tried: dict[str, tuple[str, float]] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def models(self) -> Mapping[str, Facts]:
        """What each name that is served means now."""
        return {name: self._facts[title] for name, title in self._titles.items()}

    @property
    def adapters(self) -> Sequence[str]:
        """The names of adapters that wishes may have."""
        return self._adapters()

    @property
    def healthy(self) -> bool:
        """Whether something can be drawn now."""
        return self.state == "ready" and self._dispatcher.up > 0

    async def start(self) -> None:
        """Lets the workers read what the names mean, and is ready.

        Raises: BespokeError when a name means nothing, or what it means cannot be read or drawn with.
        """
        titles = {name: await asyncio.to_thread(self._means, name) for name in self._names}
        try:
            self._facts = dict(await self._dispatcher.start(list(dict.fromkeys(titles.values()))))
        except (Lost, OutOfMemory, RuntimeError) as error:
            hint = "Look at the lines above; the memory may have been too little."
            raise BespokeError(f"A worker did not come up: {error or 'the memory was too little'}.", hint) from None
        self._titles = titles
        self._looking = asyncio.create_task(self._look())
        self.state = "ready"

    async def draw(self, wish: Wish, owner: str, told: Told | None = None) -> list[Picture]:
        """The pictures of a wish. Raises: Refusal."""
        tickets = self._accepted(wish, owner, told)
        patience = min(wish.deadline_s or self._settings.deadline_s, self._settings.deadline_s)
        try:
            async with asyncio.timeout(patience):
                return list(await asyncio.gather(*map(_picture, tickets)))
        except TimeoutError:
            message = f"It was not drawn within {patience:g} seconds."
            raise _refused(Failure("deadline_exceeded", message), self._dispatcher.seconds_to_wait) from None
        except _Failed as error:
            raise _refused(error.failure, self._dispatcher.seconds_to_wait) from None
        finally:
            self._dispatcher.abandon([ticket for ticket in tickets if ticket.wanted])

    async def drain(self) -> None:
        """Accepts nothing any more, goes on with what was accepted for as long as it may, and answers the rest."""
        self.state = "draining"
        ends = time.monotonic() + self._settings.drain_s
        while self._queue.unanswered and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        for ticket in self._queue.everyone():
            if ticket.wanted:
                ticket.answer.set_result(Failure("shutting_down", "The service is ending."))
            self._queue.leave([ticket])

    async def close(self) -> None:
        """Ends the workers, whatever they do."""
        self.state = "closed"
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._dispatcher.close()

    def _accepted(self, wish: Wish, owner: str, told: Told | None) -> list[Ticket]:
        if self.state != "ready":
            ending = self.state in ("draining", "closed")
            code, words = ("shutting_down", "ending") if ending else ("not_ready", "starting")
            raise Refusal(503, code, f"The service is {words}.", retry_after=10.0)
        title = self._title(wish.model)
        if wish.adapters and (unknown := sorted(wish.adapters.keys() - set(self.adapters))):
            raise Refusal(400, "adapter_not_found", f"There is no adapter {unknown[0]!r}.", param="lora")
        self._make_room(wish, owner)
        first = secrets.randbelow(SEEDS - wish.count) if wish.seed is None else wish.seed
        job = Job(
            secrets.token_hex(8), title, wish.prompt, first, tuple(sorted(wish.settings.items())),
            tuple(sorted(wish.adapters.items())), wish.image, wish.mask, wish.previews,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        tickets = [
            Ticket(each, owner, loop.create_future(), partial(told, number) if told else None)
            for number, each in enumerate(_seeds(job, wish.count))
        ]
        self._queue.add(tickets)
        return tickets

    def _title(self, name: str) -> str:
        """What a name means now; titles that are in use may be named themselves."""
        title = self._titles.get(name, name)
        if title not in self._titles.values():
            known = ", ".join(self._titles)
            raise Refusal(404, "model_not_found", f"There is no model {name!r} here, but: {known}.", param="model")
        return title

    def _make_room(self, wish: Wish, owner: str) -> None:
        """Nothing, if there is room for a wish. Raises: Refusal."""
        wait = self._dispatcher.seconds_to_wait
        share = self._share(owner) or self._settings.most_per_key
        if wish.count > min(self._queue.most, share):
            message = f"{wish.count} pictures are more than may wait at once."
            raise Refusal(400, "too_many_pictures", message, param="n")
        if self._queue.of(owner) + wish.count > share:
            message = f"Of one key at most {share} pictures may wait."
            raise Refusal(429, "too_many_waiting", message, retry_after=wait)
        if not self._queue.has_room(wish.count):
            raise Refusal(429, "queue_full", "Too many pictures wait already.", retry_after=wait)

    async def _look(self) -> None:
        """Looks whether names have come to mean something else, as long as the service lives."""
        while True:
            await asyncio.sleep(self._settings.watch_s)
            for name in self._names:
                try:
                    title = await asyncio.to_thread(self._means, name)
                except BespokeError as error:  # a registry that cannot be reached now: what is in use stays in use
                    self._trouble(name, f"it is not known what {name} means now: {error.problem}")
                    continue
                if title == self._titles[name]:
                    self.troubles.pop(name, None)
                elif self._may_try(name, title):
                    await self._swap(name, title)

    def _may_try(self, name: str, title: str) -> bool:
        tried, when = self._tried.get(name, ("", 0.0))
        return tried != title or time.monotonic() > when + AGAIN_S

    async def _swap(self, name: str, title: str) -> None:
        """Lets a name mean another version, once all workers have drawn a picture with that; else the old one stays."""
        self._tried[name] = title, time.monotonic()
        try:
            if title not in self._facts:
                self._facts[title] = await self._dispatcher.prepare(title)
        except (BespokeError, Lost, OutOfMemory, RuntimeError) as error:
            self._trouble(name, f"{title} is not in use, as it cannot be drawn with: {error}")
            return
        before, self._titles[name] = self._titles[name], title
        self.troubles.pop(name, None)
        LOG.info("model changed", extra={"model_name": name, "before": before, "now": title})
        await self._retire(before)

    async def _retire(self, title: str) -> None:
        """Forgets a version once no name means it and all that was accepted for it is answered."""
        if title in self._titles.values():
            return
        while self._queue.uses(title):
            await asyncio.sleep(0.05)
        del self._facts[title]
        await self._dispatcher.release(title)

    def _trouble(self, name: str, words: str) -> None:
        if self.troubles.get(name) != words:
            LOG.error("model not changed", extra={"model_name": name, "why": words})
        self.troubles[name] = words


class _Failed(Exception):  # noqa: N818
    """A picture of a wish was not drawn."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


async def _picture(ticket: Ticket) -> Picture:
    outcome = await ticket.answer
    if isinstance(outcome, Failure):
        raise _Failed(outcome)
    return replace(outcome, id=ticket.job.id)


def _refused(failure: Failure, wait: float) -> Refusal:
    status = FAILURES[failure.code]
    return Refusal(status, failure.code, failure.message, retry_after=wait if status == 503 else None)


def _seeds(job: Job, count: int) -> Iterable[Job]:
    """So many pictures that differ in their seeds."""
    return (replace(job, id=f"{job.id}-{number}", seed=job.seed + number) for number in range(count))
