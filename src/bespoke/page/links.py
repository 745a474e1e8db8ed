"""Paths of files turned into links that a page in another folder can follow."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

BROWSERS_SHOW = frozenset({"PNG", "JPEG", "GIF", "WEBP", "BMP", "ICO", "AVIF"})
SMALL_SIDE = 128
"""A tile of at most so many pixels is magnified with hard edges: smoothing would hide what the model drew."""


@dataclass(frozen=True)
class Shown:
    """A picture as an `img` element needs it."""

    href: str
    width: int
    height: int

    @property
    def small(self) -> bool:
        """Whether it is to be magnified pixel by pixel."""
        return max(self.width, self.height) <= SMALL_SIDE


def link(path: Path, folder: Path) -> str:
    """The URL of `path` relative to `folder`; on another drive, where no relative one exists, a file URL."""
    try:
        relative = Path(os.path.relpath(path, folder))
    except ValueError:
        return path.absolute().as_uri()
    return quote(os.fsencode(relative.as_posix()))


def shown(path: Path | None, folder: Path) -> Shown | None:
    """The picture at `path` with its link and size, or None where a browser would show a broken picture."""
    if path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                readable, (width, height) = picture.format in BROWSERS_SHOW, picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    return Shown(link(path, folder), width, height) if readable else None
