"""Pictures that no two are alike, with captions: shapes on shaded grounds with some grain, as JPEG files."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bespoke.seeds import generator

COLOURS = {
    "red": (206, 48, 44), "orange": (236, 140, 36), "yellow": (238, 208, 60), "green": (58, 150, 74),
    "blue": (46, 92, 190), "purple": (128, 66, 160), "pink": (232, 130, 170), "brown": (122, 84, 56),
    "white": (238, 238, 234), "black": (36, 36, 40),
}  # fmt: skip
SHAPES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "octagon": 8, "disc": 60}
PLACES = ("above", "beside", "below", "near", "behind", "inside")


def write(folder: Path, count: int, side: int) -> None:
    """Writes so many square pictures, and `metadata.jsonl` in the layout of an ImageFolder."""
    folder.mkdir(parents=True)
    lines: list[str] = []
    for number in range(count):
        picture, caption = drawn(number, side)
        name = f"{number:05}.jpg"
        picture.save(folder / name, quality=90)
        lines.append(json.dumps({"file_name": name, "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def drawn(number: int, side: int) -> tuple[Image.Image, str]:
    """One picture and what is on it, the same for the same number and side."""
    random = generator("side by side", number)
    names, forms = random.permutation(list(COLOURS))[:4].tolist(), random.permutation(list(SHAPES))[:3].tolist()
    picture = Image.fromarray(_ground(random, COLOURS[names[0]], side))
    pen = ImageDraw.Draw(picture)
    for name, form in zip(names[1:], forms, strict=True):
        x, y = (random.uniform(0.2, 0.8, 2) * side).tolist()
        circle, turn = (x, y, side * random.uniform(0.08, 0.28)), random.uniform(0, 90)
        pen.regular_polygon(circle, SHAPES[form], rotation=turn, fill=COLOURS[name])
    grain = random.normal(0, 5, (side, side, 3))
    pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
    things = [f"{name} {form}" for name, form in zip(names[1:], forms, strict=True)]
    return Image.fromarray(
        pixels
    ), f"{things[0]} {random.choice(PLACES)} a {things[1]} and a {things[2]}, {names[0]} ground"


def _ground(random: np.random.Generator, colour: tuple[int, int, int], side: int) -> np.ndarray:
    """A colour that grows darker in one direction and waves in another."""
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    turn, waves = random.uniform(0, 2 * np.pi), random.uniform(2, 9)
    light = 0.85 + 0.25 * (np.cos(turn) * across + np.sin(turn) * down)
    light += 0.08 * np.sin(waves * (np.cos(turn) * down - np.sin(turn) * across) * np.pi)
    return np.clip(np.array(colour) * light[..., None], 0, 255).astype(np.uint8)
