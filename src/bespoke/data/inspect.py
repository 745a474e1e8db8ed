"""A decoded picture turned into the facts that the cleaning rules ask about."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from bespoke.data.missing import missing
from bespoke.data.reading import Pixels, Reading

THUMBNAIL = 16
"""Side of the thumbnail by which pictures are compared."""
DHASH_MARGIN = 2
"""Levels of grey by which neighbours must differ to set a bit of the hash, so that noise on flat ground sets none."""
MEASURED_SIDE = 512
"""Longer side at which sharpness is measured, so that it does not depend on the camera's pixels."""
BAR_LEVELS = 3.0
"""Levels of grey within which a bar is one colour."""
BAR_EDGE = 16.0
"""Levels of grey by which a picture differs from its bar along most of the edge between them."""

Grey = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one picture, small enough to hold for every picture at once."""

    sha256: str
    pixels: str
    width: int
    height: int
    notes: tuple[str, ...]
    """What was mended when it was read."""
    dhash: int
    mirrored: int
    """The difference hash of the mirrored picture."""
    thumbnail: Pixels
    """16×16×3."""
    format: str = ""
    mode: str = ""
    bytes: int = 0
    sharpness: float = 0.0
    """Variance of the Laplacian of the grey levels, at 512 pixels at most."""
    deviation: float = 0.0
    """Standard deviation of the grey levels, 0 to 127.5."""
    darkest: float = 0.0
    """The grey level that 5 % of the pixels lie below, 0 to 255."""
    brightest: float = 0.0
    """The grey level that 5 % of the pixels lie above."""
    entropy: float = 0.0
    """Of the histogram of grey levels, in bits, 0 to 8."""
    bars: float = 0.0
    """The part of the height or width that bars of one colour on two opposite sides take."""
    blocks: float = 0.0
    """By how much steps between neighbours on JPEG's 8-pixel grid are larger than others, as a part; 0 without JPEG."""
    missing: float = 0.0
    """The part that a JPEG's file did not hold, 0 to 1."""


def facts(reading: Reading) -> Facts:
    """The facts about a picture, without its pixels."""
    image = reading.image
    grey = image.convert("L")
    brightness = _brightness(grey)
    darkest, brightest, deviation, entropy = exposure(grey.histogram())
    small = np.asarray(_at_most(grey, MEASURED_SIDE), dtype=np.float32)
    jpeg = reading.format in ("JPEG", "MPO")
    return Facts(
        sha256=reading.sha256,
        pixels=reading.pixels,
        width=reading.width,
        height=reading.height,
        notes=reading.notes,
        dhash=_hash(brightness),
        mirrored=_hash(brightness[:, ::-1]),
        thumbnail=np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.uint8),
        format=reading.format,
        mode=reading.mode,
        bytes=reading.bytes,
        sharpness=sharpness(small),
        deviation=deviation,
        darkest=darkest,
        brightest=brightest,
        entropy=entropy,
        bars=max(bars(small), bars(small.T)),
        blocks=blocks(np.asarray(grey, dtype=np.float32)) if jpeg else 0.0,
        missing=missing(image) if jpeg else 0.0,
    )


def dhash(image: Image.Image) -> int:
    """A 64-bit hash of where a picture grows brighter from left to right; similar pictures differ in few bits.

    Source: N. Krawetz 2013, "Kind of like that" (difference hash); the margin is ours.
    """
    return _hash(_brightness(image.convert("L")))


def _brightness(grey: Image.Image) -> npt.NDArray[np.int16]:
    return np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)


def _hash(brightness: npt.NDArray[np.int16]) -> int:
    bits = brightness[:, 1:] - brightness[:, :-1] > DHASH_MARGIN
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def exposure(histogram: list[int]) -> tuple[float, float, float, float]:
    """The 5 % and 95 % grey levels, the standard deviation and the entropy in bits of a histogram of 256 levels."""
    counts = np.asarray(histogram)
    levels, below, shares = np.arange(256), np.cumsum(counts), counts / counts.sum()
    mean = float(shares @ levels)
    deviation = float(np.sqrt(max(0.0, float(shares @ levels**2) - mean**2)))
    positive = shares[shares > 0]
    entropy = float(-(positive * np.log2(positive)).sum())
    darkest, brightest = np.searchsorted(below, np.array([0.05, 0.95]) * below[-1]).tolist()
    return float(darkest), float(brightest), deviation, abs(entropy)


def sharpness(grey: Grey) -> float:
    """The variance of the Laplacian; 0 for a picture of fewer than 3 pixels a side.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", section 2.
    """
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def bars(grey: Grey) -> float:
    """The part of the height that bars at the top and at the bottom take; 0 unless there are both.

    A bar is one colour from side to side and ends in a straight edge, which an object on a plain ground does not.
    """
    top, bottom = _bar(grey), _bar(grey[::-1])
    return (top + bottom) / len(grey) if top and bottom else 0.0


def blocks(grey: Grey) -> float:
    """By how much the steps across JPEG's 8-pixel grid exceed the others, as a part: 0 for none, 1 for twice as large.

    Source: after Wang, Sheikh & Bovik 2002, "No-reference perceptual quality assessment of JPEG compressed images".
    """
    return max(0.0, min(_blocks(grey), _blocks(grey.T)))


def _at_most(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(s * scale)) for s in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _bar(grey: Grey) -> int:
    """How many rows at the top are one bar."""
    even = (grey.std(axis=1) <= BAR_LEVELS) & (np.abs(grey.mean(axis=1) - grey[0].mean()) <= BAR_LEVELS)
    rows = int(np.argmin(even)) if not even.all() else 0
    if not rows or rows + 1 >= len(grey):
        return 0
    # The row at the edge may be a mixture of both.
    beyond = np.abs(grey[rows + 1] - grey[0].mean()) > BAR_EDGE
    return rows if beyond.mean() > 0.5 else 0


def _blocks(grey: Grey) -> float:
    steps = grey[:, 1:] - grey[:, :-1]
    steps = np.abs(steps, out=steps).mean(axis=0)
    on_grid = np.arange(len(steps)) % 8 == 7
    if not on_grid.any() or on_grid.all():
        return 0.0
    others = float(steps[~on_grid].mean())
    return float(steps[on_grid].mean()) / others - 1 if others > 0 else 0.0
