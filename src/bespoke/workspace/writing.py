"""How files are written: a kill at any moment leaves the old file or the new."""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from bespoke.errors import BespokeError
from bespoke.workspace.digests import sha256

MANIFEST = "manifest.json"


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Generator[Path, None, None]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and is removed when it does not.

    Without `durable` it may be lost with the machine's power, until `make_durable` was called for it.

    Raises: BespokeError when the disk is full; what stood at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
            if durable:
                _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def is_half_written(path: Path) -> bool:
    """Whether a file is on its way to another name, by a process that is at it or was killed: nobody reads it."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def make_durable(paths: Sequence[Path]) -> None:
    """Waits until files that were written are on disk, all at once where the system can do that."""
    if paths and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        _sync(path)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Generator[Path, None, None]:
    """A temporary folder that becomes `path`, with a manifest of sizes and hashes written last.

    Raises: BespokeError when the disk is full; FileExistsError when `path` exists.
    """
    if path.exists():
        raise FileExistsError(path)
    # One level up, so that `state/` holds complete steps only, even after a kill.
    temporary = path.parent.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            files = sorted(f for f in temporary.rglob("*") if f.is_file())
            manifest = {
                f.relative_to(temporary).as_posix(): {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in files
            }
            (temporary / MANIFEST).write_text(json.dumps({"files": manifest}, indent=1), encoding="utf-8")
            for entry in (*temporary.rglob("*"), temporary):
                _sync(entry)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def verified(folder: Path) -> bool:
    """Whether `folder` is complete: its manifest is there and every file has the size and hash it names."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(
            (folder / name).stat().st_size == facts["bytes"] and sha256(folder / name) == facts["sha256"]
            for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def check_new(path: Path, kind: str = "one") -> None:
    """Raises: BespokeError when something lies at `path`; the hint is to name a new one, or a new `kind`."""
    if path.exists():
        raise BespokeError(f"{path} is there already.", f"Name a new {kind}; nothing is overwritten.")


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically, in UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_lines(path: Path, pieces: Iterable[str]) -> None:
    """Writes pieces of text to `path` atomically, in UTF-8, as they come."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Writes `content` to `path` atomically as indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


class Journal:
    """Results kept one by one while long work goes on, as lines of JSON: a kill costs the line being written, no more.

    A line is in the system's hands once `append` returns, so it outlives this process, if not a loss of power.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._whole = path, False

    def __iter__(self) -> Iterator[Any]:
        """What was appended, oldest first; lines that were torn or damaged are left out."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def append(self, *contents: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Adds one line for each of the contents. Raises: BespokeError when the disk is full."""
        lines = "".join(json.dumps(content, ensure_ascii=False) + "\n" for content in contents)
        with _explained(self._path):
            if not self._whole:
                self._mend()
            self._whole = False  # a full disk may tear a line, too
            with self._path.open("ab") as file:
                file.write(lines.encode("utf-8"))
            self._whole = True

    def _mend(self) -> None:
        """Ends a line that a kill tore, so that the next begins on its own."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")

    def remove(self) -> None:
        """Forgets all lines."""
        self._path.unlink(missing_ok=True)
        self._whole = False


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk, or a person's share of it, is full."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in codes
    # safetensors hands on the system's error in words only.
    return any(f"(os error {code})" in str(error) for code in codes)


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if is_full(error):
            hint = f"What stood at {path} before is untouched. Free some space there and run the same command again."
            raise BespokeError(f"The disk is full: {path} could not be written.", hint) from error
        raise


def _sync(path: Path) -> None:
    """Asks the system to write a file or a folder's entries to disk; folders cannot be opened so on Windows."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
