"""Pictures that come in a request, to begin with or as masks: told from what is none, and made ready."""

import base64
import binascii
import io
import warnings

from PIL import ExifTags, Image, ImageFilter, ImageOps

from bespoke.serving.envelope import INVALID
from bespoke.serving.uploads import FORMS
from bespoke.serving.wishes import Refusal


def decoded(text: str, name: str) -> bytes:
    """The bytes of a file that came as base64, bare or as a data URL; `name` is what the request calls it.

    Raises: Refusal of 400 for anything else, URLs among it: nothing is fetched for others.
    """
    if text.startswith(("http://", "https://", "file:")):
        raise Refusal(
            400, INVALID, f"{name} is a URL, and nothing is fetched here: send the picture itself.", param=name
        )
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, INVALID, f"{name} is no picture in base64.", param=name) from None


def size_of(file: bytes, name: str = "image") -> tuple[int, int]:
    """The width and height in pixels of the picture in a file, the right way up; it is not decoded.

    Raises: Refusal of 400 when the file is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large ones, for which there is a limit of our own
            with Image.open(io.BytesIO(file), formats=FORMS) as picture:
                width, height = picture.size
                return (height, width) if _lies(picture) else (width, height)
    except Exception:  # noqa: BLE001 - a broken file provokes anything
        message = f"The {name} is no picture that can be read; send PNG, JPEG or WebP."
        raise Refusal(400, INVALID, message, param=name) from None


def _lies(picture: Image.Image) -> bool:
    """Whether a picture is upright only once its sides are swapped, as its Exif says."""
    # Pillow would decode a whole PNG to look for Exif behind its pixels.
    found = picture.getexif().get(ExifTags.Base.Orientation, 1) if "exif" in picture.info else 1
    return found >= 5


def mask_of(file: bytes, *, blur: int = 0, inverted: bool = False) -> bytes:
    """A mask as a grey PNG: how bright it is and, where it shows through, black; inverted, then blurred.

    `blur` is in pixels of the mask, the standard deviation.
    Raises: Refusal of 400 when it cannot be read.
    """
    from bespoke import data  # it takes a third of a second, and few requests have masks

    try:
        grey = data.decoded_mask(file)
    except data.Unreadable as error:
        raise Refusal(400, INVALID, f"The mask cannot be read: {error}.", param="mask") from None
    written = io.BytesIO()
    grey = ImageOps.invert(grey) if inverted else grey
    grey.filter(ImageFilter.GaussianBlur(blur)).save(written, format="PNG")
    return written.getvalue()
