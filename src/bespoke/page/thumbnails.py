"""Pictures turned into small ones that stand in the page itself, so that it opens quickly and can be sent alone."""

import base64
import io
from collections.abc import Callable
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


def thumbnail(path: Path | None, decode: Decode) -> Embedded | None:
    """The picture at `path`, at most 128 pixels a side, or None where it cannot be decoded.

    `decode` gives the upright RGB picture in a file, of more than 128 pixels a side where it has more, or None.
    """
    image = decode(path) if path is not None else None
    if image is None:
        return None
    whole = max(image.size) <= SIDE
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    # Drawings are smaller without loss, photographs with it.
    form, content = min((_encoded(small, form) for form in ("PNG", "JPEG")), key=lambda pair: len(pair[1]))
    src = f"data:image/{form.lower()};base64,{base64.b64encode(content).decode('ascii')}"
    return Embedded(src, *small.size, whole)


def _encoded(image: Image.Image, form: str) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=QUALITY, optimize=True)
    return form, buffer.getvalue()
