"""The bytes of a file turned into a fully decoded RGB picture, or into the reason why there is none."""

import hashlib
import io
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from bespoke.data import damage

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
"""The formats that are read, with the endings that fit them; MPO is what some phones call a JPEG with a preview."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
FOREIGN = frozenset({".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".ico", ".tga", ".dng", ".cr2", ".nef"})
"""Endings of pictures in formats that are not read."""
MOST_PIXELS = 80_000_000
"""Larger pictures are not decoded: a file of a few kilobytes can ask for gigabytes of memory."""
Pixels = npt.NDArray[np.uint8]
ON_WHITE = "transparency laid on white"
"""What is noted of a picture that shows through somewhere."""

_HOLDS = {
    rb"....ftyp(hei|hev)": "a HEIC picture",
    rb"....ftypavi": "an AVIF picture",
    rb"8BPS": "a PSD picture",
    rb"%PDF": "a PDF document",
    rb"(?i)\s*<(!doctype )?html": "a web page",
}
"""What files that are named as pictures often hold, by their first bytes."""
_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):  # noqa: N818 - a verdict over a file, never shown as an error
    """A file that gives no picture: `reason` is countable, `detail` says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Reading:
    """A decoded picture: 8-bit RGB, upright, in sRGB, without transparency."""

    image: Image.Image
    sha256: str
    """SHA-256 of the file's bytes."""
    pixels: str
    """SHA-256 of the size and the decoded pixels."""
    width: int
    height: int
    notes: tuple[str, ...] = ()
    """What was mended."""
    format: str = ""
    """What the file holds: JPEG, PNG, …"""
    mode: str = ""
    """Pillow's name of the pixels in the file: RGB, RGBA, I;16, …"""
    bytes: int = 0


def read(path: Path, digest: str = "") -> Reading:
    """The picture in the file at `path`, fully decoded; `digest` is the SHA-256 of its bytes where that is known.

    Raises: Unreadable for anything else, whatever the bytes are.
    """
    with _explained(path), path.open("rb") as file:
        digest = digest or hashlib.file_digest(file, "sha256").hexdigest()
        image, kind, mode, notes = _decode(file)
    size = path.stat().st_size
    return Reading(image, digest, pixel_hash(image), image.width, image.height, notes, kind, mode, size)


def decoded(content: bytes) -> Image.Image:
    """The picture in a file's bytes, as `read` gives it. Raises: Unreadable for anything else."""
    with _explained(content):
        return _decode(io.BytesIO(content))[0]


def decoded_mask(content: bytes) -> Image.Image:
    """The mask in a file's bytes, as `read_mask` gives it. Raises: Unreadable when they hold no picture."""
    with _explained(content):
        return _mask(io.BytesIO(content))


def read_mask(path: Path, *, alpha: bool = False) -> Image.Image:
    """The mask in the file at `path`, upright, in 8-bit grey: how bright it is, and what shows through is black.

    With `alpha` the file is a picture, and its mask is how opaque it is.

    Raises: Unreadable when the file holds no picture.
    """
    with _explained(path), path.open("rb") as file:
        return _mask(file, alpha=alpha)


def _mask(file: damage.Opened, *, alpha: bool = False) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise _too_large()
            damage.check(opened, file)
            image = _eight_bits(_upright(opened, []), []).convert("RGBA")
    opaque = image.getchannel("A")
    return opaque if alpha else ImageChops.multiply(image.convert("RGB").convert("L"), opaque)


@contextmanager
def _explained(file: Path | bytes) -> Generator[None, None, None]:
    """A block that decodes a file, or the bytes of one.

    Raises: Unreadable for whatever its bytes provoke.
    """
    if isinstance(file, Path) and not file.is_file():
        raise Unreadable("not a picture", "neither a file nor a link to one")
    try:
        yield
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError:
        raise _unknown(file) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large() from None
    except Exception as error:  # noqa: BLE001 - a broken file provokes anything: struct.error, SyntaxError, …
        raise Unreadable("unreadable", _first_line(error)) from None


def recognise(path: Path, most: int = MOST_PIXELS) -> str:
    """The format of the picture in a file, told by its first bytes; nothing is decoded.

    Raises: Unreadable when it holds none of the formats, or more than `most` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                if opened.width * opened.height > most:
                    raise _too_large(most)
                return str(opened.format)
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError:
        raise Unreadable("not a picture", f"holds {_holds(path)}") from None
    except Image.DecompressionBombError:
        raise _too_large(most) from None
    except Exception as error:  # noqa: BLE001 - a broken file provokes anything
        raise Unreadable("unreadable", _first_line(error)) from None


def preview(path: Path, side: int) -> Image.Image | None:
    """The picture in the file at `path` as `read` gives it, or nothing where there is none.

    A large JPEG is decoded at a lower resolution, of at least twice `side`, which is much quicker.
    """
    try:
        with path.open("rb") as file:
            return _decode(file, 2 * side)[0]
    except Exception:  # noqa: BLE001 - a broken file provokes anything
        return None


def ending(name: str, kind: str) -> tuple[str, tuple[str, ...]]:
    """The ending that fits a file of this format - its own, or the right one where its own is wrong - and a note."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES[kind]:
        return suffix, ()
    if not suffix:
        return SUFFIXES[kind][0], ()  # its name says nothing
    return SUFFIXES[kind][0], (f"is a {kind} file, whatever its name says",)


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of the size and the pixels of an RGB picture."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _decode(file: damage.Opened, least: int | None = None) -> tuple[Image.Image, str, str, tuple[str, ...]]:
    """The upright RGB picture in a file, its format and mode, and what was mended."""
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        file.seek(0)
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise _too_large()
            kind, mode = str(opened.format), opened.mode
            if kind != "MPO" and getattr(opened, "is_animated", False):
                notes.append("holds several frames or pages: the first is used")
            damage.check(opened, file)
            if least:
                opened.draft(None, (least, least))
            image = _rgb(_upright(opened, notes), notes)
            image.info = {}  # a profile or an orientation that has been heeded must not be written with the pixels
            return image, kind, mode, tuple(notes)


def _upright(opened: ImageFile.ImageFile, notes: list[str]) -> Image.Image:
    """The decoded picture, turned as its EXIF says; a negative of 16 bits is inverted."""
    # Pillow turns a TIFF while it loads it, and forgets that. Of a PNG it may come to know only then.
    turned = opened.format == "TIFF" and _orientation(opened) in _TURNS
    # verify() does not notice a truncated JPEG; only decoding every pixel does.
    opened.load()
    turn = _TURNS.get(_orientation(opened))
    image = opened.copy() if turn is None else opened.transpose(turn)
    if turned or turn is not None:
        notes.append("turned as its EXIF says")
    # Pillow inverts TIFFs whose zero is white, but not those of 16 bits.
    negative = isinstance(opened, TiffImageFile) and opened.tag_v2.get(_PHOTOMETRIC) == 0
    return image.point(lambda level: 65_535 - level) if negative and image.mode == "I;16" else image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - broken EXIF is no EXIF: the pixels may still be whole
        return 1


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """The picture in 8-bit sRGB on white; what was mended is added to `notes`."""
    profile: bytes | None = image.info.get("icc_profile")
    image = _eight_bits(image, notes)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    image = _srgb(image, profile, notes)
    if alpha is None or alpha.getextrema() == (255, 255):
        return image
    # Under transparent pixels any colour may hide; a viewer shows white there, so the model is to learn white.
    notes.append(ON_WHITE)
    return Image.composite(image, Image.new("RGB", image.size, "white"), alpha)


def _eight_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    """The picture with 8 bits a channel.

    Pillow's own conversion cuts off at 255 and so turns almost every 16-bit picture white.
    """
    if image.mode == "F":
        raise Unreadable("unreadable", "floating-point pixels, whose range is unknown; save it with 8 bits a channel")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise Unreadable("unreadable", "32-bit pixels, whose range is unknown; save it with 8 bits a channel")
    if image.mode == "I" and high <= 255:
        return Image.fromarray(values.astype(np.uint8))
    notes.append("16 bits a channel brought to 8")
    values = values.astype(np.uint16, copy=False)
    grey = Image.fromarray((values // 257 + (values % 257 > 128)).astype(np.uint8))
    transparent: int | None = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(values != transparent))
    return grey


def _srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if image.mode == "CMYK":
        notes.append("CMYK brought to RGB")
    if not profile:
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(own).strip()
        if image.mode == "RGB" and name.startswith("sRGB"):
            return image
        srgb = ImageCms.createProfile("sRGB")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        converted = ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")  # pyright: ignore[reportUnknownArgumentType]
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        converted, name = None, ""
    if converted is None:
        notes.append("unusable colour profile ignored")
        return image.convert("RGB")
    notes.append(f"colours brought from {name or 'its profile'} to sRGB")
    return converted


def _unknown(file: Path | bytes) -> Unreadable:
    if isinstance(file, bytes):
        return Unreadable("not a picture", f"holds {_held(file[:64])}")
    path, suffix = file, file.suffix.lower()
    if suffix in FOREIGN:
        return Unreadable("unreadable", f"{suffix} files are not read; save it as PNG or JPEG")
    if not any(suffix in endings for endings in SUFFIXES.values()):
        return Unreadable("not a picture", f"holds none of the formats {', '.join(FORMATS)}")
    if not path.stat().st_size:
        return Unreadable("unreadable", "the file is empty")
    return Unreadable("unreadable", f"named {suffix}, but holds {_holds(path)}")


def _holds(path: Path) -> str:
    """What a file holds that is no picture of the formats that are read."""
    with path.open("rb") as file:
        return _held(file.read(64))


def _held(start: bytes) -> str:
    """What it is by its first bytes."""
    known = (what for pattern, what in _HOLDS.items() if re.match(pattern, start, re.DOTALL))
    return next(known, f"none of the formats {', '.join(FORMATS)}" if start else "nothing")


def _too_large(most: int = MOST_PIXELS) -> Unreadable:
    return Unreadable("unreadable", f"more than {most / 1_000_000:g} million pixels; make it smaller")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
