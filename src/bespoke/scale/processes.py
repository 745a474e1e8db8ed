"""A function over many records turned into its results by several processes of this machine.

The processes are fresh interpreters that talk through pipes, neither forked ones nor those of `multiprocessing`: a fork
of a process in which torch has started threads may hang, and `multiprocessing` runs the caller's own script again in
each process, so that a script without `if __name__ == "__main__"` would start itself. They load what the function
needs and nothing else, and hold no semaphore that could be left behind.
"""

import itertools
import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from bespoke.errors import BespokeError
from bespoke.scale.worker import Answer, answer

PATIENCE = 1.0
"""Seconds of work after which other processes are worth starting."""
BATCH = 8
"""Records that go to a process at once."""
AHEAD = 4
"""Batches for each process that may be on their way or done before they are wanted: what bounds the memory."""
LETTERS = 200
"""How much of a record is told."""

R = TypeVar("R")
T = TypeVar("T")


class Failed(Exception):  # noqa: N818 - what became of a record; `__cause__` is the error
    """A record that the function could not work on: `record` is it, `__cause__` what the function raised."""

    def __init__(self, record: object) -> None:
        super().__init__(f"the work on {_named(record)} failed")
        self.record = record


def map(  # noqa: A001 - what everybody calls it
    records: Iterable[R],
    function: Callable[[R], T],
    *,
    processes: int,
    batch: int = BATCH,
    patience: float = PATIENCE,
) -> Generator[T, None, None]:
    """What `function` gives for each record, in their order; the same for any number of processes.

    Records are taken as they are needed, so whoever keeps the results one by one can go on after a kill. The first
    `patience` seconds are spent in this process; only what is left then is worth starting others for. The function,
    the records and the results must be picklable, and the function must depend on its record alone. A function of the
    script that is run (`__main__`) stays in this process, since no other could import it. Leaving the generator, by
    Ctrl-C or otherwise, ends the processes at once.

    Raises: BespokeError as the function raises it, or when a process dies; Failed with the record for all else that the
    function raises. The results before it come first.
    """
    assert min(processes, batch) >= 1
    packed, waiting = pickle.dumps(function), iter(records)
    alone = processes == 1 or not sys.executable or b"__main__" in packed
    began = time.monotonic()
    for record in waiting:
        yield from _told_of([record], answer(function, [record]))
        if not alone and time.monotonic() - began >= patience:
            break
    first = list(itertools.islice(waiting, batch + 1))
    if len(first) > batch:
        yield from _shared(_batches(itertools.chain(first, waiting), batch), packed, processes)
    else:
        for record in first:
            yield from _told_of([record], answer(function, [record]))


def _batches(records: Iterable[R], size: int) -> Iterator[list[R]]:
    records = iter(records)
    while part := list(itertools.islice(records, size)):
        yield part


def _shared(batches: Iterator[list[R]], function: bytes, processes: int) -> Iterator[Any]:
    """The results of batches, each worked on by one of the processes, in order."""
    pool = _Pool(function, processes)
    try:
        asked: deque[tuple[list[R], Future[Answer]]] = deque()
        for part in batches:
            asked.append((part, pool.ask(part)))
            if len(asked) >= AHEAD * processes:
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


class _Pool:
    """The processes, each with at most one thread of ours that waits for its answer."""

    def __init__(self, function: bytes, processes: int) -> None:
        self._function, self._processes = function, processes
        self._workers: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="bespoke-scale")

    def ask(self, records: Sequence[object]) -> "Future[Answer]":
        """The answer to come for some records."""
        if len(self._workers) < self._processes:
            self._workers.append(_Worker(self._function))
            self._idle.put(self._workers[-1])
        return self._threads.submit(self._asked, records)

    def _asked(self, records: Sequence[object]) -> Answer:
        worker = self._idle.get()
        try:
            return worker.ask(records)
        finally:
            self._idle.put(worker)

    def end(self) -> None:
        """Ends all processes, at once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.close()


class _Worker:
    """One process, to which records go and from which results come."""

    def __init__(self, function: bytes) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from bespoke.scale.worker import serve; serve()"
        # Each process is one core's worth; the libraries in it must not start threads for all cores.
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | dict(os.environ)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from, self._function = self._process.stdin, self._process.stdout, function

    def ask(self, records: Sequence[object]) -> Answer:
        """The answer for some records. Raises: BespokeError when the process dies over them."""
        content = pickle.dumps(records)
        try:
            if self._function:
                pickle.dump(self._function, self._to)
                self._function = b""
            pickle.dump(content, self._to)
            self._to.flush()
            return pickle.load(self._from)  # noqa: S301 - what our own process wrote
        except (OSError, EOFError, pickle.UnpicklingError):
            problem = f"A process ended with code {self._process.wait()} over {_named(records[0])} or one of the next"
            hint = "The memory may have been too little: use fewer processes, --set data.processes=1."
            raise BespokeError(f"{problem} {len(records) - 1}.", hint) from None

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Lets go of what is left of the process."""
        self._process.wait()
        for stream in (self._to, self._from):
            try:
                stream.close()
            except OSError:  # what was not yet written to it
                continue


def _named(record: object) -> str:
    told = repr(record)
    return told if len(told) <= LETTERS else told[:LETTERS] + "…"
