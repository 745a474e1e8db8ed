"""Actors of a Ray cluster that answer batches.

Source: Ray's documentation, "Actors" and "Fault tolerance". Why actors and not Ray Data: docs/decisions/0011.
"""

import pickle
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.scale.connection import connected
from bespoke.scale.pool import Pool, told
from bespoke.scale.worker import Answer, at_home, loaded, packed

LIVES = 3
"""How often an actor whose machine is lost is begun again elsewhere, with the batch that it had."""


def cluster(function: bytes, count: int | None) -> Pool:
    """So many actors, by default one for each core of the cluster, that answer batches with a packed function.

    Raises: BespokeError when Ray is not installed or the cluster cannot be reached.
    """
    ray, leave = connected("data.backend", count)
    cores = int(ray.cluster_resources().get("CPU", 1))
    return Pool(partial(Actor, ray, function), min(count or cores, cores), leave)


class Answering:
    """What lives in an actor: the function, which answers batches."""

    def __init__(self, function: bytes, path: Sequence[str], folder: str) -> None:
        at_home(path, folder)
        self._function: Callable[[Any], Any] = loaded(function)

    def answer(self, content: bytes) -> bytes:
        """The packed answer for packed records."""
        return packed(self._function, content)


class Actor:
    """One actor, to which records go and from which results come."""

    def __init__(self, ray: Any, function: bytes) -> None:  # noqa: ANN401
        made = ray.remote(num_cpus=1, max_restarts=LIVES, max_task_retries=LIVES)(Answering)
        self._ray, self._actor = ray, made.remote(function, sys.path, str(Path.cwd()))

    def ask(self, records: Sequence[object]) -> Answer:
        """The answer for some records. Raises: BespokeError when the actor dies over them again and again."""
        try:
            return pickle.loads(self._ray.get(self._actor.answer.remote(pickle.dumps(records))))  # noqa: S301
        except self._ray.exceptions.RayError as error:
            problem = f"Ray lost a worker over {told(records[0])} or one of the next {len(records) - 1}"
            hint = "The memory of its machine may have been too little: `ray status` and Ray's logs say more."
            raise BespokeError(f"{problem}: {str(error).splitlines()[0]}", hint) from None

    def kill(self) -> None:
        """Ends the actor, whatever it does."""
        self._ray.kill(self._actor, no_restart=True)

    def close(self) -> None:
        """Nothing is left of it."""
