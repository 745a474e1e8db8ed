"""Queue pictures handed to workers in batches, and what goes wrong there kept from those it does not concern."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving.jobs import Cancelled, Facts, Failure, Held, Lost, Outcome, OutOfMemory, Progress, Worker
from bespoke.serving.queue import Queue, Ticket

LOG = logging.getLogger("bespoke.serving")
STRIKES = 2
"""A picture over which a worker is lost so often is given up: once with others, once alone."""
MOST_PAUSE = 30.0
"""Seconds between two attempts to bring a worker up, at most."""
MOST_LIMITS = 256
"""Kinds of pictures that are remembered as too large for a whole batch; beyond that it is learnt anew."""
NEWEST = 0.2
"""How much the newest batch counts in the mean time that a picture takes."""


@runtime_checkable
class Meter(Protocol):
    """Who counts what happens."""

    def queued(self, waiting: int, drawn: int) -> None:
        """So many pictures wait, and so many are being drawn."""
        ...

    def batch(self, size: int, seconds: float) -> None:
        """A batch was drawn."""
        ...

    def stepped(self) -> None:
        """A step of a batch was made."""
        ...

    def drawn(self, model: str) -> None:
        """A version drew a picture."""
        ...

    def failed(self, code: str) -> None:
        """A picture was not drawn."""
        ...

    def held(self, worker: int, held: Held) -> None:
        """What a worker has in memory."""
        ...

    def restarted(self) -> None:
        """A worker was lost."""
        ...

    def workers(self, up: int) -> None:
        """So many workers can draw."""
        ...


class _Place:
    """A worker, and what is known of it."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.up, self.lock = worker, False, asyncio.Lock()
        self.batch: list[Ticket] = []


class Dispatcher:
    """Workers, each of which draws one batch after the other."""

    def __init__(self, workers: Sequence[Worker], queue: Queue, settings: Serve, meter: Meter) -> None:
        """Nothing is drawn before `start`."""
        self._places = [_Place(worker) for worker in workers]
        self._queue, self._settings, self._meter = queue, settings, meter
        self._limits: dict[Any, int] = {}
        """Kinds of pictures of which fewer fit into memory at once than a batch may have."""
        self._seconds = 0.0
        self._wanted: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def up(self) -> int:
        """So many workers can draw."""
        return sum(place.up for place in self._places)

    @property
    def seconds_to_wait(self) -> float:
        """What those who wait now will take, by the time that pictures took lately; at least 1."""
        return max(1.0, float(math.ceil(self._seconds * self._queue.unanswered / len(self._places))))

    async def start(self, models: Sequence[str]) -> Mapping[str, Facts]:
        """Lets every worker read these models, and begins to draw. Raises: BespokeError or Lost where one cannot."""
        self._wanted = tuple(models)
        facts = [await self._everywhere(model) for model in models]
        self._tasks = [asyncio.create_task(self._work(place)) for place in self._places]
        return dict(zip(models, facts, strict=True))

    async def prepare(self, model: str) -> Facts:
        """Lets every worker read one more model, between batches, and one after the other.

        Raises: BespokeError or Lost where one cannot; the others go on.
        """
        facts = await self._everywhere(model)
        self._wanted = (*self._wanted, model)
        return facts

    async def release(self, model: str) -> None:
        """Lets every worker forget a model."""
        self._wanted = tuple(each for each in self._wanted if each != model)
        for place in self._places:
            async with place.lock:
                with contextlib.suppress(Lost, RuntimeError):
                    await place.worker.release(model)

    def abandon(self, tickets: Sequence[Ticket]) -> None:
        """Forgets pictures that nobody waits for; a batch of such alone is left off."""
        for ticket in tickets:
            ticket.answer.cancel()
        self._queue.leave(tickets)
        for place in self._places:
            if place.batch and not any(ticket.wanted for ticket in place.batch):
                place.worker.cancel()
        self._count()

    async def close(self) -> None:
        """Ends all workers, whatever they do."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(place.worker.close() for place in self._places))

    async def _everywhere(self, model: str) -> Facts:
        facts: Facts | None = None
        for place in self._places:
            async with place.lock:
                try:
                    facts = await place.worker.prepare(model)
                except Lost:
                    self._lost(place)
                    raise
                if not self._tasks:
                    self._rise(place)
        assert facts
        return facts

    async def _work(self, place: _Place) -> None:
        while True:
            if not place.up:
                await self._bring_up(place)
            await self._queue.some()
            if self._settings.batch_wait_ms and len(self._queue) < self._settings.batch_size:
                await asyncio.sleep(self._settings.batch_wait_ms / 1000)
            async with place.lock:
                if place.up and (tickets := self._queue.take(self._room)):
                    await self._draw(place, tickets)

    def _room(self, kind: Any) -> int:  # noqa: ANN401 - what a kind is made of is the job's affair
        return self._limits.get(kind, self._settings.batch_size)

    async def _draw(self, place: _Place, tickets: list[Ticket]) -> None:
        place.batch = tickets
        self._count()
        began = time.perf_counter()

        def told(progress: Progress) -> None:
            self._meter.stepped()
            for number, ticket in enumerate(tickets):
                if ticket.told and ticket.wanted:
                    own = progress.previews[number : number + 1] if ticket.job.previews else ()
                    ticket.told(Progress(progress.number, progress.steps, own))

        try:
            outcomes = await place.worker.draw([ticket.job for ticket in tickets], told)
            self._settle(tickets, outcomes, time.perf_counter() - began)
        except Cancelled:
            self._queue.put_back(tickets)  # whoever is wanted after all
        except OutOfMemory:
            self._too_large(tickets)
        except Lost as error:
            LOG.warning("worker lost", extra={"why": str(error), "pictures": len(tickets)})
            self._lost(place)
            self._strike(tickets, Failure("worker_lost", "What drew this picture was lost, twice."))
        except Exception as error:  # noqa: BLE001 - a worker must not stand still, whatever it or we did wrong
            LOG.error("batch failed", extra={"why": str(error), "pictures": len(tickets)})
            self._apart(tickets, Failure("drawing_failed", "This picture could not be drawn."))
        finally:
            place.batch = []
            self._meter.held(self._places.index(place), place.worker.held)
            self._count()

    def _settle(self, tickets: Sequence[Ticket], outcomes: Sequence[Outcome], seconds: float) -> None:
        if len(outcomes) != len(tickets):
            raise RuntimeError(f"{len(tickets)} pictures were asked for and {len(outcomes)} came")
        self._meter.batch(len(tickets), seconds)
        each = seconds / len(tickets)
        self._seconds = each if not self._seconds else (1 - NEWEST) * self._seconds + NEWEST * each
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            self._answer(ticket, outcome)

    def _answer(self, ticket: Ticket, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            self._meter.failed(outcome.code)
        else:
            self._meter.drawn(outcome.model)
        if ticket.wanted:
            ticket.answer.set_result(outcome)
        self._queue.leave([ticket])

    def _apart(self, tickets: Sequence[Ticket], failure: Failure) -> None:
        """Each of several is drawn by itself, so that the one that is to blame fails alone; one alone has failed."""
        if len(tickets) == 1:
            self._answer(tickets[0], failure)
            return
        for ticket in tickets:
            ticket.alone = True
        self._queue.put_back(tickets)

    def _strike(self, tickets: Sequence[Ticket], failure: Failure) -> None:
        for ticket in tickets:
            ticket.strikes, ticket.alone = ticket.strikes + 1, True
            if ticket.strikes >= STRIKES:
                self._answer(ticket, failure)
        self._queue.put_back([ticket for ticket in tickets if ticket.strikes < STRIKES])

    def _too_large(self, tickets: Sequence[Ticket]) -> None:
        """Half as many at once from now on; one that does not fit alone, with all memory given back, never will."""
        if len(tickets) > 1:
            if len(self._limits) >= MOST_LIMITS:
                self._limits.clear()
            self._limits[tickets[0].job.kind] = len(tickets) // 2
            self._queue.put_back(tickets)
            return
        self._strike(tickets, Failure("out_of_memory", "There is not enough memory for a picture of this size here."))

    def _rise(self, place: _Place) -> None:
        place.up = True
        self._meter.workers(self.up)

    def _lost(self, place: _Place) -> None:
        place.up = False
        self._meter.restarted()
        self._meter.workers(self.up)

    async def _bring_up(self, place: _Place) -> None:
        """Lets a worker read again all that it must know, as often as it takes."""
        pause = 0.0
        while not place.up:
            await asyncio.sleep(pause)
            pause = min(MOST_PAUSE, 2 * pause + 0.5)
            async with place.lock:
                try:
                    for model in self._wanted:
                        await place.worker.prepare(model)
                except (Lost, BespokeError, OutOfMemory, RuntimeError) as error:
                    LOG.error("a worker does not come up", extra={"why": str(error)})
                else:
                    self._rise(place)

    def _count(self) -> None:
        self._meter.queued(len(self._queue), self._queue.unanswered - len(self._queue))
