"""A large text file, perhaps compressed, turned into its lines: read as a stream, told as it comes."""

import gzip
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Protocol, runtime_checkable

from bespoke.errors import BespokeError

LONGEST = 1 << 20
"""Bytes of a line that are held at once; a longer one comes in parts, each ending with a whole word."""
TOLD = 1 << 24
"""Bytes between two reports."""
ARCHIVES = {b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf": "a 7-zip archive", b"BZh": "compressed by bzip2"}


@runtime_checkable
class Report(Protocol):
    """Hears how far the reading has come, in bytes, and at the end what was left out."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Called every few megabytes."""
        ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A report to nobody."""


def lines(file: Path, report: Report = silent) -> Iterator[bytes]:
    r"""The lines of a plain or gzipped file, as bytes with their ends; only `\n` ends a line.

    Bytes and not texts, because U+0085 and U+2028, which occur in words of GloVe's files, would end lines of text.

    Raises: BespokeError when the file is missing, a folder, empty, packed in another way, or cut off in its packing.
    """
    total, last = size(file), 0
    with file.open("rb") as raw, _opened(raw, file) as stream:
        try:
            for line in _parts(stream):
                yield line
                if raw.tell() - last >= TOLD:
                    last = raw.tell()
                    report(file.name, last, total)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = f"{file} is damaged or cut off: {error}."
            raise BespokeError(problem, "Download it again, or copy it again.") from error


def size(file: Path) -> int:
    """The bytes of a file that holds something.

    Raises: BespokeError when it is missing, a folder, or empty.
    """
    if file.is_dir():
        raise BespokeError(f"{file} is a folder, not a file.", "Name the file in it.")
    if not file.is_file():
        raise BespokeError(f"There is no file {file}.", "Name one that is there.")
    if not file.stat().st_size:
        raise BespokeError(f"{file} is empty.", "Download it again, or copy it again.")
    return file.stat().st_size


def told(skipped: Mapping[str, int]) -> str:
    """Which lines were left out, in words: "lines left out, of another length: 2, not in UTF-8: 1"; "" for none."""
    parts = [f"{reason}: {count:,}" for reason, count in skipped.items() if count]
    return "lines left out, " + ", ".join(parts) if parts else ""


@contextmanager
def _opened(raw: BufferedReader, file: Path) -> Generator[BufferedReader, None, None]:
    head = raw.read(4)
    raw.seek(0)
    for start, kind in ARCHIVES.items():
        if head.startswith(start):
            raise BespokeError(f"{file} is {kind}.", "Unpack it and name the file that was in it.")
    if head[:2] != b"\x1f\x8b":
        yield raw
        return
    with gzip.open(raw) as unpacked, BufferedReader(unpacked) as stream:
        yield stream  # pyright: ignore[reportReturnType] - a reader is a reader, whatever it reads from


def _parts(stream: BufferedReader) -> Iterator[bytes]:
    rest = b""
    while line := stream.readline(LONGEST):
        line, rest = rest + line, b""
        if len(line) >= LONGEST and not line.endswith(b"\n"):
            line, space, rest = line.rpartition(b" ")
            if not space:
                line, rest = rest, b""
        yield line
    if rest:
        yield rest
