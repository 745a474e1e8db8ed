"""What models have said about a dataset's pictures and captions, as rows of numbers in its folder.

`annotation` writes it, and nothing here knows a model. Each file holds what one model says about one kind of thing: the
features of pictures, of captions, how unsafe pictures are, which things are in them. `seen.json` names the files that
hold now; those of other models stay, so that going back to one asks it nothing again.
"""

import base64
import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bespoke.workspace import Journal, atomic_file, write_json

FOLDER, INDEX = "seen", "seen.json"
PICTURES, CAPTIONS, SAFETY, THINGS = "pictures", "captions", "safety", "things"
"""The kinds: CLIP's features of pictures and of captions; how unsafe pictures are; what a detector finds in them."""
Numbers = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Rows:
    """What one model says: a row of numbers for each key, the SHA-256 of a file or of a caption."""

    model: str
    labels: tuple[str, ...]
    """The names that numbers in the rows stand for, such as a detector's things."""
    keys: tuple[str, ...]
    values: Numbers

    @cached_property
    def at(self) -> Mapping[str, int]:
        """Where the row of each key is."""
        return {key: number for number, key in enumerate(self.keys)}


class Seen:
    """What models have said that hold now, by kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._rows = {kind: rows for kind, name in _index(folder).items() if (rows := _read(self._folder / name))}

    def rows(self, kind: str) -> Rows | None:
        """What is said of a kind; nothing where no model was asked."""
        return self._rows.get(kind)

    @property
    def models(self) -> dict[str, str]:
        """The model of each kind."""
        return {kind: rows.model for kind, rows in self._rows.items()}


class Book:
    """The rows of one model, which grow while it is asked; each is written down at once."""

    def __init__(self, folder: Path, kind: str, model: str, identity: str, labels: Sequence[str] = ()) -> None:
        self.kind, self.name = kind, f"{kind}-{identity}.safetensors"
        self._path = folder / FOLDER / self.name
        self._journal = Journal(folder / FOLDER / f".{kind}-{identity}.jsonl")
        self._model, self._labels = model, tuple(labels)
        settled = _read(self._path)
        self._rows = dict(zip(settled.keys, settled.values, strict=True)) if settled else {}
        self._settled = set(self._rows)
        self._rows.update(_noted(self._journal))

    def lacking(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys, each once, of which nothing is known."""
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def add(self, keys: Sequence[str], values: npt.NDArray[np.floating]) -> None:
        """Takes in a row of numbers [n d] for each key, and writes them down."""
        new = dict(zip(keys, values.astype(np.float16), strict=True))
        self._rows |= new
        self._journal.append(*([key, base64.b64encode(row.tobytes()).decode()] for key, row in new.items()))

    def settle(self, wanted: Collection[str]) -> None:
        """Writes the rows of these keys as one file in place of all others."""
        wanted = set(wanted)
        kept = {key: row for key, row in self._rows.items() if key in wanted}
        if kept.keys() != self._settled and kept:
            self._write(dict(sorted(kept.items())))
        self._journal.remove()

    def _write(self, rows: Mapping[str, Numbers]) -> None:
        keys = np.frombuffer(b"".join(map(bytes.fromhex, rows)), dtype=np.uint8).reshape(len(rows), -1)
        # One entry, because safetensors writes several in any order, and equal rows are to be equal files.
        said = {"said": json.dumps({"model": self._model, "labels": self._labels})}
        with atomic_file(self._path) as temporary:
            # Not `save_file`, whose files nobody else may read.
            temporary.write_bytes(save({"keys": keys, "rows": np.stack(list(rows.values()))}, said))


def settle(folder: Path, books: Iterable[Book]) -> None:
    """Makes the rows of these books, and no others, those that hold."""
    names = {book.kind: book.name for book in books}
    if names != _index(folder):
        write_json(folder / FOLDER / INDEX, names)


def _index(folder: Path) -> dict[str, str]:
    """The file of each kind; nothing where no model was asked, or the list is damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        names = json.loads((folder / FOLDER / INDEX).read_text(encoding="utf-8"))
        return {str(kind): Path(str(name)).name for kind, name in names.items()}
    return {}


def _noted(journal: Journal) -> Iterator[tuple[str, Numbers]]:
    for line in journal:
        with contextlib.suppress(TypeError, ValueError):
            key, row = line
            yield str(key), np.frombuffer(base64.b64decode(row), np.float16)


def _read(path: Path) -> Rows | None:
    """The rows in a file; none where it is missing or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {})["said"])
            keys, values = file.get_tensor("keys"), file.get_tensor("rows")
            names, labels = tuple(bytes(row).hex() for row in keys), tuple(said["labels"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None
    return Rows(said["model"], labels, names, values)
