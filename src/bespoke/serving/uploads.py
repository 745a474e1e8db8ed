"""Files that were sent turned into a picture to begin with, and a mask in which white is drawn anew."""

import io
from collections.abc import Generator
from contextlib import contextmanager

from PIL import Image, ImageOps

from bespoke.serving.envelope import INVALID
from bespoke.serving.wishes import Refusal

FORMS = ("PNG", "JPEG", "WEBP")
KNOWN = (*FORMS, "BMP", "GIF", "TIFF")
"""What another protocol takes, too."""
ORIENTATION, SIDEWAYS = 0x0112, 5
"""EXIF's tag, and its first value that means a picture lying on its side."""
TIMES = 16
"""A picture that is sent may have so many times the pixels of one that is drawn; a small file can claim any number."""


def begun(picture: bytes, mask: bytes | None, most_pixels: int) -> tuple[bytes, bytes | None]:
    """The picture as it came, and its mask: white where the mask's file, or else the picture itself, is transparent.

    Without transparency in the picture there is no mask: all of it is drawn anew.

    Raises: Refusal of 400 when a file is no picture, or has more than 16 times `most_pixels`; when the mask has another
        size, or nothing transparent.
    """
    image = _read(picture, "image", TIMES * most_pixels)
    if mask is None:
        return picture, _masked(image)
    over = _read(mask, "mask", TIMES * most_pixels)
    if over.size != image.size:
        sizes = f"{over.width}x{over.height}, the picture {image.width}x{image.height}"
        raise Refusal(400, INVALID, f"mask: It has {sizes}; they must be the same.", param="mask")
    found = _masked(over)
    if found is None:
        message = "mask: Nothing of it is transparent; what is to be drawn anew must be."
        raise Refusal(400, INVALID, message, param="mask")
    return picture, found


def size_of(picture: bytes) -> tuple[int, int]:
    """The width and height of a picture in a file, upright; it is not decoded. Raises: Refusal when it is none."""
    with _refusing("image"):
        image = Image.open(io.BytesIO(picture), formats=KNOWN)
        turned = image.getexif().get(ORIENTATION, 1) >= SIDEWAYS
        return (image.height, image.width) if turned else image.size


def _masked(image: Image.Image) -> bytes | None:
    """A PNG that is white where an image is transparent; None where nothing of it is."""
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema() == (255, 255):
        return None
    file = io.BytesIO()
    ImageOps.invert(alpha).save(file, format="PNG")
    return file.getvalue()


def _read(content: bytes, param: str, most: int) -> Image.Image:
    """A whole picture, upright."""
    with _refusing(param):
        image = Image.open(io.BytesIO(content), formats=FORMS)
        if image.width * image.height > most:
            message = f"{param}: {image.width}x{image.height} are more than {most} pixels (serve.most_pixels)."
            raise Refusal(400, "limit_exceeded", message, param=param)
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def _refusing(param: str) -> Generator[None, None, None]:
    """A block in which what is no picture is refused, whatever it provokes in the library."""
    try:
        yield
    except Refusal:
        raise
    except Exception:  # noqa: BLE001 - a broken file provokes anything
        raise Refusal(400, INVALID, f"{param}: It is no PNG, JPEG or WebP, or damaged.", param=param) from None
