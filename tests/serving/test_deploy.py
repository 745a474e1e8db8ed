"""Engines in replicas of Ray Serve, on a cluster of this machine: batches, kills, hangs, another model, the end."""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving.deploy import RayWorker, ray_workers
from bespoke.serving.dispatch import Dispatcher
from bespoke.serving.jobs import Cancelled, Facts, Failure, Held, Job, Outcome, OutOfMemory, Picture, Progress
from bespoke.serving.metrics import Metrics
from bespoke.serving.queue import Queue, Ticket
from bespoke.serving.replica import tag

T = TypeVar("T")
ENGINE = """
import os, time
from functools import partial
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.serving.dispatch import Dispatcher
from bespoke.serving.jobs import Facts, Failure, Held, OutOfMemory, Picture, Step

class Small:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.log("made")

    def log(self, *words):
        with open(self.folder / "log", "a") as file:
            file.write(" ".join(map(str, (os.getpid(), *words))) + "\\n")

    def prepare(self, model):
        if model == "none@1":
            raise BespokeError("There is no none@1.", "Promote one.")
        self.log("prepare", model, os.environ.get("BESPOKE_STORE", ""))
        return Facts(model, 8, 8)

    def release(self, model):
        self.log("release", model)

    def held(self):
        return Held(models=1, size=os.getpid())

    def draw(self, jobs, watch):
        first = jobs[0].prompt
        self.log("draw", *(job.id for job in jobs))
        if first == "too many" and len(jobs) > 1:
            raise OutOfMemory
        if first == "wrong":
            raise ValueError("a wrong batch")
        if first == "hangs once" and self.first("hung"):
            time.sleep(600)
        if first == "dies once" and self.first("dead"):
            os._exit(9)
        steps = 4
        for number in range(1, steps + 1):
            while first == "waits" and number == 2 and not (self.folder / "gate").exists():
                watch(Step(number, steps))
                time.sleep(0.02)
            watch(Step(number, steps, lambda: [f"{job.id} at {number}".encode() for job in jobs]))
        return [self.drawn(job, len(jobs)) for job in jobs]

    def drawn(self, job, batch):
        if job.prompt == "bad":
            return Failure("not_a_picture", "It is none.")
        return Picture(job.id.encode(), "png", 8, 8, job.seed, job.model, batch=batch)

    def first(self, mark):
        try:
            (self.folder / mark).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

def small(folder):
    return partial(Small, folder)
"""
ORPHAN = """
from engine_of_a_test import small
from bespoke.recipe.service import Serve
from bespoke.serving.deploy import ray_workers

settings = Serve(step_timeout_s=2.0, load_timeout_s=90.0)
workers = ray_workers(small({folder!r}), settings, replicas=(1, 1), address={address!r})
print("up", flush=True)
input()
"""
SETTINGS = Serve(step_timeout_s=6.0, load_timeout_s=120.0, drain_s=2.0)


@dataclass
class Service:
    """Workers, and where their engines leave traces."""

    workers: list[RayWorker]
    folder: Path

    def traces(self, *words: str) -> list[tuple[int, list[str]]]:
        """The processes, each with what it said, of the engines that said some words first."""
        lines = (self.folder / "log").read_text().splitlines() if (self.folder / "log").exists() else []
        split = [line.split() for line in lines]
        return [(int(pid), said) for pid, *said in split if said[: len(words)] == list(words)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module with an engine that replicas can import, since they get this process's path."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "engine_of_a_test.py").write_text(ENGINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module("engine_of_a_test")
    del sys.modules["engine_of_a_test"]


@pytest.fixture(scope="module")
def service(work: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of two replicas, three if need be, on a cluster of its own with room for two."""
    import ray

    folder = tmp_path_factory.mktemp("service")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BESPOKE_STORE", "there")
        workers: list[Any] = ray_workers(work.small(str(folder)), SETTINGS, replicas=(2, 3))
    yield Service(workers, folder)
    run(ended(workers))
    ray.shutdown()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives, which must not take for ever."""
    return asyncio.run(asyncio.wait_for(coroutine, 120))


async def ended(workers: Sequence[RayWorker]) -> None:
    for worker in workers:
        await worker.close()


def job(name: str, prompt: str = "a cat", model: str = "style@1", **more: Any) -> Job:
    return Job(name, model, prompt, seed=len(name), **more)


async def soon(true: Callable[[], object]) -> None:
    """Waits until something is true that must come true, if not when."""
    while not true():
        await asyncio.sleep(0.02)


def unheard(progress: Progress) -> None:
    pass


def test_there_is_a_worker_for_each_replica_that_may_be_and_ray_knows_what_was_asked(service: Service):
    from ray.serve.context import _get_global_client

    assert len(service.workers) == 3
    details: Any = _get_global_client().get_serve_details()
    (application,) = details["applications"].values()
    asked = application["deployments"]["engine"]["deployment_config"]
    scaling = asked["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"], scaling["target_ongoing_requests"]) == (2, 3, 1.0)
    assert (asked["max_ongoing_requests"], asked["max_queued_requests"]) == (1, 6)
    assert (asked["graceful_shutdown_timeout_s"], asked["health_check_period_s"]) == (2.0, 1.5)
    assert not details["proxies"]


def test_preparing_reaches_every_replica_and_so_does_letting_go(service: Service):
    async def asks() -> list[Facts]:
        facts = await asyncio.gather(*(worker.prepare("style@1") for worker in service.workers))
        await service.workers[0].prepare("other@2")
        await service.workers[1].release("other@2")
        return facts

    assert run(asks()) == [Facts("style@1", 8, 8)] * 3
    assert len({pid for pid, _ in service.traces("prepare", "style@1")}) == 2
    assert len(service.traces("prepare", "style@1", "there")) == 2
    for verb in ("prepare", "release"):
        assert len({pid for pid, _ in service.traces(verb, "other@2")}) == 2
    with pytest.raises(BespokeError, match=r"There is no none@1\.") as caught:
        run(service.workers[0].prepare("none@1"))
    assert caught.value.hint == "Promote one."


def test_a_batch_comes_back_whole_in_order_with_its_progress(service: Service):
    heard: list[Progress] = []
    jobs = [job("a", previews=1), job("bb"), job("ccc", "bad")]
    outcomes = run(service.workers[0].draw(jobs, heard.append))
    first = Picture(b"a", "png", 8, 8, 1, "style@1", batch=3)
    assert outcomes == [first, replace(first, data=b"bb", seed=2), Failure("not_a_picture", "It is none.")]
    shown = (b"a at 2", b"bb at 2", b"ccc at 2")
    [(pid, _)] = service.traces("draw", "a", "bb", "ccc")
    assert service.workers[0].held == Held(models=1, size=pid)
    assert heard == [Progress(n, 4, shown if n == 2 else ()) for n in (1, 2, 3, 4)]


def test_what_goes_wrong_comes_as_what_it_is(service: Service):
    async def asks(*jobs: Job) -> Sequence[Outcome]:
        return await service.workers[0].draw(jobs, unheard)

    with pytest.raises(OutOfMemory):
        run(asks(job("1", "too many"), job("2", "too many")))
    with pytest.raises(RuntimeError, match="ValueError: a wrong batch"):
        run(asks(job("3", "wrong")))
    with pytest.raises(RuntimeError, match=r"There is no none@1\."):
        run(asks(job("4", model="none@1")))
    assert isinstance(run(asks(job("5")))[0], Picture)


def test_what_is_cancelled_ends_at_its_next_step_whether_it_has_begun_or_waits(service: Service):
    async def asks() -> list[Any]:
        names = ["one", "two", "three"]
        tasks = [
            asyncio.create_task(worker.draw([job(name, "waits")], unheard))
            for name, worker in zip(names, service.workers, strict=True)
        ]
        await soon(lambda: len(service.traces("draw")) >= before + 2)  # both replicas are at one, the third waits
        for worker in service.workers:
            worker.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    before = len(service.traces("draw"))
    assert [type(error) for error in run(asks())] == [Cancelled] * 3
    assert isinstance(run(service.workers[0].draw([job("next")], unheard))[0], Picture)
    assert len(service.traces("draw")) == before + 3


def test_a_second_model_is_read_by_the_replica_that_gets_a_batch_for_it(service: Service):
    wearing = job("dressed", model="late@3", adapters=(("hat", 0.5),))
    [picture] = run(service.workers[0].draw([wearing], unheard))
    assert isinstance(picture, Picture) and picture.model == "late@3"
    [(reader, _)], [(drawer, _)] = service.traces("prepare", "late@3"), service.traces("draw", "dressed")
    assert reader == drawer
    router: Any = service.workers[0]._fleet._handle._router._asyncio_router._request_router

    def known_and_free() -> bool:
        replicas = router.curr_replicas
        tagged = any(tag(wearing) in replica.multiplexed_model_ids for replica in replicas.values())
        return tagged and not any(router.replica_queue_len_cache.get(name) for name in replicas)

    for number in range(8):  # whoever has it gets what needs it, if free
        run(soon(known_and_free))
        run(service.workers[number % 3].draw([replace(wearing, id=f"again{number}")], unheard))
        assert service.traces("draw", f"again{number}")[0][0] == reader


def test_impossible_numbers_of_replicas_and_a_missing_ray_are_told(work: ModuleType, monkeypatch: pytest.MonkeyPatch):
    for replicas in ((0, 1), (3, 2)):
        with pytest.raises(BespokeError, match="There cannot be"):
            ray_workers(work.small("."), SETTINGS, replicas=replicas)
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with pytest.raises(BespokeError, match="needs Ray Serve") as caught:
        ray_workers(work.small("."), SETTINGS, replicas=(1, 1))
    assert "bespoke[ray]" in caught.value.hint


def test_a_killed_a_dying_and_a_hanging_replica_cost_no_picture_its_one_answer_and_the_end_leaves_nothing(
    service: Service,
):
    from ray import serve

    jobs = [job(f"job{number}") for number in range(30)]
    jobs[3] = job("killed", "waits", settings=(("kind", 1),))
    jobs[9] = job("dies", "dies once", settings=(("kind", 2),))
    jobs[20] = job("hangs", "hangs once", settings=(("kind", 3),))

    async def asks() -> list[Outcome]:
        queue, loop = Queue(len(jobs)), asyncio.get_running_loop()
        dispatcher = Dispatcher(service.workers, queue, SETTINGS, meter)
        await dispatcher.start(["style@1"])
        tickets = [Ticket(job, "me", loop.create_future()) for job in jobs]
        queue.add(tickets)
        await soon(lambda: service.traces("draw", "killed"))
        os.kill(service.traces("draw", "killed")[0][0], signal.SIGKILL)
        await soon(lambda: len(service.traces("draw", "killed")) > 1)
        (service.folder / "gate").touch()
        outcomes = await asyncio.gather(*(ticket.answer for ticket in tickets))
        assert queue.unanswered == 0
        await soon(lambda: len(pids("made")) == 2 + 3)
        await soon(lambda: pids("made") == pids("prepare", "style@1"))  # even who has drawn nothing yet
        await dispatcher.close()
        return outcomes

    def pids(*words: str) -> set[int]:
        return {pid for pid, _ in service.traces(*words)}

    meter = Metrics()
    outcomes = run(asks())
    assert [got.data.decode() for got in outcomes if isinstance(got, Picture)] == [job.id for job in jobs]
    assert (meter.registry.get_sample_value("bespoke_worker_restarts_total") or 0) >= 3
    for name in ("killed", "dies", "hangs"):
        assert len({pid for pid, _ in service.traces("draw", name)}) >= 2
        assert not Path(f"/proc/{service.traces('draw', name)[0][0]}").exists()
    assert serve.status().applications == {}


def test_what_a_killed_service_leaves_on_a_cluster_of_others_ends_itself(service: Service, work: ModuleType):
    import ray
    from ray import serve

    address = ray.get_runtime_context().gcs_address
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + ORPHAN.format(folder=str(service.folder), address=address)
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
    assert child.stdin
    assert child.stdout
    assert child.stdout.readline() == "up\n"
    assert len(serve.status().applications) == 1
    child.kill()
    child.wait()
    run(soon(lambda: not serve.status().applications))
    child.stdin.close()
    child.stdout.close()
