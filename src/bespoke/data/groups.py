"""Pictures turned into groups that must be on one side of the split: look-alikes, and those of one subject."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bespoke.data.inspect import Facts
from bespoke.data.likeness import Gallery
from bespoke.data.split import Unit
from bespoke.errors import BespokeError
from bespoke.records import Picture, Split

USUAL = ("", "subject")
"""Columns that need not be there."""
SEVERAL = ";"
"""What divides the subjects of a picture that shows more than one."""


@dataclass(frozen=True)
class Group:
    """Pictures that must be on one side; most groups are one picture."""

    members: tuple[Picture, ...]
    key: str
    """What its number is drawn from."""
    subjects: tuple[str, ...] = ()
    """Those that two or more of the pictures have in common, as the table first spells them."""
    alike: tuple[tuple[str, str], ...] = ()
    """The files of pictures that look the same, two and two."""
    by: str = ""
    """The column of the subjects."""

    def unit(self, before: Mapping[str, Split]) -> Unit:
        """The group for the draw; `before` tells by file on which side pictures were.

        One whose pictures were on both sides goes to training: what was learnt from cannot be measured by any more.

        Raises: BespokeError when people want its pictures on both sides.
        """
        asked: dict[Split, str] = {p.asked_split: p.file for p in self.members if p.asked_split}
        if len(asked) > 1:
            why = f"of {self.subjects[0]}" if self.subjects else "look-alikes"
            problem = (
                f"{asked['train']} is to be in training and {asked['validation']} in validation, but both are {why}"
            )
            hint = "Give both the same `split` in train/metadata.csv, or leave one empty."
            raise BespokeError(f"{problem}: training would give away what is held out.", hint)
        sides: set[Split] = {before[p.file] for p in self.members if p.file in before}
        side: Split | None = next(iter(sides)) if len(sides) == 1 else "train" if sides else None
        return Unit(self.key, len(self.members), side, next(iter(asked), None))

    def reason(self, picture: Picture, side: Split) -> str:
        """Why one of its pictures is on a side; nothing where it was drawn for training alone."""
        if picture.asked_split:
            return "asked for"
        asked = next((f" with {p.file}, as asked for" for p in self.members if p.asked_split), "")
        own = {_plain(name) for name in _named(picture.labels.get(self.by, ""))}
        subject = next((name for name in self.subjects if _plain(name) in own), "")
        if subject:
            return f"subject: {subject}{asked}"
        other = next((pair[pair[0] == picture.file] for pair in self.alike if picture.file in pair), "")
        return f"look-alike: {other}{asked}" if other else "drawn" if side == "validation" else ""


def groups(pictures: Sequence[Picture], facts: Mapping[str, Facts], keys: Mapping[str, str], by: str) -> list[Group]:
    """The pictures in groups, each group where its first picture stands.

    `facts` are by SHA-256. `keys` give by source what a picture draws its number from: where it looks the same as
    another, that of the other. Pictures with the same text in the column `by` belong together, whatever its case; a
    picture may name several subjects with semicolons between them.

    Raises: BespokeError when `by` is no usual name and no picture has such a column.
    """
    if by not in USUAL and not any(by in picture.labels for picture in pictures):
        there = ", ".join(sorted({label for picture in pictures for label in picture.labels})) or "none"
        hint = f"Columns with something in them: {there}. Write another into data.split_by."
        raise BespokeError(
            f"No picture has anything in the column {by!r}, by which the split is to be kept apart.", hint
        )
    pairs = _look_alikes(pictures, facts, keys)
    spelled, holders = _subjects(pictures, by)
    union = _Union(len(pictures))
    for one, other in (*pairs, *((held[0], other) for held in holders.values() for other in held[1:])):
        union.join(one, other)
    found: dict[int, list[int]] = {}
    for number in range(len(pictures)):
        found.setdefault(union.root(number), []).append(number)
    of_root = {union.root(held[0]): list[str]() for held in holders.values()}
    for name, held in holders.items():
        of_root[union.root(held[0])].append(name)
    alike: dict[int, list[tuple[str, str]]] = {}
    for one, other in pairs:
        alike.setdefault(union.root(one), []).append((pictures[one].file, pictures[other].file))
    return [
        Group(
            tuple(pictures[n] for n in numbers),
            # A subject's name stays when pictures are added; of look-alikes the best one gives the number.
            f"subject {min(of_root[root])}" if of_root.get(root) else min(keys[pictures[n].source] for n in numbers),
            tuple(spelled[name] for name in sorted(of_root.get(root, ())) if len(holders[name]) > 1),
            tuple(alike.get(root, ())),
            by,
        )
        for root, numbers in found.items()
    ]


def _look_alikes(
    pictures: Sequence[Picture], facts: Mapping[str, Facts], keys: Mapping[str, str]
) -> list[tuple[int, int]]:
    """The places of pictures that look the same, two and two.

    The rules have compared all of those that look like no other; what remains to be compared is who looks like one.
    """
    shared = Counter(keys[picture.source] for picture in pictures)
    copies = [n for n, p in enumerate(pictures) if keys[p.source] != p.pixels or shared[keys[p.source]] > 1]
    if not copies:
        return []
    gallery = Gallery()
    for number, picture in enumerate(pictures):
        gallery.add(facts[picture.sha256], str(number))
    pairs = {(n, int(other)) for n in copies for other in gallery.every(facts[pictures[n].sha256])}
    first: dict[str, int] = {}
    pairs |= {(first.setdefault(keys[pictures[n].source], n), n) for n in copies}
    return sorted((one, other) for one, other in pairs if one != other)


def _subjects(pictures: Sequence[Picture], by: str) -> tuple[dict[str, str], dict[str, list[int]]]:
    """How each subject is spelled first, and the places of the pictures that have it; both by its plain spelling."""
    spelled, holders = dict[str, str](), dict[str, list[int]]()
    for number, picture in enumerate(pictures):
        for name in _named(picture.labels.get(by, "")):
            spelled.setdefault(_plain(name), name)
            holders.setdefault(_plain(name), []).append(number)
    return spelled, holders


def _named(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(SEVERAL) if name.strip()]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


class _Union:
    """Numbers joined to sets. Source: Tarjan 1975, "Efficiency of a good but not linear set union algorithm"."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, number: int) -> int:
        """The lowest number of the set that holds `number`."""
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Makes one set of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self._above[high] = low
