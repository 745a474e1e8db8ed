"""What lives in a replica of Ray Serve: an engine, asked for one batch at a time, that ends itself when it hangs.

Source: Ray Serve's documentation, "Model multiplexing", "Streaming responses" and "Fault tolerance".
"""

import asyncio
import os
import pickle
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bespoke.scale.worker import Answer, at_home, portable
from bespoke.serving.jobs import Cancelled, Engine, Facts, Job, Progress, Step

TAGS = 32
"""So many models, each with what it wears, a replica is known for: those that it drew with last."""


@dataclass(frozen=True)
class Limits:
    """Seconds within which an engine must be heard of."""

    step: float
    load: float


@dataclass(frozen=True)
class Within:
    """A replica is at a batch, and says more within so many seconds."""

    seconds: float


News = Within | Progress | Answer
"""What is heard of a batch; its answer, outcomes or an error, is the last."""


@dataclass(frozen=True)
class Home:
    """Where a replica belongs."""

    path: Sequence[str]
    folder: str
    owner: Any
    """The actor that lives as long as the service does."""


class Owner:
    """What lives as long as the process of the service: Ray ends it together with that."""

    def lives(self) -> bool:
        """True, or nothing at all."""
        return True


class Replica:
    """An engine and the one thread in which it does everything."""

    def __init__(self, factory: bytes, limits: Limits, home: Home) -> None:
        from ray import serve

        at_home(home.path, home.folder)
        self._limits, self._owner = limits, home.owner
        self._thread = ThreadPoolExecutor(1, "bespoke-engine")
        self._engine: Engine = self._thread.submit(pickle.loads(factory)).result()  # noqa: S301 - our service
        self._facts: dict[str, Facts] = {}
        self._until = float("inf")
        self._tag = serve.multiplexed(max_num_models_per_replica=TAGS)(_same)

    async def prepare(self, model: str) -> tuple[Facts | None, Exception | None]:
        """What is known of a model once it is read, or why it cannot be."""
        answer = await asyncio.wrap_future(self._thread.submit(self._answered, self._prepared, model))
        if answer[0] is not None:
            await self._tag(tag(model))
        return answer

    async def release(self, model: str) -> None:
        """Lets the engine forget a model."""
        self._facts.pop(model, None)
        await asyncio.wrap_future(self._thread.submit(self._answered, self._engine.release, model))

    async def draw(self, jobs: Sequence[Job]) -> AsyncIterator[News]:
        """What happens to a batch, up to its outcomes; whoever stops listening lets it end at its next step."""
        news: asyncio.Queue[News] = asyncio.Queue()
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        batch = Batch(jobs, stopped, lambda item: loop.call_soon_threadsafe(news.put_nowait, item))
        work = asyncio.wrap_future(self._thread.submit(self._work, batch))
        try:
            last = False
            while not last:
                item = await news.get()
                last = isinstance(item, tuple)
                if last:
                    await self._tag(tag(jobs[0].model, *(name for name, _ in jobs[0].adapters)))
                yield item
        finally:
            stopped.set()
            await asyncio.shield(work)  # until then the replica is busy, whoever listens

    def _work(self, batch: "Batch") -> None:
        """Draws a batch, in the engine's thread, and tells everything of it."""

        def watch(step: Step) -> None:
            self._until = time.monotonic() + self._limits.step
            batch.hear(step)

        def drawn(jobs: Sequence[Job]) -> list[Any]:
            batch.tell(Within(self._limits.load))
            self._prepared(jobs[0].model)
            self._until = time.monotonic() + self._limits.step
            batch.tell(Within(self._limits.step))
            return list(self._engine.draw(jobs, watch))

        if not batch.stopped.is_set():
            outcomes, error = self._answered(drawn, batch.jobs)
            batch.tell((outcomes or [], error))

    def _prepared(self, model: str) -> Facts:
        if model not in self._facts:
            self._facts[model] = self._engine.prepare(model)
        return self._facts[model]

    def _answered(self, function: Callable[[Any], Any], argument: object) -> tuple[Any, Exception | None]:
        """What a function of the engine's gives, or why it gives nothing; meanwhile the clock runs."""
        self._until = time.monotonic() + self._limits.load
        try:
            return function(argument), None
        except Exception as error:  # noqa: BLE001 - what it is, is told to who asked
            return None, portable(error)
        finally:
            self._until = float("inf")

    async def check_health(self) -> None:
        """Ends the process if the engine hangs, and the application if its service is gone; Ray Serve asks this.

        A check that fails would be heard of only after three, and the batch that hangs be waited for.
        """
        if time.monotonic() > self._until:
            os._exit(1)
        from ray import serve
        from ray.exceptions import ActorDiedError

        try:
            await self._owner.lives.remote()
        except ActorDiedError:
            serve.delete(serve.get_replica_context().app_name, _blocking=False)


@dataclass(frozen=True)
class Batch:
    """Some jobs, and who waits for them."""

    jobs: Sequence[Job]
    stopped: threading.Event
    tell: Callable[[News], object]

    def hear(self, step: Step) -> None:
        """Tells of a step, with its unfinished pictures where a job wants one then. Raises: Cancelled."""
        if self.stopped.is_set():
            raise Cancelled
        shown = any(shows(step.number, step.steps, job.previews) for job in self.jobs)
        previews = tuple(step.previews()) if shown and step.previews else ()
        self.tell(Progress(step.number, step.steps, previews))


def shows(number: int, steps: int, previews: int) -> bool:
    """Whether one of so many unfinished pictures, evenly spread over the steps, is shown after this one."""
    return number < steps and number * (previews + 1) // steps > (number - 1) * (previews + 1) // steps


def tag(model: str, *adapters: str) -> str:
    """What a replica is known for that has drawn with a model and adapters."""
    return "\n".join((model, *sorted(adapters)))


async def _same(tag: str) -> str:
    return tag
