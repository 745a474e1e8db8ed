"""Draw the second example, `python -m pico.photos`: pictures of the size and the faults of photographs, with captions.

Things stand in places, with shadows, light from a side and grain, at 512 to 1024 pixels in many shapes, as JPEG. A few
have what photographs have: an EXIF orientation, a second shot of the same, no focus, no light, bars of a video.
"""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from pico.places import place
from pico.scenes import Scene, draw_pair, draw_single
from pico.styles import gradient
from pico.world import OBJECTS, PLACES, located, objects

FOLDER = Path(__file__).parent.parent / "examples" / "photos"
COUNT = 36
SHAPES = ((1024, 683), (683, 1024), (768, 768), (1024, 576), (600, 800), (512, 512), (900, 540), (640, 960))
ROTATED, ORIENTATION = 6, 0x0112
"""EXIF's value for a picture that is shown after a quarter turn, and the tag that holds it."""


def subjects() -> list[str]:
    """The things that the photographs show: every ninth of the world's, a few of each kind."""
    return objects()[4::9]


def draw(rng: np.random.Generator, number: int) -> tuple[Image.Image, Scene]:
    """A photograph, and what is on it; two of three show one thing."""
    known = subjects()
    name = known[number % len(known)]
    scene = draw_single(rng, [name]) if number % 3 else draw_pair(rng, [name, known[(number + 5) % len(known)]])
    scene = replace(scene, ground=str(rng.choice(list(PLACES))))
    return shoot(scene, SHAPES[number % len(SHAPES)], rng), scene


def shoot(scene: Scene, shape: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """The scene as a photograph of that width and height: a rough ground, shadows, light from a side, grain."""
    width, height = shape
    picture = rough(place(scene.ground, width, height, scene.tint), rng)
    side = min(shape)
    for thing in scene.things:
        art = thing.art(side)
        x, y = thing.corner(art, side)
        corner = (x + (width - side) // 2, y + (height - side) // 2)
        shadow = Image.new("L", picture.size)
        ImageDraw.Draw(shadow).ellipse(
            (corner[0], corner[1] + art.height * 0.88, corner[0] + art.width, corner[1] + art.height * 1.06), fill=110
        )
        picture.paste((20, 16, 24), (0, 0), shadow.filter(ImageFilter.GaussianBlur(side / 60)))
        picture.paste(art, corner, art)
    lit = np.asarray(gradient(picture, rng), float) * 0.4 + np.asarray(picture, float) * 0.6
    return Image.fromarray((lit + rng.normal(0, 3, size=(height, width, 1))).clip(0, 255).astype(np.uint8))


def rough(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The ground with unevenness of every size, as of grass, sand or plaster."""
    pixels = np.asarray(picture, float)
    for cells in (8, 24, 80, 240):
        noise = Image.fromarray(rng.normal(0, 5, size=(cells, cells)).astype(np.float32), "F")
        pixels = pixels + np.asarray(noise.resize(picture.size, Image.Resampling.BICUBIC))[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def row(name: str, scene: Scene) -> list[str]:
    """A line of the table: file, caption, subject, category."""
    category = next(kind for kind, members in OBJECTS.items() if scene.name in members)
    return [name, f"a photo of {located(scene.phrase, scene.ground)}", scene.name, category]


def faulty(shots: list[tuple[Image.Image, Scene]]) -> list[tuple[str, Image.Image, Scene]]:
    """Names and pictures as a camera also gives them: another shot of the same, no focus, no light, bars."""
    (first, one), (second, two), (third, three), (fourth, four) = shots[:4]
    bars = ImageOps.expand(fourth.resize((720, 400)), (0, 70), fill=(0, 0, 0))
    return [
        ("shot-again.jpg", ImageEnhance.Brightness(first).enhance(1.06), one),
        ("shot-again-smaller.jpg", first.resize((first.width // 2, first.height // 2)), one),
        ("out-of-focus.jpg", second.filter(ImageFilter.GaussianBlur(14)), two),
        ("too-dark.jpg", third.point([v // 9 for v in range(256)] * 3), three),
        ("from-a-video.jpg", bars, four),
    ]


def main() -> None:
    """The command."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    shots = [draw(np.random.default_rng((3, number)), number) for number in range(COUNT)]
    rows: list[list[str]] = []
    for number, (picture, scene) in enumerate(shots):
        name = f"photo-{number:02d}.jpg"
        exif = Image.Exif()
        if number % 7 == 3:  # held upright: stored lying, with a word about it
            picture = picture.transpose(Image.Transpose.ROTATE_90)
            exif[ORIENTATION] = ROTATED
        picture.save(FOLDER / name, quality=82, exif=exif)
        rows.append(row(name, scene))
    for name, picture, scene in faulty(shots):
        picture.save(FOLDER / name, quality=82)
        rows.append(row(name, scene))
    with (FOLDER / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["file_name", "text", "subject", "category"], *rows])
    size = sum(path.stat().st_size for path in FOLDER.iterdir()) / 2**20
    print(f"{len(rows)} photographs in {FOLDER}, {size:.1f} MB")


if __name__ == "__main__":
    main()
