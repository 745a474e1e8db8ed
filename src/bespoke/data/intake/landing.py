"""The folder in a dataset where a source's files arrive, so that a kill costs the file being written at most."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bespoke.data.intake.folders import Found
from bespoke.data.intake.remote import CHUNK, Readable
from bespoke.data.tables import Marks
from bespoke.errors import BespokeError
from bespoke.workspace import is_full, write_text

INCOMING = ".incoming"
"""The folder of arriving files in that of a dataset: on the same disk, so that they need not be copied."""
_WRITING = ".writing"


class Landing:
    """The folder in which the files of one container arrive, each whole or not at all.

    What a call that was killed has left there is used again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._old = {path for path in folder.rglob("*") if path.is_file()}

    def taken(self, path: Path) -> bool:
        """Whether something of this call lies there. Raises: OSError for a name that no file can have."""
        return path not in self._old and path.exists()

    def keeps(self, path: Path, size: int) -> bool:
        """Whether an earlier call left a file of this size there, which then need not be written."""
        if path not in self._old:
            return False
        self._old.discard(path)
        return path.stat().st_size == size

    def write(self, path: Path, content: Readable) -> str:
        """Writes the content to its place; where that cannot be, what is returned says why, and nothing stays.

        Raises: what reading the content raises; BespokeError when the disk is full.
        """
        temporary = self.folder / _WRITING
        try:
            # What is small is written when the file is closed, and not before.
            with _room_on(self.folder), temporary.open("wb") as file:
                while block := content.read(CHUNK):
                    file.write(block)
            try:
                with _room_on(self.folder):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(temporary, path)
            except OSError as error:
                return f"cannot be unpacked: {error.strerror}"
            return ""
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _room_on(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        hint = "Free some space there and run the same command again: it goes on where it was."
        raise BespokeError(f"The disk is full: {folder} could not be written.", hint) from error


class Spool:
    """The files of a source as they arrive, container after container; what is whole is not fetched again."""

    def __init__(self, root: Path, source: str) -> None:
        self._made = [folder for folder in (root, *root.parents) if not folder.exists()]
        self._root = root / _digest(source)
        self._gone = self._root.with_suffix(".gone")
        shutil.rmtree(self._gone, ignore_errors=True)  # what a kill left of a removal
        self._journals: set[Path] = set()
        self.folder = self._root / "files"
        self.whole = 0
        """How many containers are complete."""

    def take(
        self, name: str, about: Sequence[object], below: str, unpack: Callable[[Landing], Iterator[Found]]
    ) -> list[Found]:
        """What a container says of its files, which are in the folder's part `below` afterwards.

        `about` changes when the container of this name does; then all of it is fetched again.

        Raises: what `unpack` raises.
        """
        head = json.dumps([name, below, *about])
        journal = self._root / f"{_digest(name)}.jsonl"
        self._journals.add(journal)
        told = _journal(journal, head)
        if told is None:
            self._clear(journal, below)
            write_text(journal, f"{head}\n")
        if not told:
            found = list(unpack(Landing(self.folder / below)))
            lines = [json.dumps(_written(item, self.folder)) for item in found]
            write_text(journal, "\n".join([head, json.dumps("whole"), *lines]) + "\n")
        else:
            found = [_read(json.loads(line), self.folder) for line in told[1:]]
        self.whole += 1
        return [replace(item, name=f"{below}/{item.name}") for item in found] if below else found

    def settle(self) -> None:
        """Removes what an earlier call left of containers that were not named this time."""
        for journal in set(self._root.glob("*.jsonl")) - self._journals:
            below = json.loads(journal.read_text(encoding="utf-8").splitlines()[0])[1]
            self._clear(journal, below)
            journal.unlink()

    def _clear(self, journal: Path, below: str) -> None:
        """Removes the files of a container; the journal speaks of none meanwhile, for a kill may leave half of them."""
        write_text(journal, json.dumps(["", below]) + "\n")
        shutil.rmtree(self.folder / below, ignore_errors=True)

    def remove(self) -> None:
        """Removes all that arrived, and the folders above that were made for it and are empty then."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._root, self._gone)
        shutil.rmtree(self._gone, ignore_errors=True)
        for folder in self._made or [self._root.parent]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _journal(path: Path, head: str) -> list[str] | None:
    """What stands in a journal below its head; nothing where that is another, or there is none."""
    if not path.exists():
        return None
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    return lines if first == head else None


def _written(found: Found, folder: Path) -> dict[str, Any]:
    path = found.path.relative_to(folder).as_posix() if found.path else None
    return asdict(found) | {"path": path}


def _read(said: dict[str, Any], folder: Path) -> Found:
    path = folder / said["path"] if said["path"] else None
    own: dict[str, Any] = {"path": path, "notes": tuple(said["notes"]), "marks": Marks(**said["marks"])}
    return Found(**(said | own))
