"""Pictures beside the versions of them that training is shown, as frozen records, turned into one HTML page."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from bespoke.page.rendering import render
from bespoke.page.report import Thumb
from bespoke.page.thumbnails import SIDE, Decode, Embedded, embedded, thumbnail

VERSION_SIDE = 256
"""Larger pictures are embedded at this many pixels a side."""


@dataclass(frozen=True)
class Version:
    """One version of a picture: its pixels, and what was done, one thing after another."""

    image: Image.Image
    shape: str
    done: tuple[str, ...]


@dataclass(frozen=True)
class Other:
    """Another wording of a caption, and what was done to it or, where it is refused, why."""

    text: str
    how: str
    refused: bool = False


@dataclass(frozen=True)
class Varied:
    """One picture as it lies in the dataset, its caption, and its versions."""

    original: Thumb
    read: str
    """The caption, as far as one window holds it."""
    unread: str
    """The rest of the caption."""
    versions: tuple[Version, ...]
    notes: tuple[str, ...] = ()
    wordings: tuple[Other, ...] = ()


@dataclass(frozen=True)
class Way:
    """What to type behind a command to have pictures varied in one way, and what that does."""

    setting: str
    meaning: str


@dataclass(frozen=True)
class AugmentPreview:
    """All that the page shows."""

    title: str
    lead: str
    facts: tuple[str, ...]
    """What is true of all pictures: sentences."""
    pictures: tuple[Varied, ...]
    ways: tuple[Way, ...] = ()
    """How more versions are asked for; nothing where the recipe does ask."""


def write_augment_preview(report: AugmentPreview, path: Path, decode: Decode) -> Path:
    """The page, written to `path`; nothing but the page is written."""
    filters: dict[str, Callable[..., object]] = {
        "thumbnail": partial(thumbnail, decode=decode, side=VERSION_SIDE), "embedded": _exactly, "unbroken": _unbroken,
    }  # fmt: skip
    sections = {"ways": "More variety"} if report.ways else {}
    render("versions.html", path, filters, report=report, sections={**sections, "pictures": "Pictures"})
    return path


def _unbroken(text: str) -> str:
    """The text with numbers that stay on a line with what they count."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace("× ", "×\N{NO-BREAK SPACE}")


def _exactly(image: Image.Image) -> Embedded:
    """The picture in the page itself; a small one, which is magnified, pixel by pixel as training sees it."""
    small = max(image.size) <= SIDE
    return embedded(image, VERSION_SIDE, ("PNG",) if small else ("PNG", "JPEG"))
