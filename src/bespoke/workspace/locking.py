"""Blocks that only one process at a time enters."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import filelock

from bespoke.errors import BespokeError


@contextlib.contextmanager
def alone(folder: Path) -> Generator[None, None, None]:
    """A block that only one process of this machine and person enters for a folder.

    The lock lies in the system's temporary folder, so that a folder that is refused stays as it was.

    Raises: BespokeError when another process is in such a block.
    """
    whose = str(os.getuid()) if hasattr(os, "getuid") else ""
    place = Path(tempfile.gettempdir(), f"bespoke-locks-{whose}")
    place.mkdir(exist_ok=True, mode=0o700)
    lock = place / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.lock"
    with locked(lock, f"Another command is working on {folder}."):
        yield


@contextlib.contextmanager
def locked(
    lock: Path,
    problem: str,
    hint: str = "Wait until it is done, or stop it.",
    *,
    waits: Callable[[], None] | None = None,
) -> Generator[None, None, None]:
    """A block that only one process at a time enters for a lock file; a kill opens it again.

    Where another is in it, `waits` is called, and then it is waited for.

    Raises: BespokeError with the problem when another is in it and there is no `waits`.
    """
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        if waits is None:
            raise BespokeError(problem, hint) from None
        waits()
        held.acquire()
    try:
        yield
    finally:
        held.release()
