"""A function carried out by processes of a Ray cluster at once, as one group of torch's that is begun anew if one dies.

Source: Ray's documentation, "Distributed PyTorch training" (TorchTrainer) and "Handling failures and node preemption".
What the processes go on from after a failure is the function's matter: Ray is given no checkpoints.
"""
# ruff: noqa: ANN401 - Ray is typed in part only

import contextlib
import importlib
import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.scale.cluster import LIVES
from bespoke.scale.connection import connected
from bespoke.scale.worker import answer, at_home, loaded, portable

LISTEN = 0.2
"""Seconds between two looks at what the group says."""
ASK = 1.0
"""Seconds after which a process asks again whether it is to stop."""


@dataclass(frozen=True)
class Team:
    """How many processes make a group, and what each of them has of its machine."""

    count: int | None = None
    """By default one for each GPU of the cluster, or one where it has none."""
    cores: int = 1


class Line:
    """What a process of the group has to the one that waits for it."""

    def __init__(self, ray: Any, desk: Any) -> None:
        self._ray, self._desk, self._asked, self._stop = ray, desk, 0.0, False

    def tell(self, *words: Any) -> None:
        """Sends something that can be pickled; it arrives in order, some time."""
        self._desk.tell.remote(pickle.dumps(words))

    def to_stop(self) -> bool:
        """Whether the group is to stop, as it was known a second ago."""
        if not self._stop and time.monotonic() - self._asked > ASK:
            self._stop, self._asked = self._ray.get(self._desk.to_stop.remote()), time.monotonic()
        return self._stop


class Desk:
    """What lies between the group and the one that waits for it; an actor."""

    def __init__(self) -> None:
        self._told: list[bytes] = []
        self._stop, self._outcome = False, None

    def tell(self, words: bytes) -> None:
        """Keeps what a process says."""
        self._told.append(words)

    def taken(self) -> list[bytes]:
        """What was said since the last time."""
        told, self._told = self._told, []
        return told

    def stop(self) -> None:
        """Wishes that the group stops."""
        self._stop = True

    def to_stop(self) -> bool:
        """Whether that is wished."""
        return self._stop

    def settle(self, outcome: bytes) -> None:
        """Keeps how it ended; only the first counts."""
        self._outcome = self._outcome or outcome

    def outcome(self) -> bytes | None:
        """How it ended, if it has."""
        return self._outcome


@contextlib.contextmanager
def group(team: Team, heard: Callable[..., None]) -> Generator["Group", None, None]:
    """A block in which a group of a Ray cluster may work; `heard` gets what any of its processes tells.

    Raises: BespokeError when Ray is not installed, or the cluster cannot be reached or is too small.
    """
    _check_installed()
    ray, leave = connected("--ray", team.count and team.count * team.cores)
    try:
        # Where the result is to be the only thing on standard output, Ray must not print there that a process died.
        with contextlib.redirect_stdout(sys.stderr):
            yield Group(ray, team, heard)
    finally:
        leave()


class Group:
    """Processes to be, for which there is room."""

    def __init__(self, ray: Any, team: Team, heard: Callable[..., None]) -> None:
        self._ray, self._heard, self._cores = ray, heard, team.cores
        self.count, self._gpus = _places(ray, team, heard)

    def together(self, function: Callable[[Line], Any], scratch: Path, stop: Callable[[], object]) -> Any:
        """What the function gives in the first of the processes, which all carry it out at once.

        Each finds torch's process group ready. If one dies, Ray ends the others and begins them anew, three times; so
        the function must go on where it was. Once `stop` is true, they are asked to stop. `scratch` is a folder that
        all machines see, for what Ray writes.

        Raises: BespokeError as the function raises it, or when processes die again and again.
        """
        ray = self._ray
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(_node(ray), soft=False)
        desk = ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote()
        work = partial(_work, pickle.dumps(function), list(sys.path), str(Path.cwd()), desk)
        fit = _Fit(self._trainer(work, scratch))
        while fit.runs_on(LISTEN):
            if stop():
                desk.stop.remote()
            self._pass_on(desk)
        self._pass_on(desk)
        return _result(ray.get(desk.outcome.remote()), fit.error)

    def _pass_on(self, desk: Any) -> None:
        for words in self._ray.get(desk.taken.remote()):
            self._heard(*pickle.loads(words))  # noqa: S301 - who says it is our own process

    def _trainer(self, work: Callable[[], None], scratch: Path) -> Any:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        each = {"CPU": self._cores, **({"GPU": 1} if self._gpus else {})}
        return TorchTrainer(
            work,
            scaling_config=ScalingConfig(num_workers=self.count, use_gpu=self._gpus, resources_per_worker=each),
            run_config=RunConfig(
                name="train", storage_path=str(scratch), failure_config=FailureConfig(max_failures=LIVES)
            ),
        )


def _check_installed() -> None:
    """Raises: BespokeError when Ray, or what its Train needs, is not installed."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    try:
        importlib.import_module("ray.train.torch")
        importlib.import_module("ray.util.scheduling_strategies")
    except ImportError as error:
        raise BespokeError(f"--ray needs Ray, and it is not there: {error}.", "pip install 'bespoke[ray]'") from None
    logging.getLogger("ray.train").setLevel(logging.ERROR)


def _node(ray: Any) -> str:
    return ray.get_runtime_context().get_node_id()


def _places(ray: Any, team: Team, heard: Callable[..., None]) -> tuple[int, bool]:
    """How many processes there will be, and whether each has a GPU.

    Raises: BespokeError when the cluster has not enough places; Ray itself would wait for ever.
    """
    nodes: Sequence[Mapping[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    count = team.count or gpus or 1
    each = {"CPU": team.cores, **({"GPU": 1} if gpus else {})}
    places = sum(min(int(node.get(kind, 0) // size) for kind, size in each.items()) for node in nodes)
    said = " and ".join(f"{size} {kind}" for kind, size in each.items())
    if places < count:
        problem = f"The Ray cluster has room for {places} of {count} processes of {said} each."
        raise BespokeError(problem, "Ask for fewer with --workers or --cores, or add machines: `ray status`.")
    free = ray.available_resources()
    if any(free.get(kind, 0) < size * count for kind, size in each.items()):
        heard("cluster", 0, 1, f"waiting for {count} times {said}: others are using them")
    return count, bool(gpus)


class _Fit:
    """A run of Ray Train in a thread of its own, so that signals stay this thread's."""

    def __init__(self, trainer: Any) -> None:
        self.error: BaseException | None = None
        self._trainer = trainer
        self._thread = threading.Thread(target=self._fit, name="bespoke-ray", daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - told to who waits
            self.error = error

    def runs_on(self, seconds: float) -> bool:
        """Whether it is not over after so long."""
        self._thread.join(seconds)
        return self._thread.is_alive()


def _result(outcome: bytes | None, error: BaseException | None) -> Any:
    """What the function gave. Raises: as it did, or BespokeError when nothing came back: Ray gave up."""
    if outcome is None:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "Ray's logs say more. Everything that was saved is there."
        raise BespokeError(f"Ray did not bring it to its end: {first}", hint)
    results, raised = pickle.loads(outcome)  # noqa: S301
    if raised is not None:
        raise raised
    return results[0]


def _work(function: bytes, path: Sequence[str], folder: str, desk: Any) -> None:
    """What each process of the group does."""
    import ray
    from ray import train

    at_home(path, folder)
    settled: Any = ray.get(desk.outcome.remote())
    if settled is not None:
        return  # an earlier try ended with an error that this one would meet again
    line, rank = Line(ray, desk), train.get_context().get_world_rank()
    results, error = answer(loaded(function), [line])
    if isinstance(error, BespokeError):
        ray.get(desk.settle.remote(pickle.dumps(([], portable(error)))))
    if error is not None:
        raise error
    if rank == 0:
        ray.get(desk.settle.remote(pickle.dumps((results, None))))
