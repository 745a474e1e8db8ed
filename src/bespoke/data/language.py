"""A caption turned into the language that it is probably in."""

import functools
import re
from dataclasses import dataclass
from typing import Any

LIKE = {"en": ("en", "pcm", "sco")}
"""Languages that are taken for another one: Nigerian Pidgin and Scots for English."""
SURE = 0.5
"""How likely the language that is found must be."""
UNLIKELY = 0.01
"""How unlikely the language that is wanted must be."""
PLAIN = {"en": re.compile(r"\b(the|of|with|and)\b", re.IGNORECASE)}
"""Words that only this language has: a caption with one of them needs no closer look."""

_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Guess:
    """What language a text is in: its code of ISO 639, and how likely it is, 0 to 1."""

    language: str
    sure: float


def other_language(text: str, wanted: str, least_words: int) -> Guess | None:
    """The language of a text that is surely not in the one that is wanted; nothing where that is not so sure.

    Texts of fewer words than `least_words`, of two letters or more, tell too little. Tags and names are often unlike
    any sentence: no one language is likely for them, so nothing is said.

    Source: Lui & Baldwin 2012, "langid.py: an off-the-shelf language identification tool", as py3langid has it.
    """
    plain = PLAIN.get(wanted)
    if not wanted or len(_WORD.findall(text)) < least_words or (plain and plain.search(text)):
        return None
    ranked: list[tuple[str, float]] = _identifier().rank(text)
    language, sure = ranked[0]
    own = sum(likely for name, likely in ranked if name in LIKE.get(wanted, (wanted,)))
    return Guess(language, sure) if sure >= SURE and own <= UNLIKELY else None


@functools.cache
def _identifier() -> Any:  # noqa: ANN401 - py3langid has no types
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # pyright: ignore[reportMissingTypeStubs]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
