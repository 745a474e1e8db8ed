"""Facts about pictures kept in a dataset's folder, so that no file is decoded twice, not even after a kill."""

import base64
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bespoke import scale
from bespoke.data.inspect import THUMBNAIL, Facts
from bespoke.workspace import Journal, atomic_file

FILE = "facts.parquet"
VERSION = b"3"
"""Goes up when a fact comes to mean something else; facts of another version are found out anew."""
ROWS = 4096
"""Facts that are read or written at once."""


class Known:
    """The facts known in one folder, by the SHA-256 of the file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._journal = folder, Journal(folder / f".facts-{VERSION.decode()}.jsonl")
        self._facts = {facts.sha256: facts for facts in _read(folder / FILE)}
        self._settled = set(self._facts)
        self._facts.update((facts.sha256, facts) for facts in _noted(self._journal))

    @property
    def folder(self) -> Path:
        """The dataset's folder."""
        return self._folder

    def __getitem__(self, sha256: str) -> Facts:
        return self._facts[sha256]

    def get(self, sha256: str) -> Facts | None:
        """What is known about a file of this hash."""
        return self._facts.get(sha256)

    def hashes(self) -> frozenset[str]:
        """The hashes of all files about which facts are known."""
        return frozenset(self._facts)

    def add(self, facts: Facts) -> None:
        """Takes in the facts about a file, and writes them down."""
        self._facts[facts.sha256] = facts
        self._journal.append(_row(facts) | {"thumbnail": base64.b64encode(facts.thumbnail.tobytes()).decode()})

    def forget(self) -> None:
        """Removes what was written down and not settled."""
        self._journal.remove()

    def settle(self, wanted: Collection[str]) -> None:
        """Writes the facts of these hashes as one file in place of all others."""
        wanted = set(wanted) & self._facts.keys()
        if wanted != self._settled:
            _write(self._folder / FILE, (self._facts[sha256] for sha256 in sorted(wanted)))
        self._journal.remove()


def _write(path: Path, facts: Iterator[Facts]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {int: pa.uint64(), float: pa.float64(), str: pa.string()}
    fields = [(name, types.get(kind)) for name, kind in Facts.__annotations__.items()]
    own = {"notes": pa.list_(pa.string()), "thumbnail": pa.binary(THUMBNAIL * THUMBNAIL * 3)}
    schema = pa.schema([(name, own.get(name, kind)) for name, kind in fields], {b"version": VERSION})
    with atomic_file(path) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as file:
        for part in scale.batches(facts, ROWS):
            rows = [_row(one) | {"thumbnail": one.thumbnail.tobytes()} for one in part]
            file.write_table(pa.Table.from_pylist(rows, schema))


def _read(path: Path) -> Iterator[Facts]:
    """The facts in a file; none where it is missing, damaged or of another version."""
    if not path.is_file():
        return
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(b"version") == VERSION:
                for part in file.iter_batches(ROWS):
                    yield from map(_facts, part.to_pylist())
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError):
        return


def _noted(journal: Journal) -> Iterator[Facts]:
    for row in journal:
        try:
            yield _facts(row | {"thumbnail": base64.b64decode(row["thumbnail"])})
        except (TypeError, KeyError, ValueError):
            continue


def _row(facts: Facts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in Facts.__annotations__}


def _facts(row: dict[str, Any]) -> Facts:
    thumbnail = np.frombuffer(row["thumbnail"], np.uint8).reshape(THUMBNAIL, THUMBNAIL, 3)
    own: dict[str, Any] = {"notes": tuple(row["notes"]), "thumbnail": thumbnail}
    return Facts(**(row | own))
