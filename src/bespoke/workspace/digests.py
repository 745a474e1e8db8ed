"""Files turned into the digests of what they hold, with word of how far the reading of large ones has come."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator
from contextvars import ContextVar
from io import BufferedReader
from pathlib import Path

LONG = 1 << 28
"""Of files of so many bytes is told how far their reading has come: 256 MiB take up to half a second."""
BLOCK, MEGABYTE, STAGE = 1 << 22, 1_000_000, "hash files"

Hears = Callable[[str, int, int, str], None]
"""Told the stage, how many megabytes of how many were read, and of which file."""
_HEARS: ContextVar[Hears | None] = ContextVar("hears", default=None)


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes, which are read each time; `remembered` spares that for a name."""
    with path.open("rb") as file:
        return digest_of(file, path)


def digest_of(file: BufferedReader, path: Path) -> str:
    """The hexadecimal SHA-256 of what an open file holds from here on; `path` says which file that is."""
    hears, size = _HEARS.get(), os.fstat(file.fileno()).st_size
    if hears is None or size < LONG:
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest, done, block = hashlib.sha256(), 0, memoryview(bytearray(BLOCK))
    while count := file.readinto(block):
        digest.update(block[:count])
        done += count
        hears(STAGE, done // MEGABYTE, size // MEGABYTE, f"MB of {path.parent.name}/{path.name}")
    return digest.hexdigest()


@contextlib.contextmanager
def hashing_told(hears: Hears) -> Generator[None, None, None]:
    """A block in which somebody hears how far the reading of large files has come that are hashed."""
    before = _HEARS.set(hears)
    try:
        yield
    finally:
        _HEARS.reset(before)
