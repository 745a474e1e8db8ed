"""Rules about a field's own words, read from TOML, and the terms they find in a caption."""

import difflib
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from bespoke.errors import BespokeError
from bespoke.recipe.section import Section
from bespoke.text.normal import normal, words


def _word(text: str) -> str:
    if not words(normal(text)):
        raise ValueError(f"{text!r} has no word in it")
    return normal(text)


def _once(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


Word = Annotated[str, AfterValidator(_word)]
Words = Annotated[tuple[Word, ...], Field(strict=False), AfterValidator(_once)]
Written = Annotated[tuple[str, ...], Field(strict=False)]


class Terms(Section):
    """What a person knows about the words of their captions. Everything may be left out; words are made normal."""

    protected: Words = ()
    """Never taken apart and never changed by augmentation."""
    multiword: Words = ()
    """Several words that are one term, "carbon fiber"; made a token if that saves any."""
    hyphens: Literal["keep", "split", "both"] = "keep"
    """Whether "t-shirt" is one word, two, or one and two."""
    casing: Written = ()
    """How words are written when they are shown, "iPhone"; CLIP itself knows small letters only."""
    units: Written = ()
    """Units of measure, "mm"; a number with its unit is one term: "35mm" and "35 mm" are one token, "35 mm"."""
    aliases: dict[Word, Words] = Field(default={})
    """Other ways to write a token's word, as `halberd = ["halbert", "halberds"]`; all of them become that token."""
    banned: Words = ()
    """Never made a token."""
    triggers: Words = ()
    """Words that call what is trained; made tokens if the captions have them."""
    rows: dict[Word, Annotated[int, Field(gt=0, le=16)]] = Field(default={})
    """How many rows a word stands for, where it is more than one, as `mystyle = 4`; trained, they can say more."""
    glosses: dict[Word, str] = Field(default={})
    """What a word means, in plain words: `halberd = "an axe with a spike on a long pole"`."""

    @model_validator(mode="after")
    def _agree(self) -> "Terms":
        seen: dict[str, str] = {}
        for token, surfaces in self.aliases.items():
            for surface in surfaces:
                if surface == token or surface in self.aliases:
                    raise ValueError(f"{surface!r} is a token in aliases, so it cannot stand for {token!r} too")
                if seen.setdefault(surface, token) != token:
                    raise ValueError(f"{surface!r} is an alias of {seen[surface]!r} and of {token!r}")
        if banned := sorted(set(self.banned) & self.forced):
            raise ValueError(f"{', '.join(banned)}: banned, but also among multiword, aliases or triggers")
        return self

    @property
    def forced(self) -> frozenset[str]:
        """Words that become tokens if captions have them, however seldom."""
        return frozenset((*self.multiword, *self.aliases, *self.triggers))

    def token(self, surface: str) -> str:
        """The one word that a normal surface stands for: an alias's token, "35 mm" of "35mm", else the surface."""
        if measure := self._measure and self._measure.fullmatch(surface):
            return f"{measure[1]} {measure[2]}"
        return self._tokens.get(surface, surface)

    def shown(self, word: str) -> str:
        """The word as it is to be written for people."""
        return self._shown.get(word, word)

    def found(self, text: str) -> Iterator[str]:
        """The terms and words of a normal text in order, each as it is written there, the longest term first.

        With `hyphens = "both"` the parts of a hyphened word follow it.
        """
        pattern, begin = self._pattern, 0
        for match in pattern.finditer(text) if pattern else ():
            yield from self._words(text[begin : match.start()])
            yield match[0]
            begin = match.end()
        yield from self._words(text[begin:])

    def _words(self, text: str) -> Iterator[str]:
        for word in words(text):
            if self.hyphens == "keep" or "-" not in word or word in self.protected:
                yield word
                continue
            if self.hyphens == "both":
                yield word
            yield from words(word.replace("-", " "))

    @functools.cached_property
    def _tokens(self) -> dict[str, str]:
        return {surface: token for token, surfaces in self.aliases.items() for surface in surfaces}

    @functools.cached_property
    def _shown(self) -> dict[str, str]:
        return {normal(text): text for text in self.casing}

    @functools.cached_property
    def _measure(self) -> re.Pattern[str] | None:
        units = sorted(map(normal, self.units), key=len, reverse=True)
        return re.compile(rf"(\d+(?:[.,]\d+)?) ?({'|'.join(map(re.escape, units))})") if units else None

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        """Whole terms that `words` alone would not find."""
        listed = {*self.protected, *self.forced, *self._tokens, *self.glosses}
        special = (term for term in listed if words(term) != [term] or "-" in term)
        return whole(special, self._measure and self._measure.pattern)


def whole(surfaces: Iterable[str], *patterns: str | None) -> re.Pattern[str] | None:
    """What finds any of the surfaces as whole words, leftmost first and of those the longest; nothing for none.

    Source: `AddedToken(single_word=True)` of tokenizers, to which `_` and digits are parts of words, too. It differs
    in one thing: where a longer surface only begins there, as "kelp bed" in "kelp beds", tokenizers takes none at all.
    """
    literal = [re.escape(surface) for surface in sorted(surfaces, key=lambda s: (-len(s), s))]
    forms = [*(pattern for pattern in patterns if pattern), *literal]
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)") if forms else None


def terms(file: Path) -> Terms:
    """The rules in a TOML file.

    Raises: BespokeError when it is missing, is not TOML, or holds a key or value that no rule has.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError):
        raise BespokeError(f"There is no file of terms at {file}.", "Name a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BespokeError(f"{file} is not valid TOML: {error}", "Words need quotation marks.") from None
    try:
        return Terms.model_validate(content)
    except ValidationError as error:
        lines = [_complaint(detail) for detail in error.errors()]  # pyright: ignore[reportArgumentType]
        known = f"Keys: {', '.join(Terms.model_fields)}."
        raise BespokeError(f"{file}: " + " ".join(lines), known) from None


def _complaint(detail: Mapping[str, object]) -> str:
    location = detail["loc"]
    name = ".".join(map(str, location)) if isinstance(location, tuple) else ""
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Terms.model_fields, n=1, cutoff=0.5)
        return f"there is no key {name}." + (f" Did you mean {near[0]}?" if near else "")
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{name} = {detail['input']!r}: {message}." if name else f"{message}."
