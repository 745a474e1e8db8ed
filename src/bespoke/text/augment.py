"""A caption turned into other wordings with the same meaning; what might change the meaning is refused and counted."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bespoke.recipe.training import Augment
from bespoke.seeds import Key, generator
from bespoke.text import classes
from bespoke.text.classes import WORD, matters
from bespoke.text.meaning import Meaning, tokens
from bespoke.text.spelling import Speller, misspelt, slip
from bespoke.text.synonyms import Synonyms, alone
from bespoke.text.trigger import plain

TRIES = 4
"""How often another wording is sought where one is refused or is there already."""
CLAUSES = re.compile(r",\s*(?![^(\[]*[)\]])")
"""Where clauses and tags part: at commas, but not in brackets."""

BEGINS = re.compile(r"(?:an?|the|one|two|three|\d+) (?!(?:[\w-]+ ){0,3}(?:of|by) )", re.IGNORECASE)
"""A caption that names a thing at once, so that "picture of" may stand before it; a portrait of one is a picture."""
JOINTS = r"(?:in|on|at|under|with|of|by|and|or|next|near|beside|behind|inside|above|below|over|between|from|to)"
"""Words behind which more is said of what stands before them."""


@dataclass(frozen=True)
class Wording:
    """Another wording of a caption."""

    text: str
    ways: tuple[str, ...]
    """What was done, in order: "order", "words left out", "beginning", "synonyms", "spelling"."""
    spelt: str = ""
    """The same before a word of it was misspelt; this is what similarity is measured on."""


@dataclass(frozen=True)
class Refusal:
    """A wording that is not used, and why."""

    text: str
    ways: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Worded:
    """A caption with its other wordings."""

    caption: str
    kept: tuple[Wording, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def less(self, dropped: Sequence[Wording], reason: str) -> "Worded":
        """The same with some wordings refused."""
        refused = tuple(Refusal(wording.text, wording.ways, reason) for wording in dropped)
        return replace(self, kept=tuple(w for w in self.kept if w not in dropped), refused=self.refused + refused)


class Augmenter:
    """Says captions in other words, by the recipe's `[augment]`. Every choice is a function of its key."""

    def __init__(self, settings: Augment, synonyms: Synonyms, speller: Speller, trigger: str = "") -> None:
        self.settings, self.synonyms, self.speller, self.trigger = settings, synonyms, speller, trigger
        self.meaning = Meaning(trigger, settings.protected, synonyms.same, self._slip)

    def __call__(self, caption: str, *key: Key) -> Worded:
        """Up to `variants` different wordings of a caption that the rules find to mean the same."""
        kept: dict[str, Wording] = {}
        refused: list[Refusal] = []
        for number in range(self.settings.variants):
            for attempt in range(TRIES):
                wording = self._worded(caption, generator(self.settings.seed, "wording", *key, number, attempt))
                if wording.text == caption or wording.text in kept:
                    continue
                reason = self.meaning.changed(caption, wording.text)
                if not reason:
                    kept[wording.text] = wording
                    break
                refused.append(Refusal(wording.text, wording.ways, reason))
        return Worded(caption, tuple(kept.values()), tuple(refused))

    def _worded(self, caption: str, random: np.random.Generator) -> Wording:
        """One wording, unjudged; each operation has its chance."""
        ways = self._ways()
        text, done = caption, list[str]()
        for name, chance, change in ways:
            changed = change(text, random) if random.random() < chance else text
            done += [name] if changed != text else []
            text = changed
        spelt = text
        if random.random() < self.settings.spelling:
            text = self._misspelt(text, random)
        return Wording(text, (*done, *(["spelling"] if text != spelt else [])), spelt)

    def _ways(self) -> tuple[tuple[str, float, Callable[[str, np.random.Generator], str]], ...]:
        own = self.settings
        return (
            ("order", own.shuffle, self._shuffled),
            ("words left out", own.drop, self._dropped),
            ("synonyms", own.synonyms, self._renamed),
            ("beginning", own.prefix, self._begun),
        )

    def _shuffled(self, text: str, random: np.random.Generator) -> str:
        """The clauses in another order, the first ones kept; of one clause, its place at its beginning."""
        clauses = CLAUSES.split(text)
        first = self.settings.keep_first
        if len(clauses) > first + 1:
            rest = clauses[first:]
            return ", ".join([*clauses[:first], *(rest[place] for place in random.permutation(len(rest)))])
        return fronted(text) if len(clauses) == 1 and not self._head(text) else text

    def _dropped(self, text: str, random: np.random.Generator) -> str:
        """The text less one word, or one whole clause, that says nothing of what is seen."""
        empty = classes.ARTICLES | classes.INTENSIFIERS | classes.PRAISE
        clauses = [c for c in CLAUSES.split(text) if c.strip().lower() not in classes.PRAISE]
        if len(clauses) < len(CLAUSES.split(text)):
            return ", ".join(clauses)
        places = [m for m in WORD.finditer(text) if m[0].lower() in empty and self._free(text, m)]
        if not places:
            return text
        chosen = places[int(random.integers(len(places)))]
        return (text[: chosen.start()] + text[chosen.end() :].removeprefix(" ")).strip()

    def _renamed(self, text: str, random: np.random.Generator) -> str:
        """The text with one of its words replaced by a synonym, its article mended."""
        whole = (m for m in _terms(text) if self._free(text, m) and _stands_alone(text, m))
        found = [(match, names) for match in whole if (names := self.synonyms(match[0]))]
        if not found:
            return text
        match, names = found[int(random.integers(len(found)))]
        name = names[int(random.integers(len(names)))]
        before = text[: match.start()]
        if WORD.fullmatch(name.split()[0]) and re.search(r"\b(?:a|an) $", before, re.IGNORECASE):
            before = re.sub(r"(a)n? $", r"\1n " if name[0] in "aeiou" else r"\1 ", before, flags=re.IGNORECASE)
        return before + name + text[match.end() :]

    def _begun(self, text: str, random: np.random.Generator) -> str:
        """The text with another beginning: "picture of" or none; the trigger before the rest, or behind it."""
        head = self._head(text)
        if head:
            rest = plain(text, self.trigger)
            link = "{trigger}, {rest}", "{rest}, {trigger}"
            return str(random.choice(link)).format(trigger=self.trigger, rest=rest)
        bare = classes.PREFIX.sub("", text, count=1) if classes.PREFIX.match(text) else text
        if not BEGINS.match(bare):
            return text
        begin = str(random.choice(("", "a picture of ", "an image of ", "picture of ", "image of ")))
        return begin + (bare if begin or not text[:1].isupper() else bare[:1].upper() + bare[1:])

    def _misspelt(self, text: str, random: np.random.Generator) -> str:
        """The text with one of its words misspelt, none that its meaning hangs on by its letters."""
        free = (match for match in WORD.finditer(text) if self._free(text, match))
        words = [m for m in free if m[0].lower() not in classes.GENERIC and not any(map(matters, tokens(m[0])))]
        known = self.speller.known
        for place in random.permutation(len(words)).tolist():
            right = words[place][0]
            wrong = misspelt(right, random, known)
            if wrong != right and self.speller.meant(wrong).lower() == right.lower():
                return text[: words[place].start()] + wrong + text[words[place].end() :]
        return text

    def _head(self, text: str) -> bool:
        """Whether a caption begins with the trigger."""
        return bool(self.trigger) and text.startswith(self.trigger)

    def _free(self, text: str, match: re.Match[str]) -> bool:
        """Whether a word is no part of the trigger or of a protected term."""
        terms = filter(None, (self.trigger, *self.settings.protected))
        spans = (found.span() for term in terms for found in re.finditer(re.escape(term), text, re.IGNORECASE))
        return all(match.end() <= begin or match.start() >= end for begin, end in spans)

    def _slip(self, word: str, other: str) -> bool:
        return slip(word, other, self.speller.known)


def fronted(text: str) -> str:
    """A caption of one clause with its place first: "on a beach, two dogs" for "two dogs on a beach".

    Only where it names things and one place, and the place is the end: which of two a third belongs to is not known.
    """
    places = r"(?:in|on|at)"
    found = re.fullmatch(
        rf"((?:an?|the|one|two|three|four|five|\d+|\w+s) (?:(?! {JOINTS} ).)+) ({places} (?:(?! {JOINTS} ).)+)",
        text,
        re.IGNORECASE,
    )
    return f"{found[2]}, {found[1]}" if found and not classes.PREFIX.match(text) else text


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a word of a text is no part of a name of several; a comma or a bracket ends a name."""
    begins = match.start() == 0 or text[: match.start()].rstrip()[-1:] in ",;(["
    ends = text[match.end() : match.end() + 1] in ",;)].:"
    before, after = WORD.findall(text[: match.start()])[-1:], WORD.findall(text[match.end() :])[:1]
    return alone("" if begins else before[0].lower(), match[0].lower(), "" if ends or not after else after[0].lower())


def _terms(text: str) -> list[re.Match[str]]:
    """The words of a text and its pairs of neighbouring words: names of two words are terms, too."""
    pair = re.compile(rf"(?=\b({WORD.pattern} {WORD.pattern}))")
    pairs = (re.compile(re.escape(found[1])).match(text, found.start()) for found in pair.finditer(text))
    return [*WORD.finditer(text), *(match for match in pairs if match)]
