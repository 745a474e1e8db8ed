"""Workers, each asked one batch at a time, turned into answers to come."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Protocol, runtime_checkable

from bespoke.scale.worker import Answer

LETTERS = 200
"""How much of a record is told."""


@runtime_checkable
class Worker(Protocol):
    """Something that answers batches, somewhere else."""

    def ask(self, records: Sequence[object]) -> Answer:
        """The answer for some records. Raises: BespokeError when the worker dies over them."""
        ...

    def kill(self) -> None:
        """Ends it, whatever it does."""
        ...

    def close(self) -> None:
        """Lets go of what is left of it."""
        ...


class Pool:
    """Workers, made as they are needed, each with at most one thread of ours that waits for its answer."""

    def __init__(self, made: Callable[[], Worker], count: int, ended: Callable[[], None] = lambda: None) -> None:
        self.count, self._made, self._ended = count, made, ended
        self._workers: list[Worker] = []
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="bespoke-scale")

    def ask(self, records: Sequence[object]) -> "Future[Answer]":
        """The answer to come for some records."""
        if len(self._workers) < self.count:
            self._workers.append(self._made())
            self._idle.put(self._workers[-1])
        return self._threads.submit(self._asked, records)

    def _asked(self, records: Sequence[object]) -> Answer:
        worker = self._idle.get()
        try:
            return worker.ask(records)
        finally:
            self._idle.put(worker)

    def end(self) -> None:
        """Ends all workers, at once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.close()
        self._ended()


def told(record: object) -> str:
    """A record as messages name it."""
    text = repr(record)
    return text if len(text) <= LETTERS else text[:LETTERS] + "…"
