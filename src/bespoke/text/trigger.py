"""Captions of one style turned into the words that call it, and into what they say without those words."""

from collections.abc import Sequence

LINKS = {"of", "with", "on", "in", "at", "by", "for", "and", "the", "a", "an"}
ARTICLES = {"a", "an", "the"}


def common_trigger(captions: Sequence[str]) -> str:
    """The words that all captions begin with, less trailing links: of "8bit illustration of a fox" the first two.

    Empty when they share none, or when nothing is left of some caption without them.
    """
    if len(captions) < 2:
        return ""
    shared: list[str] = []
    for words in zip(*(caption.split() for caption in captions), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    while shared and shared[-1].strip(",:").lower() in LINKS:
        shared.pop()
    trigger = " ".join(shared).rstrip(",:")
    return trigger if all(plain(caption, trigger) for caption in captions) else ""


def plain(caption: str, trigger: str) -> str:
    """The caption without the trigger and the link after it: "8bit illustration of a fox" → "a fox"."""
    rest = caption.removeprefix(trigger).lstrip(" ,:")
    first, _, after = rest.partition(" ")
    return after if trigger and first in LINKS - ARTICLES and rest != caption else rest
