"""Thumbnails and hashes of pictures turned into an answer to: is there one that looks the same?"""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bespoke.data.inspect import Facts
from bespoke.data.reading import Pixels

HASH_BITS = 2
"""Bits of 64 in which the difference hashes of near-duplicates may differ."""
MEAN_LEVELS = 3.0
"""Levels of 255 by which the colour thumbnails of near-duplicates may differ on average."""
CELL_LEVELS = 12.0
"""The same within each of the 8×8 cells of a thumbnail: a small other object on the same ground shows here only."""

MOST_SHARING = 200
"""From so many on it is quicker to compare all hashes."""

_CELLS = 8
Levels = npt.NDArray[np.float32]


class Gallery:
    """Pictures, searched for one that looks like another.

    Hashes that differ in 2 bits agree in at least two of their four quarters, so only pictures that share two quarters
    are compared. Where those are many, as with pictures on plain grounds, all hashes are compared at once.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._thumbnails: list[Pixels] = []
        self._means: Levels = np.empty((256, 3), dtype=np.float32)
        self._hashes: npt.NDArray[np.uint64] = np.empty(256, dtype=np.uint64)
        self._sharing: dict[int, list[int]] = {}

    def add(self, facts: Facts, name: str) -> None:
        """Takes one more picture in."""
        count = len(self._names)
        if count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
            self._means = np.concatenate([self._means, np.empty_like(self._means)])
        self._hashes[count] = facts.dhash
        self._means[count] = _mean(facts.thumbnail)
        self._thumbnails.append(facts.thumbnail)
        self._names.append(name)
        for key in _pairs_of_quarters(facts.dhash):
            self._sharing.setdefault(key, []).append(count)

    def alike(self, facts: Facts) -> str:
        """The name of the first picture that looks the same, or nothing."""
        return self._find(facts.dhash, facts.thumbnail)

    def mirrored(self, facts: Facts) -> str:
        """The name of the first picture that looks the same in a mirror, or nothing."""
        return self._find(facts.mirrored, facts.thumbnail[:, ::-1])

    def every(self, facts: Facts) -> set[str]:
        """The names of all pictures that look the same, as they are or in a mirror."""
        plain = self._matches(facts.dhash, facts.thumbnail)
        return {*plain, *self._matches(facts.mirrored, facts.thumbnail[:, ::-1])}

    def _find(self, dhash: int, thumbnail: Pixels) -> str:
        return next(self._matches(dhash, thumbnail), "")

    def _matches(self, dhash: int, thumbnail: Pixels) -> Iterator[str]:
        near = self._near(dhash)
        if not len(near):
            return
        # No two thumbnails differ by less than their mean colours do: this spares most of the comparisons.
        shades = np.abs(self._means[near] - _mean(thumbnail)).mean(axis=1)
        likely = near[shades <= MEAN_LEVELS].tolist()
        yield from (self._names[index] for index in likely if looks_same(self._thumbnails[index], thumbnail))

    def _near(self, dhash: int) -> npt.NDArray[np.intp]:
        """The numbers of the pictures whose hashes are near, in order."""
        sharing = [self._sharing.get(key, ()) for key in _pairs_of_quarters(dhash)]
        if sum(map(len, sharing)) > MOST_SHARING:
            distances = np.bitwise_count(self._hashes[: len(self._names)] ^ np.uint64(dhash))
            return np.flatnonzero(distances <= HASH_BITS)
        candidates = sorted({index for indices in sharing for index in indices})
        near = [index for index in candidates if (int(self._hashes[index]) ^ dhash).bit_count() <= HASH_BITS]
        return np.array(near, dtype=np.intp)


def looks_same(one: Pixels, other: Pixels) -> bool:
    """Whether two colour thumbnails differ little, both on the whole and in every part."""
    differences = np.abs(one.astype(np.int16) - other.astype(np.int16)).mean(axis=2)
    side = differences.shape[0] // _CELLS
    cells = differences.reshape(_CELLS, side, _CELLS, side).mean(axis=(1, 3))
    return float(differences.mean()) <= MEAN_LEVELS and float(cells.max()) <= CELL_LEVELS


def _pairs_of_quarters(dhash: int) -> list[int]:
    """One number for each two of the hash's four quarters, with what they hold."""
    quarters = [dhash >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
    pairs = itertools.combinations(quarters, 2)
    return [number << 32 | one << 16 | other for number, (one, other) in enumerate(pairs)]


def _mean(thumbnail: Pixels) -> Levels:
    return thumbnail.mean(axis=(0, 1), dtype=np.float32)
