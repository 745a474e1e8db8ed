"""Pictures turned into small ones that stand in the page itself, so that it opens quickly and can be sent alone."""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE = 128
QUALITY = 66
NOT_SHOWN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Embedded:
    """A small picture as an `img` element needs it, and whether it is the whole picture, pixel by pixel."""

    src: str
    width: int
    height: int
    whole: bool


def thumbnail(path: Path | None) -> Embedded | None:
    """The picture at `path`, at most 128 pixels a side, or None where it cannot be decoded."""
    if path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                whole = max(picture.size) <= SIDE
                picture.draft("RGB", (2 * SIDE, 2 * SIDE))
                image = _flat(ImageOps.exif_transpose(picture))
    except NOT_SHOWN:
        return None
    image.thumbnail((SIDE, SIDE))
    # Drawings are smaller without loss, photographs with it.
    form, content = min((_encoded(image, form) for form in ("PNG", "JPEG")), key=lambda pair: len(pair[1]))
    src = f"data:image/{form.lower()};base64,{base64.b64encode(content).decode('ascii')}"
    return Embedded(src, *image.size, whole)


def _flat(image: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it lets light through."""
    if not image.has_transparency_data:
        return _eight_bits(image).convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The picture as it is, or brought from 16 bits to 8, which Pillow would cut off instead."""
    if image.mode.startswith("I;16") or (image.mode == "I" and int(np.asarray(image).max()) > 255):
        return image.point(lambda level: level * (1 / 257)).convert("L")
    return image


def _encoded(image: Image.Image, form: str) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=QUALITY, optimize=True)
    return form, buffer.getvalue()
