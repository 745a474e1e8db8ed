"""Many words in an Arrow array, perhaps memory-mapped, as Python's sequence and mapping: no dictionary is built."""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np


class Words(Sequence[str]):
    """Words by their numbers; `array` is Arrow's array of strings."""

    def __init__(self, array: Any) -> None:  # noqa: ANN401 - pyarrow is typed in part only
        self.array = array

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        """One word, or some of them."""
        if isinstance(number, slice):
            return [self.array[i].as_py() for i in range(*number.indices(len(self)))]
        return self.array[number].as_py()

    def __len__(self) -> int:
        """How many there are."""
        return len(self.array)


class Index(Mapping[str, int]):
    """The number of each word, found by halving: `order` holds the numbers in the order of the words.

    Arrow sorts by the bytes of UTF-8, which is the order of code points, by which Python compares.
    """

    def __init__(self, words: Words, order: np.ndarray | range) -> None:
        self._words, self._order = words, order

    def __getitem__(self, word: str) -> int:
        """The word's number.

        Raises: KeyError for an unknown word.
        """
        place = bisect.bisect_left(self._order, word, key=lambda number: self._words[int(number)])
        if place < len(self._order) and self._words[int(self._order[place])] == word:
            return int(self._order[place])
        raise KeyError(word)

    def __iter__(self) -> Iterator[str]:
        """The words by their numbers."""
        return iter(self._words)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._order)
