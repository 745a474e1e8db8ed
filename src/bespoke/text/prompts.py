"""A prompt as people write it, `a cat with a (red hat:1.3) BREAK at night`, turned into its words and their weights."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from bespoke.errors import BespokeError

MORE, LESS = 1.1, 1 / 1.1
"""What a pair of round brackets, and one of square brackets, multiplies the weight of its words with."""
_TOKEN = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*(?P<weight>\d+\.?\d*|\.\d+)\s*\)|\s*\bBREAK\b\s*")
_WRONG_NUMBER = re.compile(r":\s*(?:\d*,\d+|[+-]\s*[\d.]+|[\d.]*\.[\d.]*\.[\d.]*)\s*\)")


@dataclass(frozen=True)
class Span:
    """Letters `begin` to `end` of a part's words, and what they weigh."""

    begin: int
    end: int
    weight: float


@dataclass(frozen=True)
class Part:
    """Words that begin a window of their own, and the stretches of them that weigh something else than 1."""

    text: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """What a prompt says, in the parts that BREAK makes of it; without BREAK there is one."""

    parts: tuple[Part, ...]
    faults: tuple[str, ...] = ()
    """What cannot have been meant, in words; it was read as letters."""

    @property
    def text(self) -> str:
        """The words alone."""
        return " ".join(part.text for part in self.parts) if len(self.parts) > 1 else self.parts[0].text

    @property
    def plain(self) -> bool:
        """Whether it is nothing but words, so that any program reads it alike."""
        return len(self.parts) == 1 and not self.parts[0].spans


@lru_cache(maxsize=4096)
def read(text: str) -> Prompt:
    r"""What a prompt or a caption says.

    `(words)` weigh 1.1 times as much, `[words]` 1/1.1 times, `(words:1.3)` 1.3 times; brackets within brackets
    multiply; `BREAK` begins a new window; `\(` `\)` `\[` `\]` are brackets, and `\\` is a backslash.
    A bracket without its other half is a letter, and a fault.
    Source: the syntax of A1111's prompts, less AND, which composes several pictures.
    """
    tokens = list(_tokens(text))
    pairs, faults = _paired(tokens, text)
    parts, letters, weights = list[Part](), list[str](), list[float]()
    weight, open_weights = 1.0, list[float]()
    for number, (kind, said, _) in enumerate(tokens):
        if kind == "break":
            parts.append(_part(letters, weights))
            letters, weights = [], []
        elif number in pairs and kind in "([":
            open_weights.append(weight)
            weight *= pairs[number]
        elif number in pairs:
            weight = open_weights.pop()
        else:
            letters.append(said)
            weights += [weight] * len(said)
    faults += [f"{wrong[0].strip()!r} is no weight" for wrong in _WRONG_NUMBER.finditer(text)]
    return Prompt((*parts, _part(letters, weights)), tuple(faults))


def unweighed(text: str) -> str:
    """The words of a prompt alone: `a cat with a red hat at night`."""
    return read(text).text


def checked(text: str) -> Prompt:
    """What a prompt says that a person typed just now.

    Raises: BespokeError when something in it cannot have been meant.
    """
    prompt = read(text)
    if prompt.faults:
        hint = r"Weights are (words:1.3), (words) or [words]. For a bracket that is a bracket write \( or \)."
        raise BespokeError(f"The prompt {text!r} cannot be read: {'; '.join(prompt.faults)}.", hint)
    return prompt


def escaped(text: str) -> str:
    r"""A text in which brackets are brackets, as a prompt that says just that: `saber (fate)` → `saber \(fate\)`.

    A word BREAK becomes `Break`, which tokenizers read alike.
    """
    quoted = re.sub(r"\\(?=[()\[\]\\])|[()\[\]]", lambda found: f"\\{found[0]}", text)
    return re.sub(r"\bBREAK\b", "Break", quoted)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """The kinds "text", "break", "(", "[", ")", "]" in order, each as it is written, and where it stands."""
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            yield "text", text[end : match.start()], end
        said = match[0]
        if said[0] == "\\":
            yield "text", said[1:], match.start()
        elif "BREAK" in said:
            yield "break", said, match.start()
        else:
            yield said[-1], said, match.start()
        end = match.end()
    if end < len(text):
        yield "text", text[end:], end


def _paired(tokens: list[tuple[str, str, int]], text: str) -> tuple[dict[int, float], list[str]]:
    """What each half of a pair of brackets multiplies with, by the numbers of tokens; and faults."""
    pairs, faults, waiting = dict[int, float](), list[str](), list[int]()
    for number, (kind, said, place) in enumerate(tokens):
        if kind in ("(", "["):
            waiting.append(number)
        elif kind in (")", "]"):
            if not waiting or tokens[waiting[-1]][0] != {")": "(", "]": "["}[kind]:
                faults.append(f"{said!r} closes nothing at {_near(text, place)}")
                continue
            factor = LESS if kind == "]" else float(said[1:-1]) if len(said) > 1 else MORE
            pairs[waiting.pop()] = pairs[number] = factor
    faults += [f"{tokens[number][1]!r} is not closed at {_near(text, tokens[number][2])}" for number in waiting]
    return pairs, faults


def _near(text: str, place: int) -> str:
    """Where in a prompt something stands, shown by what is around it."""
    return f"“{text[max(0, place - 12) : place + 13]}”"


def _part(letters: list[str], weights: list[float]) -> Part:
    """Words with the stretches of equal weight in them."""
    spans, begin = list[Span](), 0
    for end in range(1, len(weights) + 1):
        if end == len(weights) or weights[end] != weights[begin]:
            if abs(weights[begin] - 1) > 1e-9:
                spans.append(Span(begin, end, weights[begin]))
            begin = end
    return Part("".join(letters), tuple(spans))
