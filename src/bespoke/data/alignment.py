"""Two colour thumbnails turned into an answer to: is one a crop of the other, or brighter or darker by a little?"""

import numpy as np
import numpy.typing as npt

from bespoke.data.reading import Pixels

REACH = 0.12
"""How far, in halves of a side, an edge may move when one thumbnail is laid on the other."""
GAINS = (0.75, 1.33)
"""Between which factors one may be brighter."""
OFFSET = 40.0
"""How many levels of 255 may be added to it."""
MEAN_LEVELS = 6.0
"""Levels of 255 by which they may then still differ on average."""
CELL_LEVELS = 18.0
"""The same within each of the 8×8 cells."""
MEAN_SHARE, CELL_SHARE = 0.13, 0.42
"""Both as parts of how much the picture's own colours vary: of a fox on red ground nearly all is red."""
STEPS = 6
_CELLS = 8

Levels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def same_shot(one: Pixels, other: Pixels) -> bool:
    """Whether two square colour thumbnails show the same picture, of which one may be cropped, brighter or darker.

    Each is laid on the other by moving the edges of the part that is looked at. The crop is sought in grey, and what
    remains is judged in colour, with one factor for all three channels: another tint is another picture.

    Source: Lucas & Kanade 1981, "An iterative image registration technique", with gain and offset fitted each time.
    """
    first, second = one.astype(np.float32), other.astype(np.float32)
    return _lies_in(first, second) or _lies_in(second, first)


def _lies_in(whole: Levels, part: Levels) -> bool:
    """Whether the second is a crop of the first."""
    box = _sought(whole.mean(axis=2, keepdims=True), part.mean(axis=2, keepdims=True))
    laid, inside = _crop(whole, box)
    levels, _ = _levelled(laid, part, inside)
    differences = np.abs(levels - part).mean(axis=2) * inside
    side = len(part) // _CELLS
    cells = differences.reshape(_CELLS, side, _CELLS, side).mean(axis=(1, 3))
    varies = float(np.abs(part[inside] - part[inside].mean(axis=0)).mean())
    mean, worst = float(differences.sum() / inside.sum()), float(cells.max())
    return mean <= min(MEAN_LEVELS, MEAN_SHARE * varies) and worst <= min(CELL_LEVELS, CELL_SHARE * varies)


def _sought(whole: Levels, part: Levels) -> Levels:
    """The box, by its shift down and right and its growth in height and width, whose content is most like the part."""
    down, right = (np.asarray(np.gradient(whole[..., 0], axis=axis), dtype=np.float32) for axis in (0, 1))
    middles = _axis(len(whole))
    box, best, least = np.zeros(4, dtype=np.float32), np.zeros(4, dtype=np.float32), np.inf
    for _ in range(STEPS + 1):
        laid, inside = _crop(whole, box)
        levels, gain = _levelled(laid, part, inside)
        rest = ((part - levels)[..., 0] * inside).astype(np.float32)
        error = float(np.abs(rest).sum() / inside.sum())
        if error < least:
            best, least = box, error
        slopes = [_crop(slope[..., None], box)[0][..., 0] * inside * gain * len(whole) / 2 for slope in (down, right)]
        moved = [*slopes, slopes[0] * middles[:, None], slopes[1] * middles[None, :], laid[..., 0] * inside, inside]
        columns = np.stack([np.asarray(each, dtype=np.float64).ravel() for each in moved], axis=1)
        normal = columns.T @ columns
        damped = normal + np.diag(1e-3 * np.diag(normal) + 1e-3)
        change = np.linalg.solve(damped, columns.T @ rest.ravel().astype(np.float64))[:4]
        box = (box + change).clip(-REACH, REACH).astype(np.float32)
    return best


def _crop(whole: Levels, box: Levels) -> tuple[Levels, Mask]:
    """What lies in a box, drawn at the size of the whole, and which of its pixels lie inside the whole."""
    side = len(whole)
    places = ((1 + box[2:, None]) * _axis(side) + box[:2, None]) * (side / 2) + (side - 1) / 2
    inside = (places > -0.5) & (places < side - 0.5)
    rows, columns = (_weights(each) for each in places.clip(0, side - 1))
    laid = np.einsum("yi,ijc,xj->yxc", rows, whole, columns, optimize=True)
    return laid.astype(np.float32), inside[0][:, None] & inside[1][None, :]


def _weights(places: Levels) -> Levels:
    """The matrix that reads values between pixels, each from the two beside it."""
    side = len(places)
    low = np.floor(places).astype(int).clip(0, side - 2)
    weights = np.zeros((side, side), dtype=np.float32)
    weights[np.arange(side), low] = 1 - (places - low)
    weights[np.arange(side), low + 1] = places - low
    return weights


def _levelled(laid: Levels, part: Levels, inside: Mask) -> tuple[Levels, float]:
    """The first, made brighter or darker so that it is most like the second, and by which factor."""
    one, other = laid[inside], part[inside]
    spread = float(one.var())
    gain = float(((one - one.mean()) * (other - other.mean())).mean()) / spread if spread > 1e-3 else 1.0
    gain = float(np.clip(gain, *GAINS))
    offset = float(np.clip(other.mean() - gain * one.mean(), -OFFSET, OFFSET))
    return gain * laid + np.float32(offset), gain


def _axis(side: int) -> Levels:
    """The middles of the pixels of a side, from -1 to 1."""
    return ((np.arange(side) - (side - 1) / 2) / (side / 2)).astype(np.float32)
