"""Texts as CLIP's tokenizer sees them, and the words in them."""

import re
import unicodedata

WORD = re.compile(r"([^\W_]+(?:(?:-|['’](?!s(?![^\W_])))[^\W_]+)*)(?:['’]s(?![^\W_]))?")
"""Letters and digits, joined by hyphens and apostrophes; of "the fox's t-shirt" the, fox and t-shirt."""
_LETTER = re.compile(r"[^\W\d_]")


def normal(text: str) -> str:
    """The text composed (NFC), in lower case, with single spaces between its words and none around.

    Capital sigma becomes the small one that is not final, as where each letter is lowered by itself.
    Source: the normaliser of transformers' `CLIPTokenizer`, which keeps spaces around; its splitting drops them.
    """
    lowered = text.lower() if text.isascii() else unicodedata.normalize("NFC", text).replace("Σ", "σ").lower()
    return " ".join(lowered.split())


def words(text: str) -> list[str]:
    """The words of a normal text in order: each has a letter, and no possessive ending."""
    return [word for word in WORD.findall(text) if _LETTER.search(word)]
