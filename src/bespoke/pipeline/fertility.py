"""Captions counted in tokens, before and after new words, and in words that each source of the lexicon knows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from bespoke.models import quiet
from bespoke.text import normal, words
from bespoke.text.lexicon import Lexicon, Source

GENERAL: tuple[Source, ...] = ("clip", "wiki", "social")
"""The sources that know nothing of the captions."""


@dataclass(frozen=True)
class Fertility:
    """Some texts in tokens by the base's tokenizer, and by the one that knows the new words."""

    name: str
    captions: int
    words: int
    before: int
    """Tokens of all of them, without their begin and end."""
    after: int
    long_before: int
    """How many do not fit into one window of the text encoder, 77 tokens with begin and end."""
    long_after: int

    @property
    def per_word(self) -> tuple[float, float]:
        """Tokens per word, before and after."""
        return self.before / max(1, self.words), self.after / max(1, self.words)


@dataclass(frozen=True)
class Coverage:
    """What a source brings to the lexicon, and which part of the captions' running words it knows, 0 to 1."""

    source: str
    words: int
    train: float
    validation: float | None
    """Nothing where no captions are held back."""


def fertility(name: str, captions: Sequence[str], tokenizer: Any, larger: Any) -> Fertility:
    """Texts counted by two tokenizers."""
    most, running = int(tokenizer.model_max_length), sum(len(words(normal(text))) for text in captions)
    (before, long_before), (after, long_after) = (_counted(one, captions, most) for one in (tokenizer, larger))
    return Fertility(name, len(captions), running, before, after, long_before, long_after)


def coverage(lexicon: Lexicon, train: Sequence[str], validation: Sequence[str]) -> list[Coverage]:
    """Each source, and all that know nothing of the captions together."""
    parts = [Counter(word for text in part for word in words(normal(text))) for part in (train, validation)]
    known = {source: set(lexicon.words(source)) for source in get_args(Source)}
    known |= {"general": set[str]().union(*(known[source] for source in GENERAL))}
    return [_coverage(source, found, parts) for source, found in known.items()]


def _counted(tokenizer: Any, captions: Sequence[str], most: int) -> tuple[int, int]:
    """The tokens of all texts, and how many texts are longer than a window."""
    with quiet():
        lengths = [len(ids) for ids in tokenizer(list(captions)).input_ids] if captions else []
    return sum(lengths) - 2 * len(lengths), sum(length > most for length in lengths)


def _coverage(source: str, known: set[str], said: Sequence[Counter[str]]) -> Coverage:
    """A source's part of what both kinds of captions say; of its terms of several words it knows each."""
    each = known.union(part for term in known if " " in term for part in words(term))
    return Coverage(source, len(known), _share(said[0], each) or 0.0, _share(said[1], each))


def _share(said: Counter[str], known: set[str]) -> float | None:
    total = said.total()
    return sum(count for word, count in said.items() if word in known) / total if total else None
