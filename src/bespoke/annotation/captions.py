"""A dataset's pictures put into words, every caption kept beside the others in `captions.csv` with who said it how."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bespoke.annotation.telling import Read, Teller, Telling
from bespoke.annotation.working import answered
from bespoke.records import Picture

TABLE = "captions.csv"
TAIL = 1 << 16
"""Bytes that are read at once to find the last whole line."""
COLUMNS = ("sha256", "file_name", "kind", "text", "by", "how")


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


def described(
    folder: Path,
    pictures: Sequence[Picture],
    teller: Teller,
    batch: int,
    read: Read,
    progress: Callable[[int, int], None],
) -> dict[str, str]:
    """What is said about pictures, by their sha256; what `captions.csv` holds already is not said again.

    Each batch is on disk when it was said, so that a kill costs one batch; with several processes one for each of them.
    """
    texts = {s.sha256: s.text for s in said_before(folder) if (s.kind, s.how) == (teller.kind, teller.how)}
    todo = [picture for picture in pictures if picture.sha256 not in texts]
    parts = [tuple(todo[start : start + batch]) for start in range(0, len(todo), batch)]
    done = len(pictures) - len(todo)
    telling = Telling(teller.made, read)
    with closing(answered(parts, telling, lambda: telling.tell, teller.workers)) as told:
        for part, answers in zip(parts, told, strict=True):
            rows = [
                Said(picture.sha256, picture.file, teller.kind, text, teller.name, teller.how)
                for picture, text in zip(part, answers, strict=True)
            ]
            _append(folder / TABLE, rows)
            texts |= {row.sha256: row.text for row in rows}
            done += len(part)
            progress(done, len(pictures))
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
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    end = _whole(path)
    if not end:
        writer.writerow(COLUMNS)
    writer.writerows([s.sha256, s.file, s.kind, s.text, s.by, s.how] for s in captions)
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(end)
        file.truncate()
        file.write(lines.getvalue().encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def _whole(path: Path) -> int:
    """The bytes of a table up to the end of its last whole line; it is read from its end, for it may be long."""
    end = path.stat().st_size if path.exists() else 0
    while end:
        start = max(0, end - TAIL)
        with path.open("rb") as file:
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
