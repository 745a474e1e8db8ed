"""A function over many records turned into its results, in order, by several processes of this machine or a cluster."""

import itertools
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from bespoke.errors import BespokeError
from bespoke.scale.pool import Pool, told
from bespoke.scale.worker import Answer, answer

Backend = Literal["processes", "ray"]

PATIENCE = 1.0
"""Seconds of work after which other processes are worth starting."""
BATCH = 8
"""Records that go to a process at once."""
AHEAD = 4
"""Batches for each process that may be on their way or done before they are wanted: what bounds the memory."""

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """Who does the work."""

    count: int | None = 1
    """How many processes; with Ray nothing means one for each core of the cluster, here it means one."""
    backend: Backend = "processes"
    """Processes of this machine, or actors of a Ray cluster."""


ALONE = Workers()
"""This process does the work."""


class Failed(Exception):  # noqa: N818 - what became of a record; `__cause__` is the error
    """A record that the function could not work on: `record` is it, `__cause__` what the function raised."""

    def __init__(self, record: object) -> None:
        super().__init__(f"the work on {told(record)} failed")
        self.record = record


def map(  # noqa: A001 - what everybody calls it
    records: Iterable[R],
    function: Callable[[R], T],
    *,
    workers: Workers,
    batch: int = BATCH,
    patience: float = PATIENCE,
) -> Generator[T, None, None]:
    """What `function` gives for each record, in their order; the same whoever does the work.

    Records are taken as they are needed, so whoever keeps the results one by one can go on after a kill. The first
    `patience` seconds are spent in this process; only what is left then is worth starting others for. The function,
    the records and the results must be picklable where there are others, and the function must depend on its record
    alone. A function of the
    script that is run (`__main__`) stays in this process, since no other could import it. Leaving the generator, by
    Ctrl-C or otherwise, ends the processes at once.

    Raises: BespokeError as the function raises it, when a process dies, or when Ray is wanted and missing; Failed with
    the record for all else that the function raises. The results before it come first.
    """
    assert batch >= 1
    waiting = iter(records)
    lonely = workers.backend == "processes" and (workers.count in (1, None) or not sys.executable)
    packed = b"" if lonely else pickle.dumps(function)
    alone = lonely or b"__main__" in packed
    began = time.monotonic()
    for record in waiting:
        yield from _told_of([record], answer(function, [record]))
        if not alone and time.monotonic() - began >= patience:
            break
    first = list(itertools.islice(waiting, batch + 1))
    if len(first) > batch:
        yield from _shared(batches(itertools.chain(first, waiting), batch), _pool(packed, workers))
    else:
        for record in first:
            yield from _told_of([record], answer(function, [record]))


def batches(records: Iterable[R], size: int) -> Iterator[list[R]]:
    """The records in their order, so many at once."""
    records = iter(records)
    while part := list(itertools.islice(records, size)):
        yield part


def _pool(function: bytes, workers: Workers) -> Pool:
    if workers.backend == "ray":
        from bespoke.scale.cluster import cluster

        return cluster(function, workers.count)
    from bespoke.scale.processes import processes

    return processes(function, workers.count or 1)


def _shared(parts: Iterator[list[R]], pool: Pool) -> Iterator[Any]:
    """The results of batches, each worked on by one of the pool, in order."""
    try:
        asked: deque[tuple[list[R], Future[Answer]]] = deque()
        for part in parts:
            asked.append((part, pool.ask(part)))
            if len(asked) >= AHEAD * pool.count:
                yield from _results(*asked.popleft())
        while asked:
            yield from _results(*asked.popleft())
    finally:
        pool.end()


def _results(records: Sequence[object], answered: "Future[Answer]") -> Iterator[Any]:
    return _told_of(records, answered.result())


def _told_of(records: Sequence[object], answered: Answer) -> Iterator[Any]:
    """The results of some records, and then the error on the next one, if there was any."""
    results, error = answered
    yield from results
    if isinstance(error, BespokeError):
        raise error
    if error is not None:
        raise Failed(records[len(results)]) from error
