"""Facts about pictures kept in a dataset's folder, so that no file is decoded twice, not even after a kill."""

import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bespoke.data.inspect import THUMBNAIL, Facts
from bespoke.workspace import atomic_file

FILE = "facts.parquet"
VERSION = b"2"
"""Goes up when a fact comes to mean something else; facts of another version are found out anew."""
SHARD = 256
"""Pictures decoded between two writes: what a kill can cost."""


class Known:
    """The facts known in one folder, by the SHA-256 of the file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._parts = folder, folder / ".facts"
        self._facts = {facts.sha256: facts for facts in _read(folder / FILE)}
        self._settled = set(self._facts)
        for part in sorted(self._parts.glob("*.parquet")):
            self._facts.update((facts.sha256, facts) for facts in _read(part))
        self._new: list[Facts] = []

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
        """Takes in the facts about a file; after 256 of them they are written."""
        self._facts[facts.sha256] = facts
        self._new.append(facts)
        if len(self._new) >= SHARD:
            self.save()

    def save(self) -> None:
        """Writes what is new."""
        if self._new:
            number = len(list(self._parts.glob("*.parquet")))
            _write(self._parts / f"{number:06d}.parquet", self._new)
            self._new = []

    def settle(self, wanted: Collection[str]) -> None:
        """Writes the facts of these hashes as one file in place of all others."""
        wanted = set(wanted) & self._facts.keys()
        if wanted != self._settled:
            _write(self._folder / FILE, [self._facts[sha256] for sha256 in sorted(wanted)])
        shutil.rmtree(self._parts, ignore_errors=True)


def _write(path: Path, facts: Sequence[Facts]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {int: pa.uint64(), float: pa.float64(), str: pa.string()}
    fields = [(name, types.get(kind)) for name, kind in Facts.__annotations__.items()]
    own = {"notes": pa.list_(pa.string()), "thumbnail": pa.binary(THUMBNAIL * THUMBNAIL * 3)}
    schema = pa.schema([(name, own.get(name, kind)) for name, kind in fields], {b"version": VERSION})
    rows = [asdict(f) | {"thumbnail": f.thumbnail.tobytes()} for f in facts]
    with atomic_file(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows, schema), temporary, compression="zstd")


def _read(path: Path) -> Iterator[Facts]:
    """The facts in a file; none where it is missing, damaged or of another version."""
    if not path.is_file():
        return
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        if (table.schema.metadata or {}).get(b"version") != VERSION:
            return
        for row in table.to_pylist():
            thumbnail = np.frombuffer(row["thumbnail"], np.uint8).reshape(THUMBNAIL, THUMBNAIL, 3)
            yield Facts(**row | {"notes": tuple(row["notes"]), "thumbnail": thumbnail})
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError):
        return
