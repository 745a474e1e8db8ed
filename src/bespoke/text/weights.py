"""Captions in which words carry weights, `a cat with a (red hat:1.3)`, turned into plain words and their weights."""

import re
from dataclasses import dataclass

_ESCAPED = re.compile(r"\\([()])")
_READ = re.compile(r"\\[()]|\(((?:\\[()]|[^()])*?)\s*:\s*(\d+\.?\d*|\.\d+)\s*\)")


@dataclass(frozen=True)
class Span:
    """Letters `begin` to `end` of a plain caption, and what they weigh."""

    begin: int
    end: int
    weight: float


def weighed(caption: str) -> tuple[str, tuple[Span, ...]]:
    r"""The caption as it reads without weights, and the parts of it that weigh something else than 1.

    Source: the syntax of A1111's prompts, of which only `(words:number)` is read, and `\(` and `\)`, which are
    brackets whatever stands in them. Other brackets are words.
    """
    text, spans, end = "", list[Span](), 0
    for match in _READ.finditer(caption):
        text += caption[end : match.start()]
        words = _ESCAPED.sub(r"\1", match[0] if match[2] is None else match[1])
        if match[2] is not None and float(match[2]) != 1:
            spans.append(Span(len(text), len(text) + len(words), float(match[2])))
        text, end = text + words, match.end()
    return text + caption[end:], tuple(spans)


def unweighed(caption: str) -> str:
    """The caption as it reads without weights: `a cat with a red hat`."""
    return weighed(caption)[0]
