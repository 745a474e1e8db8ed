"""The simple places of the world, drawn: a meadow, a beach, the night."""

from collections.abc import Callable

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]
SKY, GRASS, SAND, WATER, SNOW = (150, 205, 240), (110, 180, 80), (236, 210, 150), (60, 150, 200), (240, 244, 250)


def place(name: str, width: int, height: int, tint: Colour = (0, 0, 0)) -> Image.Image:
    """The place without things in it, RGB, of that many pixels, its colours shifted by `tint`."""
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    pixels = DRAWN[name](rows, columns) + np.asarray(tint)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _split(at: np.ndarray, upper: np.ndarray | Colour, lower: np.ndarray | Colour) -> np.ndarray:
    return np.where(at[..., None], np.asarray(lower, float), np.asarray(upper, float))


def _blend(share: np.ndarray, first: Colour, second: Colour) -> np.ndarray:
    return np.asarray(first, float) * (1 - share[..., None]) + np.asarray(second, float) * share[..., None]


def _meadow(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return _split(rows > 0.55 + 0.04 * np.sin(columns * 6), _blend(rows, SKY, (220, 240, 250)), GRASS)


def _beach(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    shore = _split(rows > 0.62 + 0.03 * np.sin(columns * 8), WATER, SAND)
    return _split(rows > 0.4, _blend(rows, SKY, (220, 240, 250)), shore)


def _desert(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    dunes = _blend((rows - 0.5).clip(0) * 2, (226, 176, 104), (200, 140, 76))
    return _split(rows > 0.52 + 0.07 * np.sin(columns * 5 + 1), _blend(rows, (250, 214, 160), (255, 236, 200)), dunes)


def _snow(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return _split(rows > 0.58 + 0.05 * np.sin(columns * 4 + 2), _blend(rows, (150, 170, 195), (200, 212, 226)), SNOW)


def _night(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    sky = _blend(rows, (16, 20, 52), (44, 48, 100))
    stars = np.random.default_rng(7).random((9, 9)) < 0.2
    near = stars[(rows * 9).astype(int), (columns * 9).astype(int)]
    middle = (np.abs(rows * 9 % 1 - 0.5) < 0.12) & (np.abs(columns * 9 % 1 - 0.5) < 0.12)
    return _split(near & middle, sky, (250, 245, 200))


def _water(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    waves = np.sin(rows * 40 + 2 * np.sin(columns * 7)) > 0.75
    return _blend(rows, (90, 190, 225), (16, 70, 140)) + waves[..., None] * 18.0


def _room(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    wall = _split(columns * 8 % 1 > 0.5, (238, 224, 200), (230, 212, 184))
    return _split(rows > 0.68, wall, _split(rows > 0.72, (250, 246, 238), (150, 100, 60)))


def _sunset(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    sky = _blend((rows / 0.75).clip(0, 1), (110, 60, 140), (255, 160, 60))
    sun = (rows - 0.72) ** 2 + (columns - 0.5) ** 2 < 0.03
    return _split(rows > 0.75, _split(sun, sky, (255, 226, 120)), (60, 36, 70))


DRAWN: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "meadow": _meadow, "beach": _beach, "desert": _desert, "snow": _snow,
    "night": _night, "water": _water, "room": _room, "sunset": _sunset,
}  # fmt: skip
