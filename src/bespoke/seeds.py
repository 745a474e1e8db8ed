"""Randomness as a function of a key: the same (seed, purpose, epoch, item) always gives the same numbers."""

import hashlib
import operator
import threading

import numpy as np

Key = str | int | np.integer


def philox_key(*key: Key) -> np.ndarray:
    """The key of Philox that `key` stands for: uint64 [2].

    Parts are told apart by type and by place: `("a", 1)`, `("a1",)` and `("a", "1")` are three keys. A whole number
    counts by its value, so that numpy's 3 and Python's 3 are one key.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in key:
        kind, text = ("s", part) if isinstance(part, str) else ("i", str(operator.index(part)))
        content = kind.encode() + text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(4, "little") + content)
    return np.frombuffer(digest.digest(), "<u8")


def generator(*key: Key) -> np.random.Generator:
    """A Philox generator whose stream depends on every part of `key` and on nothing else.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    return np.random.Generator(np.random.Philox(key=philox_key(*key)))


def normal(shape: tuple[int, ...], *key: Key) -> np.ndarray:
    """Standard normal numbers in float32."""
    return _begun(*key).standard_normal(shape, dtype=np.float32)


def uniform(*key: Key) -> float:
    """One number in [0, 1)."""
    return float(_begun(*key).random())


def whole_number(end: int, *key: Key) -> int:
    """One of the whole numbers 0..end-1."""
    return int(_begun(*key).integers(end))


def permutation(count: int, *key: Key) -> np.ndarray:
    """The numbers 0..count-1 in a random order."""
    return generator(*key).permutation(count)


class _Own(threading.local):
    """A generator of this thread's that is begun anew for each key: a new one takes five times as long."""

    def __init__(self) -> None:
        self.generator = generator()


_OWN = _Own()
_NOTHING = np.zeros(4, np.uint64)


def _begun(*key: Key) -> np.random.Generator:
    """This thread's generator at the beginning of the key's stream."""
    found = _OWN.generator
    found.bit_generator.state = {
        "bit_generator": "Philox", "state": {"counter": _NOTHING, "key": philox_key(*key)},
        "buffer": _NOTHING, "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip
    return found
