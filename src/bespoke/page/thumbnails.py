"""Pictures turned into small ones that stand in the page itself, so that it opens quickly and can be sent alone."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SIDE = 128
QUALITY = 66
Decode = Callable[[Path], Image.Image | None]
"""What turns a file into its picture; the page itself knows nothing of what files may hold."""


@dataclass(frozen=True)
class Embedded:
    """A small picture as an `img` element needs it, and whether it is the whole picture, pixel by pixel."""

    src: str
    width: int
    height: int
    whole: bool

    @property
    def small(self) -> bool:
        """Whether it is to be magnified with hard edges: smoothing would hide what is in so few pixels."""
        return self.whole and max(self.width, self.height) <= SIDE


def thumbnail(path: Path | None, decode: Decode, side: int = SIDE) -> Embedded | None:
    """The picture at `path`, at most `side` pixels a side, or None where it cannot be decoded.

    `decode` gives the upright RGB picture in a file, of more than `side` pixels a side where it has more, or None.
    """
    image = decode(path) if path is not None else None
    return None if image is None else embedded(image, side)


def embedded(image: Image.Image, side: int = SIDE, forms: Sequence[str] = ("PNG", "JPEG")) -> Embedded:
    """A picture in the page itself, at most `side` pixels a side, in whichever of the formats is smaller."""
    whole = max(image.size) <= side
    small = image.copy()
    small.thumbnail((side, side))
    # Drawings are smaller without loss, photographs with it.
    form, content = min((_encoded(small, form) for form in forms), key=lambda pair: len(pair[1]))
    src = f"data:image/{form.lower()};base64,{base64.b64encode(content).decode('ascii')}"
    return Embedded(src, *small.size, whole)


def _encoded(image: Image.Image, form: str) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=QUALITY, optimize=True)
    return form, buffer.getvalue()
