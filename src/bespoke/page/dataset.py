"""What is known about a dataset, as frozen records, turned into one HTML page that holds its thumbnails."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from bespoke.page.histogram import Distribution, histogram
from bespoke.page.rendering import render
from bespoke.page.report import AsideGroup, Fact, Intake, Thumb
from bespoke.page.thumbnails import Decode, thumbnail

Severity = Literal["serious", "worth a look", "good to know"]
SEVERITIES: tuple[Severity, ...] = ("serious", "worth a look", "good to know")
MOST_ASIDE = 12
"""How many thumbnails of a reason or a doubt are shown; the page says how many more there are."""
MOST_GROUPS = 12
"""How many groups of look-alikes are shown."""
MOST_COPIES = 3
"""How many copies of a group are shown."""
MOST_LETTERS = 400
"""How much of a caption is shown, and of what the model does not see of it."""

NOTHING = Intake()


@dataclass(frozen=True)
class Advice:
    """Something that follows from the facts: what was found, why it matters and what to do."""

    severity: Severity
    count: int
    """How many pictures it is about."""
    finding: str
    why: str
    do: str


@dataclass(frozen=True)
class Alike:
    """A picture that is kept, the others that look the same, and why it is this one."""

    kept: Thumb
    copies: tuple[Thumb, ...]
    why: str


@dataclass(frozen=True)
class Caption:
    """One picture with its caption; `unseen` is what the first window does not hold."""

    thumb: Thumb
    seen: str
    unseen: str = ""
    length: str = ""


@dataclass(frozen=True)
class CaptionGroup:
    """Captions that are shown for the same reason."""

    title: str
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class CaptionKind:
    """Captions of one kind, such as short ones: how many pictures have one, who said it, and an example."""

    name: str
    pictures: int
    by: tuple[str, ...]
    thumb: Thumb
    text: str


@dataclass(frozen=True)
class Part:
    """How many of all have something, such as a word; `note` says what to know about it."""

    label: str
    count: int
    whole: int
    note: str = ""
    colour: str = ""
    """What its bar is painted with, as CSS has it."""

    @property
    def percent(self) -> float:
        """The part in per cent."""
        return 100 * self.count / self.whole if self.whole else 0.0

    @property
    def share(self) -> str:
        """The same in words."""
        return "<1 %" if 0 < self.percent < 1 else f"{self.percent:.0f} %"


@dataclass(frozen=True)
class ShareGroup:
    """How the training pictures divide by one thing, such as their colours."""

    title: str
    lead: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class TrainingShape:
    """A shape that pictures are trained in, and what becomes of them."""

    name: str
    pictures: int
    whole: int
    """All training pictures."""
    fate: str
    """What becomes of them on the way to it."""

    @property
    def share(self) -> str:
        """The part of the training pictures, in words."""
        return Part(self.name, self.pictures, self.whole).share


@dataclass(frozen=True)
class Rule:
    """A rule of the recipe, its limit in words, and how many pictures it finds fault with."""

    name: str
    limit: str
    sets_aside: bool
    found: int


@dataclass(frozen=True)
class DatasetReport:
    """Everything that the page shows; whatever is empty is left out of it."""

    title: str
    facts: tuple[Fact, ...] = ()
    sheet: tuple[Thumb, ...] = ()
    """A few pictures that show what the dataset is about."""
    advice: tuple[Advice, ...] = ()
    intake: Intake = NOTHING
    alike: tuple[Alike, ...] = ()
    doubts: tuple[AsideGroup, ...] = ()
    """What rules find in pictures that are kept."""
    distributions: tuple[Distribution, ...] = ()
    sights: tuple[AsideGroup, ...] = ()
    """Pictures that stand out to models."""
    sights_lead: str = ""
    captions: tuple[CaptionGroup, ...] = ()
    captions_lead: str = ""
    kinds: tuple[CaptionKind, ...] = ()
    words: tuple[Part, ...] = ()
    words_lead: str = ""
    shares: tuple[ShareGroup, ...] = ()
    repeats: tuple[Part, ...] = ()
    split_lead: str = ""
    split_reasons: tuple[Part, ...] = ()
    together: tuple[Part, ...] = ()
    """Groups of pictures that are kept on one side."""
    held_out: tuple[Thumb, ...] = ()
    shapes_lead: str = ""
    shapes: tuple[TrainingShape, ...] = ()
    shape_notes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


def write(report: DatasetReport, path: Path, decode: Decode) -> None:
    """Writes the page to `path`, atomically; its thumbnails are in it and lead to the pictures themselves."""
    small = partial(thumbnail, decode=decode)
    filters: dict[str, Callable[..., object]] = {"thumbnail": small, "histogram": histogram, "cut": _cut}
    caps = {"most_aside": MOST_ASIDE, "most_groups": MOST_GROUPS, "most_copies": MOST_COPIES}
    render("dataset.html", path, filters, report=report, sections=_sections(report), **caps)


def _cut(text: str, letters: int = MOST_LETTERS) -> str:
    """The text, or its beginning where it is too long to show."""
    return text if len(text) <= letters else text[:letters] + "…"


def _sections(report: DatasetReport) -> dict[str, str]:
    """The sections that have something to show, in the page's order: the anchor of each and its name."""
    named = {
        "advice": ("Advice", report.intake.files > 0),
        "aside": ("Set aside", report.intake.set_aside > 0),
        "alike": ("Look-alikes", bool(report.alike)),
        "doubts": ("Doubtful", bool(report.doubts)),
        "figures": ("Figures", any(d.kept or d.aside for d in report.distributions)),
        "sights": ("Models", bool(report.sights or report.sights_lead)),
        "captions": ("Captions", bool(report.captions)),
        "balance": ("Balance", bool(report.words or report.repeats or report.shares)),
        "split": ("Split", report.intake.train + report.intake.validation > 0),
        "shapes": ("Shapes", bool(report.shapes)),
        "rules": ("Rules", bool(report.rules)),
    }
    return {anchor: name for anchor, (name, present) in named.items() if present}
