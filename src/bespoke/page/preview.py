"""Captions under several settings, as frozen records, turned into one HTML page with the pictures beside them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bespoke.page.rendering import render
from bespoke.page.report import Thumb
from bespoke.page.thumbnails import Decode, thumbnail


@dataclass(frozen=True)
class Variant:
    """One way to make captions: its name, and the settings to choose it by."""

    name: str
    settings: str
    """What to type behind the command to get it; empty for what the recipe says already."""


@dataclass(frozen=True)
class Told:
    """One picture with the caption it has and those it would get, in the order of the variants."""

    thumb: Thumb
    before: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionPreview:
    """All that the page shows."""

    title: str
    captioner: str
    variants: tuple[Variant, ...]
    pictures: tuple[Told, ...]


def write_caption_preview(report: CaptionPreview, path: Path, decode: Decode) -> Path:
    """The page, written to `path`; nothing but the page is written."""
    render("preview.html", path, {"thumbnail": partial(thumbnail, decode=decode)}, report=report, sections={})
    return path
