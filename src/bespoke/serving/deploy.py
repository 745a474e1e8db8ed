"""Engines on a Ray cluster as the service's workers: replicas of one Ray Serve deployment, as many as the load needs.

Source: Ray Serve's documentation, "Autoscaling", "Model multiplexing" and "Handle end-to-end fault tolerance".
"""

# ruff: noqa: ANN401 - Ray is typed in part only

import asyncio
import contextlib
import importlib
import itertools
import logging
import os
import pickle
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.scale.connection import connected
from bespoke.serving.jobs import NOTHING, Cancelled, Factory, Facts, Job, Lost, Outcome, OutOfMemory, Progress, Worker
from bespoke.serving.replica import Answer, Home, Limits, News, Owner, Replica, Within, tag

QUIET = {"log_level": "ERROR", "enable_access_log": False}
CHECK = 10.0
"""At most so many seconds lie between two looks at whether a replica is there."""
LOOK = 0.2
"""Seconds between two looks at whether the replicas are up, or have nothing left to do."""
NAMES = ("BESPOKE_", "MLFLOW_")
"""What the variables begin with that replicas get from the service."""
HINT = "Ray's logs say more; try the same without --ray."


def ray_workers(
    factory: Factory, settings: Serve, *, replicas: tuple[int, int], address: str | None = None
) -> list[Worker]:
    """A worker for each replica that there may be; they start with the fewest, and others as batches wait.

    `address` is the cluster's, by default that of RAY_ADDRESS, or else one is begun on this machine. The call returns
    once the first replicas have their engines.

    Raises: BespokeError when Ray is missing, the cluster cannot be reached or has no room, or an engine cannot be made.
    """
    least, most = replicas
    if not 1 <= least <= most:
        raise BespokeError(f"There cannot be {least} to {most} replicas.", "Say it like --replicas 1..4.")
    fleet = Fleet(factory, settings, replicas, address)
    return [RayWorker(fleet) for _ in range(most)]


class RayWorker:
    """A place for one batch at a time in whichever replica Ray Serve chooses: one that has the model, if it is free."""

    def __init__(self, fleet: "Fleet") -> None:
        self.held = NOTHING  # of the replica that drew the last batch
        self._fleet, self._response, self._cancelled = fleet, None, False
        fleet.workers.add(self)

    async def prepare(self, model: str) -> Facts:
        """What is known of a model once every replica has read it.

        Raises: BespokeError when one cannot, Lost when none lived through it.
        """
        return await self._fleet.prepare(model)

    async def release(self, model: str) -> None:
        """Lets every replica forget a model."""
        await self._fleet.release(model)

    async def draw(self, jobs: Sequence[Job], told: Callable[[Progress], None]) -> Sequence[Outcome]:
        """The outcomes of some jobs of one kind.

        Raises: OutOfMemory, Cancelled, Lost and RuntimeError, as every worker.
        """
        self._cancelled = False
        self._response = self._fleet.draw(jobs)
        try:
            return await self._heard(self._response, told)
        except Exception as error:
            if self._cancelled:
                raise Cancelled from None
            if isinstance(error, OutOfMemory | Cancelled | Lost):
                raise
            raise self._fleet.meant(error) from error
        finally:
            self._response.cancel()
            self._response = None

    async def _heard(self, response: Any, told: Callable[[Progress], None]) -> Sequence[Outcome]:
        """The outcomes that a replica comes to. Raises: what it says, or Lost when it says nothing for too long."""
        limit = None  # until a replica is free: the service knows how long its requests may wait
        while True:
            try:
                news: News = await asyncio.wait_for(anext(response), limit)
            except TimeoutError:
                raise Lost(f"a replica was not heard of for {limit:g} s") from None
            match news:
                case Within(seconds):
                    limit = seconds + CHECK  # it ends itself before; but its machine may be gone, or stand still
                case Progress():
                    told(news)
                case Answer(outcomes, error, held):
                    self.held = held
                    if error is not None:
                        raise error
                    return outcomes

    def cancel(self) -> None:
        """Lets the replica leave off what it draws."""
        if self._response is not None:
            self._cancelled = True
            self._response.cancel()

    async def close(self) -> None:
        """Ends the worker, and with the last one the replicas."""
        self.cancel()
        await self._fleet.leave(self)


class Fleet:
    """The replicas behind the workers: an application of Ray Serve's that nobody else uses."""

    def __init__(self, factory: Factory, settings: Serve, replicas: tuple[int, int], address: str | None) -> None:
        self._serve = _serve()
        self._ray, self._disconnect = connected("--ray", replicas[1], address)
        self._load, self._preparing = settings.load_timeout_s, dict[str, asyncio.Task[Facts]]()
        self.name, self.workers, self._at_work = f"bespoke-{uuid.uuid4().hex[:8]}", set[RayWorker](), False
        self._handle: Any = None
        try:
            self._owner = self._ray.remote(num_cpus=0)(Owner).remote()
            self._handle = self._begun(factory, settings, replicas)
            self._wait()
        except BaseException:
            self._end()
            raise

    def _begun(self, factory: Factory, settings: Serve, replicas: tuple[int, int]) -> Any:
        """The handle of the application, whose replicas start now."""
        names = {name: value for name, value in os.environ.items() if name.startswith(NAMES)}
        home = Home(list(sys.path), str(Path.cwd()), names, self._owner)
        limits = Limits(settings.step_timeout_s, settings.load_timeout_s)
        gpus = bool(self._ray.cluster_resources().get("GPU"))
        made = self._serve.deployment(
            Replica,
            name="engine",
            ray_actor_options={"num_cpus": 1, "num_gpus": int(gpus)},
            autoscaling_config={
                "min_replicas": replicas[0],
                "max_replicas": replicas[1],
                "target_ongoing_requests": 1,
            },
            max_ongoing_requests=1,
            max_queued_requests=2 * replicas[1],
            graceful_shutdown_wait_loop_s=LOOK,
            graceful_shutdown_timeout_s=settings.drain_s,
            health_check_period_s=min(CHECK, settings.step_timeout_s / 4),
            logging_config=QUIET,
        )
        self._serve.start(proxy_location="Disabled", logging_config=QUIET)
        target = self._serve.RunTarget(made.bind(pickle.dumps(factory), limits, home), self.name, route_prefix=None)
        return self._serve.run_many([target], wait_for_applications_running=False)[0]

    def _wait(self) -> None:
        """Returns when the first replicas have their engines. Raises: BespokeError when they do not come up."""
        until = time.monotonic() + self._load
        while time.monotonic() < until:
            state = self._serve.status().applications[self.name]
            if state.status == "RUNNING":
                return
            if state.status == "DEPLOY_FAILED":
                said = " ".join(_words(deployment.message) for deployment in state.deployments.values())
                raise BespokeError(f"No engine could be made on the Ray cluster: {said or state.message}", HINT)
            time.sleep(LOOK)
        has = {kind: self._ray.cluster_resources().get(kind, 0) for kind in ("CPU", "GPU")}
        problem = f"The first replicas were not up after {self._load:g} s; the cluster has {has}."
        raise BespokeError(problem, "Each takes a CPU, and a GPU where the cluster has any: fewer --replicas?")

    def draw(self, jobs: Sequence[Job]) -> Any:
        """What is heard of a batch, from a replica that has drawn with its model and adapters, if one is free."""
        return self._handle.options(stream=True, multiplexed_model_id=tag(jobs[0])).draw.remote(jobs)

    async def prepare(self, model: str) -> Facts:
        """What is known of a model once all replicas have read it, whichever worker asks first.

        Raises: BespokeError when one cannot, Lost when none lived through it.
        """
        if model not in self._preparing:
            self._preparing[model] = asyncio.create_task(self._prepared(model))
            self._preparing[model].add_done_callback(lambda _: self._preparing.pop(model))
        return await asyncio.shield(self._preparing[model])

    async def _prepared(self, model: str) -> Facts:
        """As `prepare`; replicas that draw meanwhile read it one after the other, so that there is always who draws."""
        try:
            names = [name for name in await self._all("name") if isinstance(name, str)] if self._at_work else [None]
            answers = [answer for name in names for answer in await self._all("prepare", model, name)]
        except Exception as error:
            raise self.meant(error) from error
        if told := [answer for answer in answers if isinstance(answer, self._ray.exceptions.RayTaskError)]:
            raise self.meant(told[0])
        said = [answer for answer in answers if isinstance(answer, Answer)]
        for answer in said:
            if answer.error is not None:
                raise answer.error
        if not said:
            raise Lost(f"no replica lived through reading {model}")
        self._owner.keep.remote(model)
        self._at_work = True
        return said[0].result

    async def release(self, model: str) -> None:
        """Lets all replicas forget a model; one that is lost has forgotten it."""
        self._owner.drop.remote(model)
        with contextlib.suppress(TimeoutError, *self._lost()):
            await self._all("release", model)

    async def _all(self, method: str, *what: object) -> list[Any]:
        """What all replicas say; the error of one that is lost is its answer."""
        response = self._handle.broadcast(method, *what)
        return await response.results_async(timeout_s=self._load, return_exceptions=True)

    def meant(self, error: Exception) -> Exception:
        """What an error is to the service: Lost where Ray lost a replica, or words."""
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        told = isinstance(error, self._ray.exceptions.RayTaskError)
        lost = isinstance(error, (TimeoutError, *self._lost())) and not told
        return Lost(first) if lost else RuntimeError(f"{type(error).__name__}: {error}")

    def _lost(self) -> tuple[type[Exception], ...]:
        return self._ray.exceptions.RayError, self._serve.exceptions.RayServeException

    async def leave(self, worker: RayWorker) -> None:
        """Lets a worker go; after the last nothing is left of the application."""
        if self.workers == {worker}:
            await asyncio.to_thread(self._end)
        self.workers.discard(worker)

    def _end(self) -> None:
        with contextlib.suppress(TimeoutError, *self._lost()):
            if self._handle is not None:
                self._handle.shutdown()  # or its thread would ask Ray later, which begins a cluster where there is none
            self._serve.delete(self.name)
        self._disconnect()


def _words(message: str) -> str:
    """What a message says after the traces in it."""
    lines = reversed(message.strip().splitlines())
    return " ".join(reversed(list(itertools.takewhile(lambda line: not line.startswith(" "), lines))))


def _serve() -> Any:
    """Ray Serve. Raises: BespokeError when it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what Ray asks of pydantic is its own matter
            serve = importlib.import_module("ray.serve")
            importlib.import_module("ray.serve.exceptions")
    except ImportError as error:
        raise BespokeError(
            f"--ray needs Ray Serve, and it is not there: {error}.", "pip install 'bespoke[ray]'"
        ) from None
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve
