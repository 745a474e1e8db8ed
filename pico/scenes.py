"""Scenes of the world, drawn from Noto's colour emoji: what stands in them, where, on which ground, and a caption.

The font is needed only here, to *make* pico; nothing in the package reads it. `python -m pico.scenes` writes the
sprites to a file, with which pico can be made on a machine that has no font.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pico.places import place
from pico.world import (
    COLOURS,
    GROUNDS,
    OBJECTS,
    PAINTED,
    PLACES,
    SIZES,
    arranged,
    is_held_out,
    is_held_out_pair,
    located,
    noun_phrase,
    objects,
)  # fmt: skip

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SPRITES = Path(__file__).parent / "work" / "sprites.npz"
"""All sprites, for a machine without the font: `python -m pico.scenes` writes them."""
STRIKE = 109  # the only size this bitmap font holds
SIZE = 64


@functools.cache
def sprite(name: str) -> Image.Image:
    """The object's emoji, RGBA, cropped to what is visible; from the file of sprites where the font is not installed.

    Raises: OSError when there is neither Debian's `fonts-noto-color-emoji` nor such a file.
    """
    if not FONT.exists():
        with np.load(SPRITES) as sprites:
            return Image.fromarray(sprites[name])
    glyph = next(group[name] for group in OBJECTS.values() if name in group)
    canvas = Image.new("RGBA", (STRIKE * 2, STRIKE * 2))
    font = ImageFont.truetype(str(FONT), STRIKE)
    ImageDraw.Draw(canvas).text((20, 20), glyph, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font draws nothing for {name} ({glyph!r})")
    return canvas.crop(box)


@functools.cache
def painted(name: str, colour: str) -> Image.Image:
    """The object's emoji with its strongest colour turned into another."""
    art = sprite(name)
    hsv = np.array(art.convert("RGB").convert("HSV"))
    hue, saturation = hsv[..., 0].astype(int), hsv[..., 1]
    strength = saturation * (np.asarray(art.getchannel("A")) > 128)
    strongest = int(np.bincount(hue.ravel(), strength.ravel(), 256).argmax())
    near = np.abs((hue - strongest + 128) % 256 - 128) < 24
    hsv[..., 0] = np.where(near, hue + COLOURS[colour] - strongest, hue) % 256
    hsv[..., 1] = np.where(near & (colour == "pink"), saturation * 0.55, saturation)
    result = Image.fromarray(hsv, "HSV").convert("RGB")
    result.putalpha(art.getchannel("A"))
    return result


@dataclass(frozen=True)
class Thing:
    """One object in a scene: `scale` is its longest side in pictures' sides, `x` and `y` its centre in 0..1."""

    name: str
    scale: float
    x: float
    y: float
    colour: str | None = None
    """What it is painted, where that is not its own colour."""
    size: str | None = None
    """What its caption calls its size."""

    @property
    def phrase(self) -> str:
        """The thing in words: "a small red car"."""
        return noun_phrase(self.name, *filter(None, (self.size, self.colour)))

    def art(self, size: int) -> Image.Image:
        """Its picture, RGBA, for a scene `size` pixels square."""
        art = painted(self.name, self.colour) if self.colour else sprite(self.name)
        ratio = self.scale * size / max(art.size)
        shape = (max(1, round(art.width * ratio)), max(1, round(art.height * ratio)))
        return art.resize(shape, Image.Resampling.LANCZOS)

    def corner(self, art: Image.Image, size: int) -> tuple[int, int]:
        """Where the upper left corner of `art` goes."""
        return round(self.x * size - art.width / 2), round(self.y * size - art.height / 2)


@dataclass(frozen=True)
class Scene:
    """One to three things on a ground or in a place, from left to right or, `above`, from top to bottom."""

    things: tuple[Thing, ...]
    ground: str
    tint: tuple[int, int, int] = (0, 0, 0)
    above: bool = False

    @property
    def name(self) -> str:
        """The first thing's name."""
        return self.things[0].name

    @property
    def phrase(self) -> str:
        """The things in words, in the phrasing that a captioner learns."""
        return self.words(0)

    def words(self, phrasing: int) -> str:
        """The things in words: "a cat left of a car"."""
        return arranged([t.phrase for t in self.things], above=self.above, phrasing=phrasing)

    def render(self, size: int = SIZE) -> Image.Image:
        """The RGB picture of this scene, `size` pixels square."""
        if self.ground in PLACES:
            picture = place(self.ground, size, size, self.tint)
        else:
            shade = (int(np.clip(c + t, 0, 255)) for c, t in zip(GROUNDS[self.ground], self.tint, strict=True))
            picture = Image.new("RGB", (size, size), tuple(shade))
        for thing in self.things:
            art = thing.art(size)
            picture.paste(art, thing.corner(art, size), art)
        return picture

    def mask(self, size: int = SIZE) -> Image.Image:
        """Where the things are: 255 inside, 0 on the ground."""
        mask = Image.new("L", (size, size))
        for thing in self.things:
            art = thing.art(size)
            mask.paste(255, thing.corner(art, size), art.getchannel("A"))
        return mask

    def boxes(self, size: int = SIZE) -> list[tuple[int, int, int, int]]:
        """Each thing's left, top, right and bottom in pixels, cut at the picture's edges."""
        boxes: list[tuple[int, int, int, int]] = []
        for thing in self.things:
            art = thing.art(size)
            left, top = thing.corner(art, size)
            boxes.append((max(0, left), max(0, top), min(size, left + art.width), min(size, top + art.height)))
        return boxes


def draw_single(rng: np.random.Generator, names: Sequence[str] | None = None, held_out: bool = False) -> Scene:
    """One of `names` (all by default) alone on a colour, of pairs training sees or, if `held_out`, of the others."""
    names = names or objects()
    while True:
        name, ground = str(rng.choice(names)), str(rng.choice(list(GROUNDS)))
        if is_held_out(name, ground) == held_out:
            break
    scale = rng.uniform(0.68, 0.86)
    x, y = 0.5 + rng.uniform(-1, 1, size=2) * (1 - scale) / 2 * 0.7
    return Scene((Thing(name, float(scale), float(x), float(y)),), ground, _tint(rng))


def draw_pair(
    rng: np.random.Generator, names: Sequence[str] | None = None, held_out: bool = False, *, above: bool | None = None
) -> Scene:
    """Two different things side by side or one above the other, of pairs training sees or, if `held_out`, of others."""
    while True:
        first, second = (str(name) for name in rng.choice(names or objects(), size=2, replace=False))
        if is_held_out_pair(first, second) == held_out:
            break
    above = bool(rng.random() < 0.4) if above is None else above
    along, across = (0.28, 0.72), 0.5 + rng.uniform(-0.12, 0.12, size=2)
    things: list[Thing] = []
    for name, at, off in zip((first, second), along, across, strict=True):
        at = at + rng.uniform(-0.02, 0.02)
        x, y = (off, at) if above else (at, off)
        things.append(Thing(name, float(rng.uniform(0.4, 0.46)), float(x), float(y), _colour(rng, name)))
    return Scene(tuple(things), _ground(rng), _tint(rng), above)


def draw_row(rng: np.random.Generator) -> Scene:
    """Three different things side by side."""
    names = [str(name) for name in rng.choice(objects(), size=3, replace=False)]
    things = [
        Thing(name, float(rng.uniform(0.28, 0.32)), x, float(0.5 + rng.uniform(-0.2, 0.2)), _colour(rng, name))
        for name, x in zip(names, (0.18, 0.5, 0.82), strict=True)
    ]
    return Scene(tuple(things), _ground(rng), _tint(rng))


def draw_scene(rng: np.random.Generator) -> Scene:
    """A random scene that training may see: half of them one thing on a colour, the others of every other kind."""
    kind = rng.random()
    if kind < 0.3:
        return draw_row(rng) if kind < 0.04 else draw_pair(rng)
    scene = draw_single(rng)
    (thing,) = scene.things
    if kind < 0.42:
        places = [p for p in PLACES if not is_held_out(thing.name, p)]
        scene = replace(scene, ground=str(rng.choice(places)))
    if 0.36 < kind < 0.48:
        size = str(rng.choice(list(SIZES)))
        scale = rng.uniform(*SIZES[size])
        x, y = 0.5 + rng.uniform(-1, 1, size=2) * (1 - scale) / 2 * 0.8
        thing = replace(thing, scale=float(scale), x=float(x), y=float(y), size=size)
    return replace(scene, things=(replace(thing, colour=_colour(rng, thing.name)),))


def _ground(rng: np.random.Generator) -> str:
    return str(rng.choice(list(PLACES if rng.random() < 0.2 else GROUNDS)))


def _colour(rng: np.random.Generator, name: str) -> str | None:
    return str(rng.choice(list(COLOURS))) if name in PAINTED and rng.random() < 0.6 else None


def _tint(rng: np.random.Generator) -> tuple[int, int, int]:
    tint = rng.integers(-8, 9, size=3)
    return int(tint[0]), int(tint[1]), int(tint[2])


def draw_caption(rng: np.random.Generator, scene: Scene) -> str:
    """A caption of the scene: any phrasing, one in five without the ground, one in ten after words nobody knows.

    The unknown words teach the text encoder that a word it has not met leaves the object and the ground as they are.
    """
    ground = None if rng.random() < 0.2 else scene.ground
    text = located(scene.words(int(rng.integers(0, 420))), ground, int(rng.integers(0, 420)))
    if rng.random() < 0.1:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        word = "".join(rng.choice(list(letters), size=rng.integers(2, 8)))
        text = f"{word} {'illustration of ' if rng.random() < 0.5 else ''}{text}"
    return text


if __name__ == "__main__":
    SPRITES.parent.mkdir(exist_ok=True)
    np.savez_compressed(SPRITES, **{name: np.asarray(sprite(name)) for name in objects()})
    print(f"{len(objects())} sprites in {SPRITES}")
