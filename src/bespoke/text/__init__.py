"""Captions in, better captions out; no torch here."""

from bespoke.text.augment import Augmenter, Refusal, Worded, Wording
from bespoke.text.meaning import Meaning
from bespoke.text.mirroring import unmirrorable
from bespoke.text.normal import normal, words
from bespoke.text.similarity import Limit, calibrated, spoilt
from bespoke.text.spelling import Speller
from bespoke.text.synonyms import Synonyms, curated, neighbours, wordnet
from bespoke.text.trigger import common_trigger, plain
from bespoke.text.weights import Span, unweighed, weighed

__all__ = [
    "Augmenter", "Limit", "Meaning", "Refusal", "Span", "Speller", "Synonyms", "Worded", "Wording", "calibrated",
    "common_trigger", "curated", "neighbours", "normal", "plain", "spoilt", "unmirrorable", "unweighed", "weighed",
    "wordnet", "words",
]  # fmt: skip
