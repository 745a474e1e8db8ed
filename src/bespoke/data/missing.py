"""A decoded JPEG turned into the part of it that its file did not hold."""

import numpy as np
import numpy.typing as npt
from PIL import Image

BLOCK = 16
"""Side of the largest blocks that JPEG decodes at once."""
MARGIN = 2
"""Pixels at a block's edges that may hold a mixture with its neighbours' colours."""
GREYS = (120, 136)
"""What the grey of missing blocks, 128, may have become by a colour profile."""
MOST_BEFORE = 0.25
"""The part of the row of blocks before the missing ones that may be of their grey, as on a grey ground all is."""

Blocks = npt.NDArray[np.bool_]


def missing(image: Image.Image) -> float:
    """The part of an RGB picture, 0 to 1, that is the flat grey with which decoders fill what a baseline JPEG lacks.

    The blocks of a JPEG lie in rows from the top; where a file was cut off and given an end, all those after the cut
    are grey. A picture that was turned as its EXIF says has them at another side. Progressive JPEGs are stored
    otherwise: what they lack makes them coarse, and is not found here.

    Source: libjpeg, jdhuff.c: after the data end, blocks stay zero, which is the middle of the range.
    """
    pixels = np.asarray(image)
    return max((_at_the_end(np.rot90(pixels, turns)) for turns in range(4)), default=0.0)


def _at_the_end(pixels: npt.NDArray[np.uint8]) -> float:
    """The part of the picture that grey blocks take at the end of its rows of blocks; 0 where there are none."""
    corner = pixels[-1, -1].astype(int)
    if np.ptp(corner) > 2 or not GREYS[0] <= corner[0] <= GREYS[1]:
        return 0.0
    grey = _grey(pixels, pixels[-1, -1])
    rows, columns = grey.shape
    flat = grey.ravel()
    gone = int(np.argmin(flat[::-1])) if not flat.all() else len(flat)
    whole = gone // columns
    # The row that the cut lies in, up to the cut, and the one above it: on a grey ground they would be grey, too.
    before = flat[max(0, len(flat) - (whole + 2) * columns) : len(flat) - gone]
    if not gone or not len(before) or before.mean() > MOST_BEFORE:
        return 0.0
    return gone / (rows * columns)


def _grey(pixels: npt.NDArray[np.uint8], colour: npt.NDArray[np.uint8]) -> Blocks:
    """For each block whether all of it, but for its edges, has that colour."""
    same = (pixels == colour).all(axis=2)
    rows, columns = (-(-side // BLOCK) for side in same.shape)
    # A picture ends within its last blocks: what is beyond counts as grey.
    whole = np.ones((rows * BLOCK, columns * BLOCK), dtype=np.bool_)
    whole[: same.shape[0], : same.shape[1]] = same
    blocks = whole.reshape(rows, BLOCK, columns, BLOCK)[:, MARGIN:-MARGIN, :, MARGIN:-MARGIN]
    return np.asarray(blocks.all(axis=(1, 3)), dtype=np.bool_)
