"""What became of each URL that was asked for, kept line by line so that a kill costs nothing that was finished."""

import errno
import json
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.workspace import is_full, locked

FILE = "journal.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What became of one URL."""

    suffix: str = ""
    """The ending of the picture's file; empty where there is none."""
    trouble: str = ""
    """Why there is none."""
    passing: bool = False
    """Whether it may be there another time."""
    by: dict[str, Any] = field(default_factory=dict[str, Any])
    """The settings that refused it; with others it is asked for again."""


class Journal:
    """The outcomes in a folder of downloads, by the URL's key, and the files that lie there.

    A picture lies at `ab/abcd….jpg`, named by its key. It is written whole before its line is, so that a picture
    without a line, as a kill may leave one, is as good as one with. A line without its picture says nothing.

    Raises: BespokeError when another process works there, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tried = set[str]()
        with self.writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._alone = ExitStack()
            self._alone.enter_context(locked(folder / ".lock", f"Another command is fetching pictures into {folder}."))
            self._file = _mended(folder / FILE)
            there = {key: Outcome(suffix) for key, suffix in _files(folder)}
            failed = {key: outcome for key, outcome in dict(_lines(folder / FILE)).items() if not outcome.suffix}
            self._outcomes = failed | there

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._alone.close()

    def get(self, key: str) -> Outcome | None:
        """What became of a URL, last time it was asked for."""
        return self._outcomes.get(key)

    def finished(self, key: str, settings: dict[str, Any], *, again: bool) -> bool:
        """Whether a URL needs no asking: its picture is there, or it was given up for good or a moment ago.

        What one of our settings refused is given up as long as these are the same.
        """
        outcome = self._outcomes.get(key)
        if outcome is None:
            return False
        if outcome.suffix or key in self._tried:
            return True
        return not again and not outcome.passing and all(settings.get(k) == value for k, value in outcome.by.items())

    def path(self, key: str, suffix: str) -> Path:
        """Where the picture of a URL lies or is to lie."""
        return self.folder / key[:2] / f"{key}{suffix}"

    def add(self, key: str, url: str, outcome: Outcome) -> None:
        """Takes an outcome in, and writes it down at once.

        Raises: BespokeError when it cannot be written.
        """
        line = {"key": key, "url": url, "suffix": outcome.suffix, "trouble": outcome.trouble}
        line |= ({"passing": True} if outcome.passing else {}) | ({"by": outcome.by} if outcome.by else {})
        content = json.dumps(line).encode() + b"\n"
        with self.writing():
            if self._file.write(content) < len(content):
                raise OSError(errno.ENOSPC, "the last line was cut off")
        self._outcomes[key] = outcome
        self._tried.add(key)

    @contextmanager
    def writing(self) -> Generator[None, None, None]:
        """A block that writes into the folder.

        Raises: BespokeError in place of the system's errors.
        """
        try:
            yield
        except OSError as error:
            problem = "The disk is full" if is_full(error) else f"Nothing can be written ({error.strerror or error})"
            hint = "What was fetched is kept. Mend that, and run the same command again."
            raise BespokeError(f"{problem}: {self.folder}.", hint) from error


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """The key and the ending of each picture; what a kill left half written is removed."""
    for part in sorted(folder.glob("[0-9a-f][0-9a-f]")):
        for entry in os.scandir(part):
            if entry.name.endswith(".tmp"):
                Path(entry.path).unlink()
            else:
                key, dot, suffix = entry.name.partition(".")
                yield key, dot + suffix


def _mended(path: Path) -> Any:  # noqa: ANN401 - a file that is open for bytes
    """The journal, open to be added to, without a last line that a kill tore."""
    file = path.open("a+b", buffering=0)  # each line goes to the system at once, or is refused at once
    file.seek(0, os.SEEK_END)
    if end := file.tell():
        block = min(end, 1 << 20)
        file.seek(end - block)
        file.truncate(end - block + file.read(block).rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
    return file


def _lines(path: Path) -> Iterator[tuple[str, Outcome]]:
    with path.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text)
                yield (
                    line["key"],
                    Outcome(line["suffix"], line["trouble"], line.get("passing", False), line.get("by", {})),
                )
            except (ValueError, LookupError, TypeError, AttributeError):
                continue  # a damaged line says nothing: its URL is asked for again
