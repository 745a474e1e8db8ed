"""A prompt as people write it, `a cat with a (red hat:1.3) BREAK at night`, turned into its words and their weights."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from bespoke.errors import BespokeError

MORE, LESS = 1.1, 1 / 1.1
"""What a pair of round brackets, and one of square brackets, multiplies the weight of its words with."""
MOST = 100.0
"""The largest weight that is read; what multiplies to more counts so much."""
_TOKEN = re.compile(r"\\[()\[\]\\]|[:;=]-?[()\[\]](?=\s|$)|:\s*[\d.,+-]+\s*[)\]]|[()\[\]]|\bBREAK\b")
_WEIGHT = re.compile(r":\s*(\d+\.?\d*|\.\d+)\s*\)")


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
        return " ".join(part.text for part in self.parts)

    @property
    def whole(self) -> Part:
        """Its parts as one, for what reads no windows."""
        spans, begin = list[Span](), 0
        for part in self.parts:
            spans += [Span(begin + span.begin, begin + span.end, span.weight) for span in part.spans]
            begin += len(part.text) + 1
        return Part(self.text, tuple(spans))

    @property
    def plain(self) -> bool:
        """Whether it is nothing but words, so that any program reads it alike."""
        return len(self.parts) == 1 and not self.parts[0].spans


@lru_cache(maxsize=4096)
def read(text: str) -> Prompt:
    r"""What a prompt or a caption says.

    `(words)` weigh 1.1 times as much, `[words]` 1/1.1 times, `(words:1.3)` 1.3 times; brackets within brackets
    multiply; `BREAK` begins a new window; `\(` `\)` `\[` `\]` are brackets, and `\\` is a backslash. A bracket without
    its other half is a letter, and a fault, unless it is a smiley's.
    Source: the syntax of A1111's prompts, less AND, which composes several pictures, and `[from:to:when]`.
    """
    tokens = list(_tokens(text))
    pairs, faults = _paired(tokens, text)
    parts, letters, weights = list[Part](), list[str](), list[float]()
    weight, open_weights = 1.0, list[float]()
    for number, token in enumerate(tokens):
        if token.kind == "break":
            parts.append(_part(letters, weights))
            letters, weights = [], []
        elif number in pairs and token.kind in OPENS.values():
            open_weights.append(weight)
            weight = min(MOST, weight * pairs[number])
        elif number in pairs:
            weight = open_weights.pop()
        else:
            letters.append(token.said)
            weights += [weight] * len(token.said)
    parts = [*parts, _part(letters, weights)]
    if len(parts) > 1:
        parts = [trimmed for part in parts if (trimmed := _trimmed(part)).text] or [Part("")]
    return Prompt(tuple(parts), tuple(faults))


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


@dataclass(frozen=True)
class _Token:
    """A piece of a prompt: "text", "break", "wrong" for what looks like a weight and is none, or the bracket it is."""

    kind: str
    said: str
    place: int


OPENS = {")": "(", "]": "["}


def _tokens(text: str) -> Iterator[_Token]:
    """The pieces of a prompt in order."""
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            yield _Token("text", text[end : match.start()], end)
        yield _token(match[0], match.start())
        end = match.end()
    if end < len(text):
        yield _Token("text", text[end:], end)


def _token(said: str, place: int) -> _Token:
    if said[0] == "\\":
        return _Token("text", said[1:], place)
    if said == "BREAK":
        return _Token("break", said, place)
    if len(said) == 1 or _WEIGHT.fullmatch(said):
        return _Token(said[-1], said, place)
    return _Token("wrong" if any(letter.isdigit() for letter in said) else "text", said, place)


def _paired(tokens: list[_Token], text: str) -> tuple[dict[int, float], list[str]]:
    """What each half of a pair of brackets multiplies with, by the numbers of tokens; and faults."""
    pairs, faults, waiting = dict[int, float](), list[str](), list[int]()
    for number, token in enumerate(tokens):
        if token.kind in OPENS.values():
            waiting.append(number)
        elif token.kind == "wrong":
            faults.append(f"{token.said!r} is no weight at {_near(text, token.place)}")
            _opener(tokens, waiting, token.said[-1])
        elif token.kind in OPENS:
            before = list(waiting)
            opened = _opener(tokens, waiting, token.kind)
            if opened is None:
                faults.append(f"{token.said!r} closes nothing at {_near(text, token.place)}")
                continue
            pairs[opened] = pairs[number] = _factor(token)
            faults += [_unclosed(tokens[other], text) for other in before[len(waiting) + 1 :]]
    return pairs, [*faults, *(_unclosed(tokens[number], text) for number in waiting)]


def _opener(tokens: list[_Token], waiting: list[int], closing: str) -> int | None:
    """The number of the nearest bracket that is waiting for this one, taken off with all behind it; perhaps none."""
    for place in range(len(waiting) - 1, -1, -1):
        if tokens[waiting[place]].kind == OPENS[closing]:
            opened = waiting[place]
            del waiting[place:]
            return opened
    return None


def _factor(token: _Token) -> float:
    """What a closing bracket's words are multiplied with."""
    number = _WEIGHT.fullmatch(token.said)
    return min(MOST, float(number[1])) if number else MORE if token.kind == ")" else LESS


def _unclosed(token: _Token, text: str) -> str:
    return f"{token.said!r} is not closed at {_near(text, token.place)}"


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


def _trimmed(part: Part) -> Part:
    """A part without the spaces around its words."""
    before = len(part.text) - len(part.text.lstrip())
    text = part.text.strip()
    moved = (Span(max(0, s.begin - before), min(len(text), s.end - before), s.weight) for s in part.spans)
    return Part(text, tuple(span for span in moved if span.begin < span.end))
