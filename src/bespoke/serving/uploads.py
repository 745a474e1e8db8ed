"""Files that were sent turned into a picture to begin with, and a mask in which white is drawn anew."""

import io

from PIL import Image, ImageOps

from bespoke.serving.envelope import INVALID
from bespoke.serving.wishes import Refusal

FORMS = ("PNG", "JPEG", "WEBP")
BEGUN = 16
"""A picture that is sent may have so many times the pixels of one that is drawn; a small file can claim any number."""


def begun(picture: bytes, mask: bytes | None, most_pixels: int) -> tuple[bytes, bytes | None]:
    """The picture as it came, and its mask: white where the mask's file, or else the picture itself, is transparent.

    Without transparency in the picture there is no mask: all of it is drawn anew.

    Raises: Refusal of 400 when a file is no picture, or has more than 16 times `most_pixels`; when the mask has another
        size, or nothing transparent.
    """
    image = _read(picture, "image", BEGUN * most_pixels)
    if mask is None:
        return picture, _masked(image)
    over = _read(mask, "mask", BEGUN * most_pixels)
    if over.size != image.size:
        sizes = f"{over.width}x{over.height}, the picture {image.width}x{image.height}"
        raise Refusal(400, INVALID, f"mask: It has {sizes}; they must be the same.", param="mask")
    found = _masked(over)
    if found is None:
        message = "mask: Nothing of it is transparent; what is to be drawn anew must be."
        raise Refusal(400, INVALID, message, param="mask")
    return picture, found


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
    try:
        image = Image.open(io.BytesIO(content), formats=FORMS)
        if image.width * image.height <= most:
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a broken file provokes anything
        raise Refusal(400, INVALID, f"{param}: It is no PNG, JPEG or WebP, or damaged.", param=param) from None
    message = f"{param}: {image.width}x{image.height} are more than {most} pixels (serve.most_pixels)."
    raise Refusal(400, "limit_exceeded", message, param=param)
