"""A caption of pico's world read back: what stands in it, in which colours and sizes, where, and how it is arranged.

This judges whether another wording of a caption says the same. It knows the world's words and other names of its
things, and shares nothing with what makes wordings: no list, no rule, no code. Whatever it does not know, or reads in
two ways, counts as said, so that a wording with an unknown word says something else.
"""

import functools
import itertools
import re
from dataclasses import dataclass

from pico.world import COLOURS, GROUNDS, SIZES, objects

NAMES = {
    "automobile": "car", "motorcar": "car", "cab": "taxi", "taxicab": "taxi", "tv": "television", "phone": "telephone",
    "television set": "television", "bike": "bicycle", "pushbike": "bicycle", "motorbike": "motorcycle",
    "bunny": "rabbit", "donut": "doughnut", "burger": "hamburger", "hippo": "hippopotamus", "rhino": "rhinoceros",
    "ladybird": "ladybug", "aeroplane": "airplane", "chopper": "helicopter", "fire truck": "fire engine",
    "cockerel": "rooster", "sailing boat": "sailboat", "teddy": "teddy bear", "ufo": "flying saucer",
    "present": "gift", "race car": "racing car", "gemstone": "gem", "jewel": "gem", "rucksack": "backpack",
    "lorry": "truck", "squad car": "police car", "plane": "airplane", "umbrellas": "umbrella",
}  # fmt: skip
"""Other names of the world's things, as any dictionary has them."""
OTHER_WORDS = {"grey": "gray", "large": "big", "little": "small", "sundown": "sunset", "underwater": "water"}
SILENT = frozenset(("a", "an", "the", "of", "on", "in", "at", "with", "background", "ground", "front", "picture",
                    "image", "photo", "photograph", "illustration", "to"))  # fmt: skip
"""Words that only join the others; on what and in what is told by the place itself."""
PLACE_WORDS = ("meadow", "beach", "desert", "snow", "night", "water", "room", "sunset")
RELATIONS = {"left": ("left", False), "right": ("left", True), "above": ("above", False), "below": ("above", True),
             "over": ("above", False), "under": ("above", True), "next": ("beside", False), "and": ("and", False),
             "beside": ("beside", False)}  # fmt: skip
"""For each word of arrangement what it says, and whether the second thing named is the first in it."""


@dataclass(frozen=True)
class Said:
    """What a caption says; two captions mean the same exactly when these are equal."""

    things: tuple[tuple[str, tuple[str, ...]], ...]
    """Each thing with its sizes and colours, sorted."""
    grounds: tuple[str, ...]
    arrangement: tuple[str, ...]
    unknown: tuple[str, ...]


def read(caption: str) -> Said:
    """What a caption says; a misspelt word counts as the one word of the world that is a mistake away from it."""
    words = [_meant(word) for word in re.findall(r"[\w-]+", caption.lower())]
    things = list[tuple[str, tuple[str, ...]]]()
    grounds, relations, unknown, waiting = list[str](), list[tuple[str, int]](), list[str](), list[str]()
    place = 0
    while place < len(words):
        name, length = _thing(words, place)
        word = words[place]
        if name and not (name in COLOURS and length == 1):
            things.append((name, tuple(sorted(waiting))))
            waiting = []
        elif word in GROUNDS or word in COLOURS or word in SIZES:
            ground = _is_ground(words, place)
            (grounds if ground else waiting).append(word)
        elif word == "water" or word in PLACE_WORDS:
            if words[place - 1 : place] == ["under"] and relations and relations[-1][0] == "under":
                relations.pop()
            grounds.append(word)
        elif word in RELATIONS:
            relations.append((word, len(things)))
        elif word not in SILENT:
            unknown.append(word)
        place += length if name else 1
    return Said(tuple(sorted(things)), tuple(sorted(grounds)), _arranged(things, relations), (*unknown, *waiting))


def _arranged(things: list[tuple[str, tuple[str, ...]]], relations: list[tuple[str, int]]) -> tuple[str, ...]:
    """The arrangement in one form, so that "a left of b" and "b right of a" are equal."""
    found = list[str]()
    for word, before in relations:
        said, turned = RELATIONS[word]
        if not 0 < before < len(things):
            found.append(word)
            continue
        pair = [f"{name} {looks}" for name, looks in things[before - 1 : before + 1]]
        pair = pair[::-1] if turned else sorted(pair) if said in ("beside", "and") else pair
        found.append(f"{pair[0]} {said} {pair[1]}")
    return tuple(sorted(found))


def _thing(words: list[str], place: int) -> tuple[str, int]:
    """The thing that is named from a place on, and by how many words; the longest name wins."""
    for length in (2, 1):
        name = " ".join(words[place : place + length])
        if name in NAMES or name in _objects():
            return NAMES.get(name, name), length
    return "", 0


def _is_ground(words: list[str], place: int) -> bool:
    return any(word in ("background", "ground") for word in words[place + 1 : place + 2])


@functools.cache
def _objects() -> frozenset[str]:
    return frozenset(objects())


@functools.cache
def _vocabulary() -> tuple[str, ...]:
    names = itertools.chain(_objects(), NAMES, OTHER_WORDS, GROUNDS, COLOURS, SIZES, SILENT, PLACE_WORDS, RELATIONS)
    return tuple(sorted({word for name in names for word in name.split()}))


@functools.cache
def _meant(word: str) -> str:
    """The word itself or, where it is none of the world's, the only one that is nearest, at most two mistakes away."""
    if word in _vocabulary() or len(word) < 4:
        return OTHER_WORDS.get(word, word)
    for most in (1, 2):
        near = [known for known in _vocabulary() if len(known) > most + 2 and distance(word, known) <= most]
        if near:
            return OTHER_WORDS.get(near[0], near[0]) if len(near) == 1 else word
    return word


def distance(word: str, other: str) -> int:
    """How many letters must be lost, put in, changed or swapped with a neighbour to turn one word into the other.

    Source: Damerau 1964, in the form of optimal string alignment.
    """
    before, row = list[int](), list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        before, last, row = row, before, [i]
        for j, theirs in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != theirs))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == theirs:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
