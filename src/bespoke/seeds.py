"""Randomness as a function of a key: the same (seed, purpose, epoch, item) always gives the same numbers."""

import hashlib
import operator

import numpy as np

Key = str | int | np.integer


def generator(*key: Key) -> np.random.Generator:
    """A Philox generator whose stream depends on every part of `key` and on nothing else.

    Parts are told apart by type and by place: `("a", 1)`, `("a1",)` and `("a", "1")` are three keys. A whole number
    counts by its value, so that numpy's 3 and Python's 3 are one key.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in key:
        kind, text = ("s", part) if isinstance(part, str) else ("i", str(operator.index(part)))
        content = kind.encode() + text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(4, "little") + content)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


def normal(shape: tuple[int, ...], *key: Key) -> np.ndarray:
    """Standard normal numbers in float32."""
    return generator(*key).standard_normal(shape, dtype=np.float32)


def uniform(*key: Key) -> float:
    """One number in [0, 1)."""
    return float(generator(*key).random())


def permutation(count: int, *key: Key) -> np.ndarray:
    """The numbers 0..count-1 in a random order."""
    return generator(*key).permutation(count)
