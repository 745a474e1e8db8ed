"""What lives in a replica of Ray Serve: an engine, asked for one batch at a time, that ends itself when it hangs.

Source: Ray Serve's documentation, "Model multiplexing", "Streaming responses" and "Fault tolerance".
"""

import asyncio
import os
import pickle
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bespoke.scale.worker import at_home, portable
from bespoke.serving.jobs import NOTHING, Cancelled, Engine, Facts, Held, Job, OutOfMemory, Progress, Step
from bespoke.serving.worker import previewed

TAGS = 32
"""So many models, each with what it wears, a replica is known for: those that it drew with last."""
LOOK = 0.5
"""Seconds between two looks at whether the engine hangs."""


@dataclass(frozen=True)
class Limits:
    """Seconds within which an engine must be heard of."""

    step: float
    load: float


@dataclass(frozen=True)
class Within:
    """A replica is at a batch, and says more within so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """What an engine gave for what it was asked, or why it gave nothing."""

    result: Any = None
    error: Exception | None = None
    held: Held = NOTHING
    """What it has in memory since."""


News = Within | Progress | Answer
"""What is heard of a batch; the answer is the last."""


@dataclass(frozen=True)
class Home:
    """Where a replica belongs."""

    path: Sequence[str]
    folder: str
    names: Mapping[str, str]
    """Variables that say where the registry is; a machine's own count for more."""
    owner: Any
    """The actor that lives as long as the service does."""


class Owner:
    """What lives as long as the process of the service, with which Ray ends it, and knows what replicas must have."""

    def __init__(self) -> None:
        self._models: list[str] = []

    def models(self) -> list[str]:
        """What was prepared and not released."""
        return self._models

    def keep(self, model: str) -> None:
        """Lets replicas that start from now on read a model before they are asked for anything."""
        self._models = [*dict.fromkeys((*self._models, model))]

    def drop(self, model: str) -> None:
        """Lets them do without it."""
        self._models = [other for other in self._models if other != model]


class Replica:
    """An engine and the one thread in which it does everything."""

    def __init__(self, factory: bytes, limits: Limits, home: Home) -> None:
        import ray
        from ray import serve

        at_home(home.path, home.folder)
        for name, value in home.names.items():
            os.environ.setdefault(name, value)
        self._limits, self._owner = limits, home.owner
        self._thread = ThreadPoolExecutor(1, "bespoke-engine")
        self._engine: Engine = self._thread.submit(pickle.loads(factory)).result()  # noqa: S301 - our service
        self._facts: dict[str, Facts] = {}
        self._until, self._name = float("inf"), uuid.uuid4().hex
        threading.Thread(target=self._guard, daemon=True, name="bespoke-guard").start()
        for model in ray.get(home.owner.models.remote()):
            self._thread.submit(self._answered, self._prepared, model).result()  # what fails is told with a batch
        self._tag: Any = serve.multiplexed(max_num_models_per_replica=TAGS)(_same)

    async def name(self) -> str:
        """What no other replica is called."""
        return self._name

    async def prepare(self, model: str, name: str | None = None) -> Answer | None:
        """What is known of a model once it is read, or why it cannot be; nothing from others than who is named."""
        if name not in (None, self._name):
            return None
        await self._tag(model)
        if model in self._facts:
            return Answer(self._facts[model])  # at once, whatever is being drawn
        return await asyncio.wrap_future(self._thread.submit(self._answered, self._prepared, model))

    async def release(self, model: str) -> None:
        """Lets the engine forget a model."""
        self._facts.pop(model, None)
        await asyncio.wrap_future(self._thread.submit(self._answered, self._engine.release, model))

    async def draw(self, jobs: Sequence[Job]) -> AsyncIterator[News]:
        """What happens to a batch, up to its outcomes; whoever stops listening lets it end at its next step."""
        await self._tag(tag(jobs[0]))
        news: asyncio.Queue[News] = asyncio.Queue()
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        batch = Batch(jobs, stopped, lambda item: loop.call_soon_threadsafe(news.put_nowait, item))
        work = asyncio.wrap_future(self._thread.submit(self._work, batch))
        try:
            last = False
            while not last:
                item = await news.get()
                last = isinstance(item, Answer)
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
            batch.tell(self._answered(drawn, batch.jobs))

    def _prepared(self, model: str) -> Facts:
        if model not in self._facts:
            self._facts[model] = self._engine.prepare(model)
        return self._facts[model]

    def _answered(self, function: Callable[[Any], Any], argument: object) -> Answer:
        """What a function of the engine's gives, or why it gives nothing; meanwhile the clock runs."""
        self._until = time.monotonic() + self._limits.load
        try:
            return Answer(function(argument), held=self._engine.held())
        except MemoryError:
            return Answer(error=OutOfMemory(), held=self._engine.held())
        except Exception as error:  # noqa: BLE001 - what it is, is told to who asked
            return Answer(error=portable(error), held=self._engine.held())
        finally:
            self._until = float("inf")

    def _guard(self) -> None:
        """Ends the process when the engine hangs: Ray Serve then starts another at once.

        A check of health that fails would count only when it has failed three times, and what hangs be waited for.
        """
        while time.monotonic() <= self._until:
            time.sleep(LOOK)
        os._exit(1)

    async def check_health(self) -> None:
        """Ends the application if its service is gone; Ray Serve asks this again and again, and who is silent dies."""
        from ray import serve
        from ray.exceptions import ActorDiedError, RayError

        try:
            await self._owner.models.remote()
        except RayError as error:
            if isinstance(error, ActorDiedError):
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
        shown = step.number in previewed(step.steps, max(job.previews for job in self.jobs))
        files = step.previews() if shown and step.previews else ()
        self.tell(Progress(step.number, step.steps, tuple(files)))


def tag(job: Job) -> str:
    """What a replica is known for that has drawn such a job: its model, and what that wears."""
    return "\n".join((job.model, *sorted(name for name, _ in job.adapters)))


async def _same(tag: str) -> str:
    return tag
