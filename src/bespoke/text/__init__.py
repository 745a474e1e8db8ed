"""Captions in, better captions out; no torch here."""

from bespoke.text.augment import Augmenter, Refusal, Worded, Wording
from bespoke.text.meaning import Meaning
from bespoke.text.mirroring import unmirrorable
from bespoke.text.normal import normal, words
from bespoke.text.prompts import Part, Prompt, Span, checked, escaped, read, unweighed
from bespoke.text.similarity import Limit, calibrated, spoilt
from bespoke.text.spelling import Speller
from bespoke.text.synonyms import Synonyms, curated, neighbours, wordnet
from bespoke.text.trigger import common_trigger, plain

__all__ = [
    "Augmenter", "Limit", "Meaning", "Part", "Prompt", "Refusal", "Span", "Speller", "Synonyms", "Worded", "Wording",
    "calibrated", "checked", "common_trigger", "curated", "escaped", "neighbours", "normal", "plain", "read", "spoilt",
    "unmirrorable", "unweighed", "wordnet", "words",
]  # fmt: skip
