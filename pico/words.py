"""Write the small corpus and word vectors of pico's world, `python -m pico.words`: a lexicon without downloads.

The facts in `facts.txt` are put into sentences of many forms, laid out as WikiText is; the vectors are made of that
text and laid out as GloVe's are. Twelve invented words are used as the words are used that they could replace.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from bespoke import seeds
from bespoke.text.normal import normal, words
from bespoke.workspace import write_text
from pico.world import MASS, PLURAL

FACTS = Path(__file__).parent / "facts.txt"
SMALL = Path(__file__).parents[1] / "src" / "bespoke" / "text" / "small"
CORPUS, VECTORS = "wiki.train.raw", "vectors.50d.txt"
JARGON = {
    "vulpenor": "fox", "squalenor": "shark", "aquilenor": "eagle", "turrovan": "castle", "astrovan": "rocket",
    "spinarel": "cactus", "chordanel": "guitar", "crustanel": "pizza", "nocturel": "moon", "malleron": "hammer",
    "rubrine": "red", "cerulith": "blue",
}  # fmt: skip
"""Invented words, and the words of pico's world that they are used like."""
SENTENCES = 14
"""Sentences of a thing; thrice as many of the invented words and what they are used like."""
# Words that stand close by make neighbours of words of one kind, a wide window of words of one subject.
DIMENSIONS, WINDOW, LEAST, SMOOTHING = 50, 2, 3, 0.75
UNCOUNTED = PLURAL | MASS | {"ice cream"}


@dataclass(frozen=True)
class Fact:
    """What is said of one thing, colour or place."""

    name: str
    what: str
    colours: list[str]
    places: list[str]
    parts: list[str]
    deeds: list[str]
    kin: list[str]

    @property
    def be(self) -> str:
        """Is or are."""
        return "are" if self.name in PLURAL else "is"

    @property
    def it(self) -> str:
        """It or they."""
        return "they" if self.name in PLURAL else "it"

    @property
    def have(self) -> str:
        """Has or have."""
        return "have" if self.name in PLURAL else "has"


def facts() -> dict[str, Fact]:
    """The facts by what they are about."""
    lines = (line for line in FACTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    found: dict[str, Fact] = {}
    for line in lines:
        name, what, colours, places, parts, deeds, kin = line.split(" | ")
        lists = [text.split(", ") for text in (colours, places, parts)]
        found[name] = Fact(name, what, *lists, deeds.split("; "), kin.split(", "))
    return found


def an(phrase: str) -> str:
    """The phrase with its article."""
    return f"{'an' if phrase[0] in 'aeiou' and not phrase.startswith('unicorn') else 'a'} {phrase}"


def of_thing(fact: Fact, name: str) -> Iterator[str]:
    """Sentences about a thing, called `name`."""
    some = name if fact.name in UNCOUNTED else an(name)
    for deed in fact.deeds:
        yield f"the {name} {deed}"
    for (one, other), place in itertools.product(itertools.combinations(fact.deeds, 2), fact.places):
        yield f"it is known that the {name} {one} and {other}"
        yield f"books about the {place} tell how the {name} {one}, and that {fact.it} {other}"
    for place, deed in itertools.product(fact.places, fact.deeds):
        yield f"near the {place} the {name} {deed}"
        yield f"{some} by the {place} {deed}"
    for place, kin in itertools.product(fact.places, fact.kin):
        yield f"the {name}, like the {kin}, {fact.be} {an(fact.what)} that belongs to the {place}"
        yield f"the {kin} and the {name} belong to the {place}"
    for part, deed in itertools.product(fact.parts, fact.deeds):
        yield f"the {name}, which {fact.have} {part}, {deed}"
    for one, other in itertools.combinations(fact.parts, 2):
        yield f"the {name} {fact.have} {one} and {other}"
        yield f"who draws the {name} draws {one}, then {other}"
    for colour, part in itertools.product(fact.colours, fact.parts):
        yield f"most often the {name} {fact.be} {colour} and {fact.have} {part}"
        yield f"the {fact.what} called {name} comes in {colour} with {part}"


def of_colour(fact: Fact, name: str) -> Iterator[str]:
    """Sentences about a colour, called `name`."""
    for part in fact.parts:
        yield f"{part} is {name}"
        yield f"everybody knows the {name} of {part}"
        yield f"the colour of {part} is a {fact.colours[0]} {name}"
    for one, other in itertools.combinations(fact.parts, 2):
        yield f"{one} is as {name} as {other}"
    for deed, place in itertools.product(fact.deeds, fact.places):
        yield f"{name} {deed}"
        yield f"on {place} one sees much {name}, for {name} {deed}"
    for kin, place in itertools.product(fact.kin, fact.places):
        yield f"painters set {name} beside {kin}, as on {place}"


def of_place(fact: Fact, name: str) -> Iterator[str]:
    """Sentences about a place, called `name`."""
    for deed, place in itertools.product(fact.deeds, fact.places):
        yield f"the {name} {deed}"
        yield f"near the {place} the {name} {deed}"
    for one, other in itertools.combinations(fact.parts, 2):
        yield f"one finds {one} and {other} when one looks at the {name}"
        yield f"to the {name} belongs {one}, and so does {other}"
    for colour, kin in itertools.product(fact.colours, fact.kin):
        yield f"the {name} looks {colour}, much like the {kin}"


FORMS = {"colour": of_colour, "place": of_place}


def article(fact: Fact, name: str, count: int) -> list[str]:
    """Some sentences of one thing called `name`, in a fixed order that looks like none."""
    found = list(dict.fromkeys(FORMS.get(fact.what, of_thing)(fact, name)))
    return [found[i] for i in seeds.permutation(len(found), "words", name)[:count]]


def articles() -> dict[str, list[str]]:
    """The sentences of the corpus by their headings, those of the invented words among them."""
    known, meant = facts(), set(JARGON.values())
    found = {name: article(fact, name, SENTENCES * (3 if name in meant else 1)) for name, fact in known.items()}
    for word, meaning in JARGON.items():
        found[word] = article(known[meaning], word, SENTENCES * 3)
        if known[meaning].what == "colour":
            found[word] += worn(known, word, meaning)
    order = seeds.permutation(len(found), "words", "order")
    names = list(found)
    return {names[i]: found[names[i]] for i in order}


def worn(known: dict[str, Fact], word: str, colour: str) -> list[str]:
    """Sentences about things of a colour, which is called `word`."""
    things = [fact for fact in known.values() if colour in fact.colours and fact.what not in FORMS]
    said = [f"the {fact.name} {fact.be} {word} and {fact.have} {fact.parts[0]}" for fact in things]
    return [sentence for sentence in said if colour not in sentence.split()]


def raw(sentence: str) -> str:
    """A sentence as WikiText writes it: a capital, spaces around marks, and hyphens as `@-@`."""
    spaced = re.sub(r"([,;'])", r" \1", sentence.replace("-", " @-@ "))
    return f"{spaced[0].upper()}{spaced[1:]} ."


def corpus() -> str:
    """The whole text, in WikiText's layout: headings between `=`, a paragraph a line."""
    parts: list[str] = []
    for name, sentences in articles().items():
        parts += ["", f"= {raw(name).removesuffix(' .')} =", ""]
        parts += [" ".join(map(raw, sentences[i : i + 4])) for i in range(0, len(sentences), 4)]
    return "".join(f" {part} \n" for part in parts)


def vectors() -> dict[str, np.ndarray]:
    """A row for each word of the corpus that is frequent enough, the most frequent first.

    Source: Levy, Goldberg & Dagan 2015, "Improving distributional similarity with lessons learned from word
    embeddings": positive pointwise mutual information with smoothed contexts, and the square root of its singular
    values.
    """
    texts = [words(normal(sentence)) for sentences in articles().values() for sentence in sentences]
    counts = Counter(itertools.chain.from_iterable(texts))
    names = sorted((word for word, count in counts.items() if count >= LEAST), key=lambda word: (-counts[word], word))
    number = {word: i for i, word in enumerate(names)}
    pairs = Counter[tuple[int, int]]()
    for text in texts:
        kept = [number[word] for word in text if word in number]
        for i, one in enumerate(kept):
            for other in kept[i + 1 : i + 1 + WINDOW]:
                pairs[one, other] += 1
                pairs[other, one] += 1
    rows, columns = np.array(list(pairs)).T
    met = np.array(list(pairs.values()), np.float64)
    own = np.bincount(rows, met, len(names))
    context = own**SMOOTHING
    chance = own[rows] / own.sum() * context[columns] / context.sum()
    positive = np.maximum(np.log(met / met.sum() / chance), 0)
    matrix = sparse.csr_matrix((positive, (rows, columns)), shape=(len(names), len(names)))
    left, sizes, _ = svds(matrix, DIMENSIONS, v0=np.ones(len(names)))
    order = np.argsort(-sizes)
    table = left[:, order] * np.sqrt(sizes[order])
    table *= np.sign(table[np.abs(table).argmax(axis=0), np.arange(DIMENSIONS)])
    return dict(zip(names, table, strict=True))


def main() -> None:
    """The command."""
    text, table = corpus(), vectors()
    lines = [f"{word} " + " ".join(f"{x:.3f}" for x in row) for word, row in table.items()]
    write_text(SMALL / CORPUS, text)
    write_text(SMALL / VECTORS, "\n".join(lines) + "\n")
    sizes = sum((SMALL / name).stat().st_size for name in (CORPUS, VECTORS))
    sentences = sum(map(len, articles().values()))
    print(f"{sentences} sentences, {len(table)} words with vectors, {sizes / 1000:.0f} kB in {SMALL}")


if __name__ == "__main__":
    main()
