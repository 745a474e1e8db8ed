"""The Ray cluster that work goes to: that of RAY_ADDRESS or, where it is not set, one begun on this machine."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator
from typing import Any

from bespoke.errors import BespokeError

CONNECT = 10.0
"""Seconds within which the cluster's head must answer."""
HINT = "Check RAY_ADDRESS and `ray status`; unset RAY_ADDRESS to work on this machine."


def connected(asked: str, count: int | None = None, address: str | None = None) -> tuple[Any, Callable[[], None]]:
    """Ray, connected to its cluster, and what leaves it; one that this process was connected to before stays.

    `asked` is the recipe's key that wants it; a cluster begun on this machine has `count` cores, by default all.
    `address` goes before RAY_ADDRESS.

    Raises: BespokeError when Ray is not installed or the cluster cannot be reached.
    """
    ray = _ray(asked)
    if ray.is_initialized():
        return ray, _nothing
    _start(ray, count, address or os.environ.get("RAY_ADDRESS", "local"))
    return ray, ray.shutdown


def _nothing() -> None:
    """A cluster that was there before stays."""


def _ray(asked: str) -> Any:  # noqa: ANN401 - Ray is typed in part only
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives its workers the lowest claim to a processor: on a busy machine they would hardly come to work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        hint = f"pip install 'bespoke[ray]', or take {asked} out of the recipe."
        raise BespokeError(f'{asked} is "ray", and Ray is not installed.', hint) from None
    return ray


def _start(ray: Any, count: int | None, address: str) -> None:  # noqa: ANN401
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
