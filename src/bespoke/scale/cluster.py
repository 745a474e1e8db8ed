"""Actors of a Ray cluster that answer batches: that of RAY_ADDRESS or, where it is not set, one on this machine.

Source: Ray's documentation, "Actors" and "Fault tolerance". Why actors and not Ray Data: docs/decisions/0011.
"""

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.scale.pool import Pool, told
from bespoke.scale.worker import Answer, loaded, packed

CONNECT = 10.0
"""Seconds within which the cluster's head must answer."""
HINT = "Check RAY_ADDRESS and `ray status`; unset RAY_ADDRESS to work on this machine."
LIVES = 3
"""How often an actor whose machine is lost is begun again elsewhere, with the batch that it had."""


def cluster(function: bytes, count: int | None) -> Pool:
    """So many actors, by default one for each core of the cluster, that answer batches with a packed function.

    Raises: BespokeError when Ray is not installed or the cluster cannot be reached.
    """
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        _start(ray, count)
    cores = int(ray.cluster_resources().get("CPU", 1))
    return Pool(partial(Actor, ray, function), min(count or cores, cores), ray.shutdown if mine else _nothing)


def _nothing() -> None:
    """A cluster that was there before stays."""


def _ray() -> Any:  # noqa: ANN401 - Ray is typed in part only
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        hint = "pip install 'bespoke[ray]', or take data.backend out of the recipe."
        raise BespokeError('data.backend is "ray", and Ray is not installed.', hint) from None
    return ray


def _start(ray: Any, count: int | None) -> None:  # noqa: ANN401
    address = os.environ.get("RAY_ADDRESS", "local")
    _check_there(address)
    own: dict[str, object] = {"num_cpus": count, "include_dashboard": False} if address == "local" else {}
    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BespokeError(f"The Ray cluster {address} cannot be had: {first}", HINT) from error


def _check_there(address: str) -> None:
    """Refuses a HOST:PORT at which nobody listens, for which Ray would wait minutes."""
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT).close()
    except OSError as error:
        raise BespokeError(f"The Ray cluster {address} cannot be had: {error.strerror or error}.", HINT) from None


@contextlib.contextmanager
def _own_signals() -> Generator[None, None, None]:
    """What Ray makes of signals is undone: saving at SIGTERM is the caller's matter."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Answering:
    """What lives in an actor: the function, which answers batches."""

    def __init__(self, function: bytes, path: Sequence[str], folder: str) -> None:
        sys.path.extend(entry for entry in path if entry not in sys.path)
        with contextlib.suppress(OSError):  # a machine that does not share it: paths must then be whole ones
            os.chdir(folder)
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
