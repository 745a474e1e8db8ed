"""Ways to redraw a picture: the example's 8-bit style, and the styles that the autoencoder and CLIP practise on."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

Style = Callable[[Image.Image, np.random.Generator], Image.Image]
EIGHT_BIT = "8bit illustration of"
"""What captions call the example's style."""


def eight_bit(picture: Image.Image, sprite_mask: Image.Image, colours: int = 10, cells: int = 16) -> Image.Image:
    """The picture as an 8-bit illustration: `cells` × `cells` flat blocks, few colours, a dark outline."""
    small = picture.resize((cells, cells), Image.Resampling.BOX)
    small = ImageEnhance.Color(small).enhance(1.35)
    small = small.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    inside = np.asarray(sprite_mask.resize((cells, cells), Image.Resampling.BOX)) > 100
    padded = np.pad(inside, 1)
    around = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    blocks = np.asarray(small).copy()
    blocks[around & ~inside] = (18, 16, 28)
    return Image.fromarray(blocks).resize(picture.size, Image.Resampling.NEAREST)


def line_art(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Dark lines on paper."""
    edges = picture.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda v: 255 - min(255, v * 2))
    paper = tuple(int(v) for v in rng.integers(205, 256, size=3))
    return ImageChops.multiply(edges.convert("RGB"), Image.new("RGB", picture.size, paper))


def mosaic(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Flat tiles of a random size that does not divide the picture: blocks, yet not the blocks of 8-bit pictures."""
    cells = int(rng.choice([9, 11, 13, 19, 21, 27]))
    tiles = picture.resize((cells, cells), Image.Resampling.BOX)
    return tiles.resize(picture.size, Image.Resampling.NEAREST)


def tiles(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Flat tiles of 2, 4 or 8 pixels in the picture's colours, often stronger, and here and there in any colour."""
    cells = int(rng.choice([8, 16, 16, 16, 32]))
    small = ImageEnhance.Color(picture.resize((cells, cells), Image.Resampling.BOX)).enhance(rng.uniform(1.0, 1.8))
    strewn = rng.random((cells, cells, 1)) < rng.choice([0.0, 0.1, 0.3])
    colours = rng.integers(0, 256, size=3) if rng.random() < 0.5 else rng.integers(0, 256, size=(cells, cells, 3))
    coloured = np.where(strewn, colours, np.asarray(small)).astype(np.uint8)
    return Image.fromarray(coloured).resize(picture.size, Image.Resampling.NEAREST)


def recoloured(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with its hues turned, brighter or darker, paler or stronger, so that any colour may occur."""
    hue, saturation, value = picture.convert("HSV").split()
    turn = int(rng.integers(0, 256)) if rng.random() < 0.5 else 0
    hue = hue.point([(v + turn) % 256 for v in range(256)])
    picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    picture = ImageEnhance.Color(picture).enhance(rng.uniform(0.3, 2.2))
    return ImageEnhance.Brightness(picture).enhance(rng.uniform(0.5, 1.4))


def poster(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Few colours, smooth shapes."""
    return picture.quantize(int(rng.integers(3, 8)), dither=Image.Dither.NONE).convert("RGB")


def outlined(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Few colours, with dark lines where one meets another."""
    lines = picture.convert("L").filter(ImageFilter.FIND_EDGES).point([255 * (v > 48) for v in range(256)])
    flat, ink = poster(picture, rng), tuple(int(v) for v in rng.integers(0, 60, size=3))
    flat.paste(ink, mask=lines.filter(ImageFilter.MaxFilter(3)) if rng.random() < 0.5 else lines)
    return flat


def texture(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with stripes or grain over it."""
    width, height = picture.size
    grid = np.mgrid[0:height, 0:width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 16)
    wave = np.sin((grid[0] * np.sin(angle) + grid[1] * np.cos(angle)) * 2 * np.pi / period)
    strength = rng.uniform(8, 36)
    pattern = wave * strength if rng.random() < 0.6 else rng.normal(0, strength / 2, size=(height, width))
    return Image.fromarray((np.asarray(picture, np.float32) + pattern[..., None]).clip(0, 255).astype(np.uint8))


def gradient(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture lit from one side by a coloured light."""
    height, width = picture.height, picture.width
    rows, columns = np.mgrid[0:height, 0:width] / max(width, height)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (rows - 0.5) * np.sin(angle) + (columns - 0.5) * np.cos(angle)
    light = rng.uniform(-110, 110, size=3)
    shaded = np.asarray(picture, np.float32) + ramp[..., None] * light
    return Image.fromarray(shaded.clip(0, 255).astype(np.uint8))


def blur(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 2.5)))


def shapes(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Ellipses, rectangles and lines of random colours over the picture."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 7))):
        x0, x1 = sorted(int(v) for v in rng.integers(0, picture.width, size=2))
        y0, y1 = sorted(int(v) for v in rng.integers(0, picture.height, size=2))
        colour = tuple(int(v) for v in rng.integers(0, 256, size=3))
        shape = rng.integers(0, 3)
        if shape == 0:
            draw.ellipse((x0, y0, x1, y1), fill=colour)
        elif shape == 1:
            draw.rectangle((x0, y0, x1, y1), fill=colour)
        else:
            draw.line((x0, y0, x1, y1), fill=colour, width=int(rng.integers(1, 5)))
    return picture


PRACTICE: dict[str, Style] = {
    "line art": line_art, "mosaic": mosaic, "tiles": tiles, "poster": poster, "outlined picture": outlined,
    "texture": texture, "gradient": gradient, "blurred picture": blur, "collage": shapes,
    "recoloured picture": recoloured,
}  # fmt: skip
