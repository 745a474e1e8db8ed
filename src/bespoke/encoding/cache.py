"""Encoded rows kept in memory-mapped safetensors shards, found again by the hash of what they were made from."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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


class Rows:
    """Rows of a cache in the order they were asked for; read from disk when used."""

    def __init__(self, places: Sequence[np.ndarray]) -> None:
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        """The rows of `indices`, stacked: float32 [n ...]."""
        return torch.from_numpy(np.stack([self.places[index] for index in indices]))


class Cache:
    """The shards in one folder. A folder belongs to one encoder: another encoder's hash names another folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, keys: Sequence[str], encode: Encode, progress: Progress | None = None) -> Rows:
        """One row for each key: found, or encoded now and kept.

        The order of the keys does not matter to what a row holds, and a kill loses at most one shard's work.
        """
        known = self._index()
        missing = [number for key, number in {key: n for n, key in enumerate(keys)}.items() if key not in known]
        for start in range(0, len(missing), SHARD):
            part = missing[start : start + SHARD]
            self._write([keys[number] for number in part], encode(part))
            if progress:
                progress(min(start + SHARD, len(missing)), len(missing))
        known = self._index() if missing else known
        return Rows([known[key] for key in keys])

    def _write(self, keys: list[str], rows: Tensor) -> None:
        name = f"{len(list(self.folder.glob('*.safetensors'))):05d}-{keys[0][:12]}.safetensors"
        with atomic_file(self.folder / name) as temporary:
            save_file({"rows": rows.float().contiguous().cpu()}, temporary, metadata={"keys": json.dumps(keys)})

    def _index(self) -> dict[str, np.ndarray]:
        """Every row on disk by its key, memory-mapped."""
        return {key: row for shard in sorted(self.folder.glob("*.safetensors")) for key, row in _mapped(shard)}


def _mapped(shard: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The keys and rows of a shard; nothing if it is damaged, so that its rows are encoded again.

    The array is mapped at the offset that the header names: four times the speed of safetensors' slices.
    Source: the safetensors format (eight bytes of header length, JSON, then the tensors).
    """
    try:
        with safe_open(shard, "np") as file:  # checks that the header and the sizes agree
            keys = json.loads(file.metadata()["keys"])
        with shard.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            facts = json.loads(file.read(length))["rows"]
        rows = np.memmap(shard, np.float32, "r", 8 + length + facts["data_offsets"][0], tuple(facts["shape"]))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        shard.unlink(missing_ok=True)
        return
    yield from zip(keys, rows, strict=True)
