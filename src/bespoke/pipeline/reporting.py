"""How far long work has come, told to whoever wants to show it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Hears how far a stage has come; the command line draws a progress bar of it."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Called whenever `done` of `total` in `stage` changed."""
        ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A reporter that tells nobody."""


def counting(report: Reporter, stage: str) -> Callable[[int, int], None]:
    """What rooms call with (done, total), told to a reporter as one stage."""
    return lambda done, total: report(stage, done, total)


class Stopwatch:
    """Seconds spent in each named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Generator[None, None, None]:
        """A block whose time counts for `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 2)
