"""Captions turned into what a person wants to know of them: their lengths, their words, and what all begin with."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bespoke.models import Checkpoint, quiet
from bespoke.text import common_trigger, unweighed

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
STOP_WORDS = frozenset((
    "a", "about", "above", "after", "against", "all", "along", "also", "among", "an", "and", "another", "any",
    "are", "around", "as", "at", "be", "behind", "below", "beside", "between", "both", "but", "by", "each",
    "for", "from", "had", "has", "have", "he", "her", "his", "in", "inside", "into", "is", "it", "its", "near",
    "next", "no", "not", "of", "off", "on", "one", "onto", "or", "other", "out", "outside", "over", "she",
    "some", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to",
    "toward", "two", "under", "up", "upon", "very", "was", "were", "what", "when", "where", "which", "while",
    "who", "with", "without",
))  # fmt: skip
MOST_BEGIN_SO = 0.5
"""The part of the captions from which on their first words are taken for a trigger that the others lack."""


@dataclass(frozen=True)
class Length:
    """How long a caption is, and how many letters of its words, without brackets, the first window holds."""

    length: int
    read: int


@dataclass(frozen=True)
class Lengths:
    """The lengths of captions by their texts: in tokens, or in words where no tokenizer is at hand."""

    of: dict[str, Length] = field(default_factory=dict[str, Length])
    unit: str = "words"
    most: int | None = None
    """How many tokens the model reads at once, in one window."""

    def too_long(self, text: str) -> bool:
        """Whether one window does not hold a caption, so that a model of so many tokens would cut it."""
        return self.most is not None and self.of[text].length > self.most

    def halves(self, text: str) -> tuple[str, str]:
        """A caption as it is, and nothing; where one window does not hold it, its words up to there, and the rest."""
        if not self.too_long(text):
            return text, ""
        words, read = unweighed(text), self.of[text].read
        return words[:read], words[read:]


def in_tokens(checkpoint: Checkpoint, captions: Sequence[str]) -> Lengths:
    """The lengths in tokens, the marks of beginning and end among them; only the tokenizer is loaded."""
    tokenizer = checkpoint.tokenizer()
    most = int(tokenizer.model_max_length)
    with quiet():
        encoded = tokenizer([unweighed(text) for text in captions], return_offsets_mapping=True)
    # The last token that is read is the mark of the end: the one before it is the last of the caption.
    both = zip(captions, encoded["offset_mapping"], strict=True)
    found = {text: Length(len(o), len(unweighed(text)) if len(o) <= most else int(o[most - 2][1])) for text, o in both}
    return Lengths(found, "tokens", most)


def in_words(captions: Sequence[str]) -> Lengths:
    """The lengths in words, which say nothing about what the model does not read."""
    return Lengths({text: Length(len(text.split()), len(text)) for text in captions})


def word_counts(captions: Sequence[str], trigger: str) -> Counter[str]:
    """In how many captions each word stands that says something; those of the trigger do not count."""
    known = STOP_WORDS | set(_words(trigger))
    return Counter(word for text in captions for word in sorted(set(_words(unweighed(text))) - known))


def usual_beginning(captions: Sequence[str]) -> str:
    """The words that more than half of the captions begin with; nothing where there are none."""
    first, count = Counter(text.split()[0] for text in captions if text).most_common(1)[0]
    if count <= MOST_BEGIN_SO * len(captions) or first.lower() in STOP_WORDS:
        return ""
    return common_trigger([text for text in captions if text.split()[:1] == [first]])


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())
