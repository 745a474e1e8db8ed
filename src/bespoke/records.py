"""What stages hand each other: pictures, verdicts and datasets as plain records."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Split = Literal["train", "validation"]
GENERATED = "generated_by"
"""The label of pictures that a model of ours drew: the version that did."""
MOST_GENERATED = 0.03
"""The part of the training pictures that may be a model's own before people are warned.

Stable Diffusion 2.1 that learnt again and again from sets of which 3.3 % were its own pictures drew worse after five
rounds, and did not quite recover by learning from photographs. Source: Bohacek & Farid 2023, "Nepotistically Trained
Generative-AI Models Collapse" (arXiv 2311.12202).
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """One kept picture of a dataset; `file` is relative to the dataset's `train/` folder."""

    file: str
    text: str
    sha256: str
    pixels: str
    """SHA-256 of the decoded RGB pixels and their size: equal for equal pictures, however they are stored."""
    width: int
    height: int
    source: str
    """The path it came from, as the person named it."""
    split: Split = "train"
    repeats: float = 1.0
    """How often it counts in an epoch; a half is every second one."""
    notes: tuple[str, ...] = ()
    """What was mended when it was read: "rotated as its EXIF says", "16 bits a channel brought to 8"."""
    doubts: tuple[str, ...] = ()
    """What rules found that do not set aside: "blurry: sharpness 3.1, wanted 10"."""
    source_text: str = ""
    """The caption as it came with the picture, before anybody edited it."""
    restored: bool = False
    """Brought back by a person: the rules leave it alone."""
    weight: float = 1.0
    """What its loss counts for."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    """What else the table of captions says of it, by column: its subject, its category, …"""
    asked_split: Split | None = None
    """The side of the split that a person wants it on."""
    split_reason: str = ""
    """Why it is on its side: "drawn", "asked for", "subject: Ann", "look-alike: cat.png"; often nothing in training."""
    unbalanced: tuple[float, float] | None = None
    """Repeats and weight as they were before balancing changed them."""
    mask: str = ""
    """SHA-256 of its mask's file, `masks/` and its own name and `.png`; empty where it has none."""
    covered: float = 1.0
    """The part of it that the mask covers, 0 to 1."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """One file that is not used; `file` is its name in `set-aside/`, or empty when there was nothing to copy."""

    source: str
    file: str
    reason: str
    """A short, countable reason: "unreadable", "duplicate", "no caption", …"""
    detail: str
    sha256: str = ""
    picture: Picture | None = None
    """What it would be if it were kept; nothing for what gives no picture."""


@dataclass(frozen=True)
class SplitRule:
    """The settings that a split was drawn with."""

    fraction: float
    seed: int
    by: str
    """The column whose pictures of equal value stay together."""


@dataclass(frozen=True)
class Dataset:
    """A checked dataset: every file that came in is either a kept picture or set aside."""

    pictures: tuple[Picture, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    settled: bool = True
    """Whether every file lies where the record says; false only after a kill."""
    split_rule: SplitRule | None = None
    """How the sides were drawn; nothing where that is not known."""

    @property
    def files(self) -> int:
        """How many files came in."""
        return len(self.pictures) + len(self.set_aside)

    def part(self, split: Split) -> tuple[Picture, ...]:
        """The pictures of one split."""
        return tuple(p for p in self.pictures if p.split == split)

    @property
    def generated(self) -> float:
        """The part of the training pictures that a model of ours drew, from 0 to 1."""
        training = self.part("train")
        return sum(GENERATED in p.labels for p in training) / len(training) if training else 0.0

    def reasons(self) -> dict[str, int]:
        """How many files were set aside for each reason, most frequent first."""
        counts: dict[str, int] = {}
        for item in self.set_aside:
            counts[item.reason] = counts.get(item.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def to_json(self) -> Iterator[str]:
        """The dataset as `dataset.json` holds it, piece by piece: a line for each record."""
        rule = json.dumps(asdict(self.split_rule) if self.split_rule else None)
        yield f'{{"version": 1, "settled": {json.dumps(self.settled)}, "split_rule": {rule},\n"pictures": [\n'
        yield from _lines(self.pictures)
        yield '],\n"set_aside": [\n'
        yield from _lines(self.set_aside)
        yield "]}\n"

    @staticmethod
    def from_json(text: str) -> tuple[int, "Dataset"]:
        """The version and the dataset of what `to_json` wrote.

        Raises: ValueError, KeyError or TypeError when it is something else.
        """
        content = json.loads(text, object_hook=_record)
        rule = SplitRule(**content["split_rule"]) if content.get("split_rule") else None
        pictures, aside = tuple(content["pictures"]), tuple(content["set_aside"])
        return content["version"], Dataset(pictures, aside, content.get("settled", True), rule)


def _lines(records: Sequence[Picture | SetAside]) -> Iterator[str]:
    last = len(records) - 1
    for number, record in enumerate(records):
        yield json.dumps(asdict(record), ensure_ascii=False) + ("\n" if number == last else ",\n")


def _record(content: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A picture or a file set aside where an object is one: made at once, so that no object of many outlives it."""
    if "pixels" in content and "sha256" in content:
        before = content.get("unbalanced")
        notes, doubts = tuple(content["notes"]), tuple(content.get("doubts", ()))
        return Picture(
            **dict(content, notes=notes, doubts=doubts, unbalanced=(before[0], before[1]) if before else None)
        )
    return SetAside(**content) if "reason" in content and "detail" in content else content


Better = Literal["lower", "higher", "nearer"]
"""Which way is good; `nearer` is nearer to the references' own figure."""


@dataclass(frozen=True)
class Score:
    """One measured number of one model, with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    count: int
    """How many pictures it rests on."""
    better: Better = "higher"
    note: str = ""
    target: float | None = None
    """The references' own figure, where nearer to it is better."""

    def to_json(self) -> dict[str, Any]:
        """The score as a report holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Curve:
    """A measured curve over training steps, for plots."""

    name: str
    steps: tuple[int, ...] = field(default=())
    values: tuple[float, ...] = field(default=())
