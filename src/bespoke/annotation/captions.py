"""A dataset's pictures put into words, every caption kept beside the others in `captions.csv` with who said it how."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from bespoke.annotation.endpoint import Endpoint
from bespoke.models import Wording, captioner_of
from bespoke.records import Picture

TABLE = "captions.csv"
COLUMNS = ("sha256", "file_name", "kind", "text", "by", "how")


Tell = Callable[[Sequence[Image.Image], Sequence[str]], list[str]]
"""What turns RGB pictures, and keys that say which they are, into texts."""


@runtime_checkable
class Captioner(Protocol):
    """Whatever puts pictures into words."""

    name: str

    def captions(self, pictures: Sequence[Image.Image], keys: Sequence[str], wording: Wording) -> list[str]:
        """A caption for each RGB picture; `keys` say which picture each is."""
        ...


@dataclass(frozen=True)
class Said:
    """One caption: of which picture, of what kind, who said it and with which settings."""

    sha256: str
    file: str
    kind: str
    text: str
    by: str
    how: str
    """A digest of who and of the settings: equal for what would be said again."""


@dataclass(frozen=True)
class Teller:
    """What says something about pictures: its name, all that decides what it says, and how it is made when needed."""

    kind: str
    """The name under which what it says is kept beside other captions."""
    name: str
    settings: Mapping[str, object]
    made: Callable[[], Tell]

    @property
    def how(self) -> str:
        """The digest of who and of the settings."""
        content = json.dumps([self.name, self.settings], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def captioner(name: str, device: str) -> Captioner:
    """The captioner of that name: `pico-BLIP`, a folder or hub id of a BLIP or a Florence-2, or a service's address.

    Raises: BespokeError when there is none.
    """
    if name.startswith(("http://", "https://")):
        return Endpoint(name)
    return captioner_of(name, device)


def described(
    folder: Path,
    pictures: Sequence[Picture],
    teller: Teller,
    batch: int,
    read: Callable[[Picture], Image.Image],
    progress: Callable[[int, int], None],
) -> dict[str, str]:
    """What is said about pictures, by their sha256; what `captions.csv` holds already is not said again.

    Each batch is on disk before the next begins, so that a kill costs one batch.
    """
    texts = {s.sha256: s.text for s in said_before(folder) if (s.kind, s.how) == (teller.kind, teller.how)}
    todo = [picture for picture in pictures if picture.sha256 not in texts]
    tell = teller.made() if todo else None
    for start in range(0, len(todo), batch):
        part = todo[start : start + batch]
        assert tell is not None
        answers = tell([read(picture) for picture in part], [picture.pixels for picture in part])
        rows = [
            Said(picture.sha256, picture.file, teller.kind, text, teller.name, teller.how)
            for picture, text in zip(part, answers, strict=True)
        ]
        _append(folder / TABLE, rows)
        texts |= {row.sha256: row.text for row in rows}
        progress(len(pictures) - len(todo) + start + len(part), len(pictures))
    return {picture.sha256: texts[picture.sha256] for picture in pictures}


def said_before(folder: Path) -> list[Said]:
    """All captions in a dataset's `captions.csv`, the oldest first; a line that a kill cut short is left out."""
    path = folder / TABLE
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(whole, newline=""))
    return [_said(row) for row in rows if all(row.get(column) is not None for column in COLUMNS)]


def _said(row: Mapping[str, str]) -> Said:
    return Said(row["sha256"], row["file_name"], row["kind"], row["text"], row["by"], row["how"])


def _append(path: Path, captions: Iterable[Said]) -> None:
    """Adds lines to the table, after mending the end of one that a kill left half written."""
    held = path.read_bytes() if path.exists() else b""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    if not held:
        writer.writerow(COLUMNS)
    writer.writerows([s.sha256, s.file, s.kind, s.text, s.by, s.how] for s in captions)
    with path.open("r+b" if held else "wb") as file:
        file.seek(held.rfind(b"\n") + 1)
        file.truncate()
        file.write(lines.getvalue().encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
