"""Found files turned into facts about those to keep and a verdict, with its reason, over each of the others."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.data.inspect import Facts, Pixels, Unreadable, facts, read
from bespoke.data.sources import Found

MINIMUM_SIDE = 32
"""Pixels of the shorter side below which a picture shows too little."""
DHASH_DISTANCE = 2
"""Bits of 64 in which the difference hashes of near-duplicates may differ."""
MEAN_DIFFERENCE = 3.0
"""Levels of 255 by which the colour thumbnails of near-duplicates may differ on average."""
CELL_DIFFERENCE = 12.0
"""The same within each of the 8×8 cells of a thumbnail: a small other object on the same ground shows here only."""

_CELLS = 8
_BIT_COUNTS = np.array([value.bit_count() for value in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Verdict:
    """Why a file is set aside."""

    reason: str
    detail: str


Judged = tuple[Found, Facts | Verdict]


def examine(found: Found) -> Facts | Verdict:
    """The facts about a found file, or why it gives no picture."""
    if found.path is None:
        return Verdict(found.reason, found.trouble)
    try:
        return facts(read(found.path))
    except Unreadable as error:
        return Verdict(error.reason, error.detail)


def judge(items: Iterable[Judged], minimum_side: int = MINIMUM_SIDE) -> Iterator[Judged]:
    """The same files in the same order, with a verdict for each that is too small, has no caption or comes twice.

    Of several equal or nearly equal pictures the first that has a caption is kept.
    """
    kept: dict[str, str] = {}
    gallery = Gallery()
    for found, facts_ in items:
        if isinstance(facts_, Verdict):
            yield found, facts_
            continue
        verdict = _alone(found, facts_, minimum_side) or _among(facts_, kept, gallery)
        if verdict is None:
            kept[facts_.pixels] = found.name
            gallery.add(facts_, found.name)
        yield found, verdict or facts_


class Gallery:
    """The kept pictures, searched for one that looks the same."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._hashes: npt.NDArray[np.uint8] = np.empty((256, 8), dtype=np.uint8)
        self._means: npt.NDArray[np.float32] = np.empty((256, 3), dtype=np.float32)
        self._thumbnails: list[Pixels] = []

    def add(self, facts_: Facts, name: str) -> None:
        """Takes one more picture in."""
        count = len(self._names)
        if count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
            self._means = np.concatenate([self._means, np.empty_like(self._means)])
        self._hashes[count] = _bytes(facts_.dhash)
        self._means[count] = _mean(facts_.thumbnail)
        self._thumbnails.append(facts_.thumbnail)
        self._names.append(name)

    def alike(self, facts_: Facts) -> str:
        """The name of the first picture that looks the same, or nothing."""
        count = len(self._names)
        distances = _BIT_COUNTS[self._hashes[:count] ^ _bytes(facts_.dhash)].sum(axis=1)
        # No two thumbnails differ by less than their mean colours do: this spares most of the comparisons.
        shades = np.abs(self._means[:count] - _mean(facts_.thumbnail)).mean(axis=1)
        for index in np.flatnonzero((distances <= DHASH_DISTANCE) & (shades <= MEAN_DIFFERENCE)).tolist():
            if looks_same(self._thumbnails[index], facts_.thumbnail):
                return self._names[index]
        return ""


def looks_same(one: Pixels, other: Pixels) -> bool:
    """Whether two colour thumbnails differ little, both on the whole and in every part."""
    differences = np.abs(one.astype(np.int16) - other.astype(np.int16)).mean(axis=2)
    side = differences.shape[0] // _CELLS
    cells = differences.reshape(_CELLS, side, _CELLS, side).mean(axis=(1, 3))
    return float(differences.mean()) <= MEAN_DIFFERENCE and float(cells.max()) <= CELL_DIFFERENCE


def _alone(found: Found, facts_: Facts, minimum_side: int) -> Verdict | None:
    if min(facts_.width, facts_.height) < minimum_side:
        return Verdict("too small", f"{facts_.width}×{facts_.height}; the shorter side must have {minimum_side} pixels")
    if not found.text:
        return Verdict("no caption", found.trouble or "neither a table nor a file beside it gives one")
    return None


def _among(facts_: Facts, kept: dict[str, str], gallery: Gallery) -> Verdict | None:
    if facts_.pixels in kept:
        return Verdict("duplicate", f"the same pixels as {kept[facts_.pixels]}, which is kept")
    alike = gallery.alike(facts_)
    return Verdict("near-duplicate", f"looks the same as {alike}, which is kept") if alike else None


def _bytes(dhash: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(dhash.to_bytes(8, "big"), dtype=np.uint8)


def _mean(thumbnail: Pixels) -> npt.NDArray[np.float32]:
    return thumbnail.mean(axis=(0, 1), dtype=np.float32)
