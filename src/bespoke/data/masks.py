"""A mask as it came - a file beside the picture, or the picture's own transparency - turned into a grey PNG."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8
from PIL import Image

from bespoke.data.clean import Verdict
from bespoke.data.reading import Unreadable, read_mask
from bespoke.workspace import atomic_file

FOLDER = "masks"
"""Where a dataset keeps masks: there they stay, wherever their pictures are moved."""
UNFIT = "mask"
"""What a picture is set aside for whose mask does not fit."""
HINT = "mend it or take it away, and import again"

Grey = UInt8[npt.NDArray[np.uint8], "H W"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a picture's mask comes from, and how large the picture is, in pixels."""

    path: Path
    """The mask's own file or, of a transparent picture, the picture's."""
    width: int
    height: int
    alpha: bool = False
    """Whether the mask is how opaque the picture is."""


@dataclass(frozen=True, slots=True)
class Mask:
    """What a dataset remembers of a mask."""

    sha256: str
    """Of the PNG's bytes."""
    covered: float
    """The mean of the mask, 0 to 1."""


def place(folder: Path, file: str) -> Path:
    """Where the dataset in `folder` keeps the mask of the picture `file`."""
    return folder / FOLDER / f"{file}.png"


def look(origin: Origin) -> Mask | Verdict:
    """What is to be remembered of a mask, or why it does not fit its picture."""
    try:
        image = read_mask(origin.path, alpha=origin.alpha)
    except Unreadable as error:
        return Verdict(UNFIT, f"its mask {origin.path.name} is {error.reason}: {error.detail}; {HINT}")
    if image.size != (origin.width, origin.height):
        sizes = f"{image.width}×{image.height} pixels, the picture {origin.width}×{origin.height}"
        return Verdict(UNFIT, f"its mask {origin.path.name} has {sizes}; {HINT}")
    covered = float(np.asarray(image).mean()) / 255
    if not covered:
        return Verdict(UNFIT, f"its mask {origin.path.name} is black all over, and covers nothing; {HINT}")
    return Mask(hashlib.sha256(png(image)).hexdigest(), covered)


def write(origin: Origin, target: Path) -> None:
    """Writes the PNG of which `look` gave the hash, atomically."""
    content = png(read_mask(origin.path, alpha=origin.alpha))
    with atomic_file(target, durable=False) as temporary:
        temporary.write_bytes(content)


def area_mean(mask: Grey, shape: tuple[int, int]) -> Float[npt.NDArray[np.float32], "h w"]:
    """A fitted mask at another size, of `shape` rows and columns that divide its own: the mean of each area, 0 to 1."""
    rows, columns = shape
    areas = mask.reshape(rows, mask.shape[0] // rows, columns, mask.shape[1] // columns)
    return (areas.mean(axis=(1, 3), dtype=np.float64) / 255).astype(np.float32)


def png(image: Image.Image) -> bytes:
    """The bytes of a picture as a PNG."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
