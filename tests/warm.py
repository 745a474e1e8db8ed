"""Processes of one's own that begin with the libraries read: forked from one that has read them and does nothing else.

A new interpreter takes seconds to read them. What is said of a process holds here as there: its signals, its exit code,
its files and locks, and what becomes of those when it is killed. Where starting is the matter, start an interpreter.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

FORKED = multiprocessing.get_context("forkserver")


class Process:
    """A function at work in a process that writes all it says to a file."""

    def __init__(self, function: Callable[..., Any], *given: Any, log: Path, folder: Path | None = None) -> None:
        _begin()
        known = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        words = (function, given, str(log), str(folder or Path.cwd()), known)
        self._process = FORKED.Process(
            target=_work, args=words, daemon=True
        )  # so that none outlives a test that failed
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code as `subprocess` has it, nothing while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """The exit code, once it has ended."""
        self._process.join(seconds)
        code = self.poll()
        assert code is not None, "it goes on"
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it, whatever it does."""
        self.send_signal(signal.SIGKILL)


def command(*words: str) -> None:
    """`bespoke` with these words; ends the process."""
    from bespoke.cli import main

    sys.argv[:] = ["bespoke", *words]
    main()


def _begin() -> None:
    """Starts the process that all others are forked from, unless there is one; it finds what this one finds."""
    FORKED.set_forkserver_preload(["tests.warmth"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path or str(Path.cwd()) for path in sys.path))
        forkserver.ensure_running()


def _work(
    function: Callable[..., Any], given: tuple[Any, ...], log: str, folder: str, known: Mapping[str, str]
) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(known)
    function(*given)
