"""Encoded rows kept in memory-mapped safetensors shards, found again by the hash of what they were made from."""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bespoke.workspace import atomic_file

SHARD = 256
"""Rows encoded between two writes: what a kill can cost."""

Encode = Callable[[Sequence[int]], Tensor]
"""Turns numbers of items into their rows, float32 [n ...]."""
Progress = Callable[[int, int], None]
Facts = Mapping[str, Any]
"""What is kept beside a row: anything that JSON holds."""


@dataclass(frozen=True)
class Items:
    """What rows are made from: as many keys as rows, and what else is known of each."""

    keys: Sequence[str]
    shapes: Sequence[Hashable] = ()
    """Rows of equal shape have equal values here; left out, all rows are of one shape."""
    facts: Callable[[int], Facts] = field(default=lambda _: {})
    """What to keep beside the row of an item; asked after the item was encoded."""


class Rows:
    """Rows of a cache in the order they were asked for; read from disk when used."""

    ready: bool = True
    """Whether reading them asks no network."""

    def __init__(self, places: Sequence[np.ndarray], facts: Sequence[Facts] = ()) -> None:
        self.places, self._facts = places, facts

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        """The rows of `indices`, which are of one shape, stacked: float32 [n ...]."""
        return torch.from_numpy(np.stack([self.places[index] for index in indices]))

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of one row."""
        return self.places[index].shape

    def facts(self, index: int) -> Facts:
        """What was kept beside one row."""
        return self._facts[index] if self._facts else {}


class Cache:
    """The shards in one folder. A folder belongs to one encoder: another encoder's hash names another folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, items: Sequence[str] | Items, encode: Encode, progress: Progress | None = None) -> Rows:
        """One row for each key: found, or encoded now and kept, a shard holding rows of one shape.

        The order of the keys does not matter to what a row holds, and a kill loses at most one shard's work.
        """
        items = items if isinstance(items, Items) else Items(items)
        known = self._index()
        missing = [n for key, n in {key: n for n, key in enumerate(items.keys)}.items() if key not in known]
        done = 0
        for part in _shards(missing, items.shapes):
            self._write([items.keys[n] for n in part], encode(part), [items.facts(n) for n in part])
            done += len(part)
            if progress:
                progress(done, len(missing))
        known = self._index() if missing else known
        return Rows([known[key][0] for key in items.keys], [known[key][1] for key in items.keys])

    def _write(self, keys: list[str], rows: Tensor, facts: list[Facts]) -> None:
        # Named by what it holds: shards that several machines made can lie in one folder.
        name = f"{hashlib.sha256(''.join(keys).encode()).hexdigest()[:24]}.safetensors"
        beside = {"keys": json.dumps(keys)} | ({"facts": json.dumps(facts)} if any(facts) else {})
        with atomic_file(self.folder / name) as temporary:
            save_file({"rows": rows.float().contiguous().cpu()}, temporary, metadata=beside)

    def _index(self) -> dict[str, tuple[np.ndarray, Facts]]:
        """Every row on disk by its key, memory-mapped, with what is kept beside it."""
        return {key: row for shard in sorted(self.folder.glob("*.safetensors")) for key, row in _mapped(shard)}


class Uncached(Rows):
    """Rows that are encoded whenever they are used, to the very values that a cache would keep."""

    ready = False

    def __init__(self, shapes: Sequence[tuple[int, ...]], encode: Encode) -> None:
        super().__init__((), ())
        self._shapes, self._encode = shapes, encode

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        return self._encode(indices).float()

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of one row."""
        return self._shapes[index]


class Stacked(Rows):
    """Rows of two sets, one below the other; the narrower are filled up with zeros."""

    def __init__(self, above: Rows, below: Rows) -> None:
        super().__init__((), ())
        self._parts = above, below
        self.ready = above.ready and below.ready

    def __len__(self) -> int:
        return len(self._parts[0])

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        both = [part[indices] for part in self._parts]
        width = max(each.shape[-1] for each in both)
        return torch.cat([torch.nn.functional.pad(each, (0, width - each.shape[-1])) for each in both], dim=1)

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of one row."""
        (above, width), (below, other) = (part.shape(index) for part in self._parts)
        return above + below, max(width, other)


class Joined(Rows):
    """Several sets of rows as one, the rows of the first before those of the next."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        super().__init__((), ())
        self._parts = [part for part in parts if len(part)]
        self.ready = all(part.ready for part in self._parts)
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        return torch.cat([part[[row]] for part, row in map(self._place, indices)])

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of one row."""
        part, row = self._place(index)
        return part.shape(row)

    def facts(self, index: int) -> Facts:
        """What was kept beside one row."""
        part, row = self._place(index)
        return part.facts(row)

    def _place(self, index: int) -> tuple[Rows, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[number], index - (int(self._ends[number - 1]) if number else 0)


def _shards(missing: Sequence[int], shapes: Sequence[Hashable]) -> Iterator[list[int]]:
    """The numbers of missing items in parts of at most a shard, each of one shape, in order of first appearance."""
    groups: dict[Hashable, list[int]] = {}
    for number in missing:
        groups.setdefault(shapes[number] if shapes else None, []).append(number)
    for group in groups.values():
        yield from (group[start : start + SHARD] for start in range(0, len(group), SHARD))


def _mapped(shard: Path) -> Iterator[tuple[str, tuple[np.ndarray, Facts]]]:
    """The keys and rows of a shard; nothing if it is damaged, so that its rows are encoded again.

    The array is mapped at the offset that the header names: four times the speed of safetensors' slices.
    Source: the safetensors format (eight bytes of header length, JSON, then the tensors).
    """
    try:
        with safe_open(shard, "np") as file:  # checks that the header and the sizes agree
            beside = file.metadata()
            keys = json.loads(beside["keys"])
            notes: list[Facts] = json.loads(beside.get("facts", "null")) or [{}] * len(keys)
        with shard.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            facts = json.loads(file.read(length))["rows"]
        rows = np.memmap(shard, np.float32, "r", 8 + length + facts["data_offsets"][0], tuple(facts["shape"]))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        shard.unlink(missing_ok=True)
        return
    yield from zip(keys, zip(rows, notes, strict=True), strict=True)
