"""A picture turned into the place of the crop that keeps what stands out most."""

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 64
"""The map's longer side, in cells: finer texture than this says little about what a picture shows."""
TOLERANCE = 0.02
"""Crops that hold almost as much, in parts of the most, count as equal: then the one nearest to the middle is taken."""
Map = npt.NDArray[np.float64]


def saliency(image: Image.Image) -> Map:
    """How much each part of a picture stands out, [rows columns], the longer side 64 cells; its sum is 1.

    It is the energy of the edges: the squared differences between neighbouring cells in all three colours, smoothed.
    Source: Avidan & Shamir 2007, "Seam Carving for Content-Aware Image Resizing", equation 1, with squares.
    """
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.resize((size[0], size[1]), Image.Resampling.BOX), dtype=np.float64)
    down, across = (np.diff(small, axis=axis, append=small.take([-1], axis)) for axis in (0, 1))
    found = _smooth((down**2 + across**2).sum(axis=2))
    total = float(found.sum())
    return found / total if total > 0 else np.full(found.shape, 1 / found.size)


def place(image: Image.Image, width: float, height: float) -> tuple[float, float]:
    """Where to cut a part `width` by `height`, in parts of the picture's sides: 0 is left or top, 1 right or bottom."""
    found = saliency(image)
    rows, columns = found.shape
    wide, high = max(1, round(width * columns)), max(1, round(height * rows))
    sums = np.pad(found.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    held = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    down, across = np.nonzero(held >= held.max() * (1 - TOLERANCE))
    slack_down, slack_across = rows - high, columns - wide
    nearest = np.argmin((down - slack_down / 2) ** 2 + (across - slack_across / 2) ** 2)
    return _part(float(across[nearest]), slack_across), _part(float(down[nearest]), slack_down)


def _part(cell: float, slack: int) -> float:
    return cell / slack if slack else 0.5


def _smooth(values: Map) -> Map:
    """Each cell's mean over 5×5, edges repeated."""
    padded = np.pad(values, 2, mode="edge")
    rows = np.sum([padded[shift : shift + values.shape[0]] for shift in range(5)], axis=0)
    return np.sum([rows[:, shift : shift + values.shape[1]] for shift in range(5)], axis=0) / 25
