"""The world pico knows: one hundred objects on twelve grounds, drawn from Noto's colour emoji, with captions.

The font is needed only here, to *make* pico; nothing in the package reads it. `python -m pico.world` writes the sprites
to a file, with which pico can be made on a machine that has no font.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SPRITES = Path(__file__).parent / "work" / "sprites.npz"
"""All sprites, for a machine without the font: `python -m pico.world` writes them."""
STRIKE = 109  # the only size this bitmap font holds
SIZE = 64

OBJECTS: dict[str, dict[str, str]] = {
    "animal": {
        "dog": "🐕", "cat": "🐈", "fox": "🦊", "lion": "🦁", "zebra": "🦓", "cow": "🐄", "pig": "🐖", "camel": "🐫",
        "giraffe": "🦒", "elephant": "🐘", "rabbit": "🐇", "bear": "🐻", "panda": "🐼", "koala": "🐨", "frog": "🐸",
        "crocodile": "🐊", "turtle": "🐢", "whale": "🐳", "fish": "🐠", "octopus": "🐙", "crab": "🦀", "snail": "🐌",
        "butterfly": "🦋", "bee": "🐝", "ladybug": "🐞", "penguin": "🐧", "owl": "🦉", "parrot": "🦜", "duck": "🦆",
        "unicorn": "🦄",
    },
    "food": {
        "red apple": "🍎", "banana": "🍌", "watermelon": "🍉", "grapes": "🍇", "strawberry": "🍓", "cherries": "🍒",
        "pineapple": "🍍", "lemon": "🍋", "avocado": "🥑", "tomato": "🍅", "eggplant": "🍆", "carrot": "🥕",
        "broccoli": "🥦", "mushroom": "🍄", "croissant": "🥐", "cheese": "🧀", "pizza": "🍕", "hamburger": "🍔",
        "doughnut": "🍩", "birthday cake": "🎂", "ice cream": "🍦", "lollipop": "🍭",
    },
    "vehicle": {
        "car": "🚗", "bus": "🚌", "fire engine": "🚒", "truck": "🚚", "tractor": "🚜", "bicycle": "🚲",
        "motorcycle": "🏍", "train": "🚂", "sailboat": "⛵", "ship": "🚢", "helicopter": "🚁", "rocket": "🚀",
        "flying saucer": "🛸",
    },
    "building": {
        "house": "🏠", "castle": "🏰", "church": "⛪", "factory": "🏭", "city view": "🏙", "tent": "⛺",
        "ferris wheel": "🎡", "red tower": "🗼",
    },
    "plant": {
        "tree": "🌳", "pine tree": "🌲", "palm tree": "🌴", "cactus": "🌵", "sunflower": "🌻", "tulip": "🌷",
        "rose": "🌹",
    },
    "thing": {
        "guitar": "🎸", "violin": "🎻", "trumpet": "🎺", "drum": "🥁", "crown": "👑", "key": "🔑", "alarm clock": "⏰",
        "umbrella": "🌂", "balloon": "🎈", "gift": "🎁", "light bulb": "💡", "camera": "📷", "soccer ball": "⚽",
        "basketball": "🏀", "backpack": "🎒", "top hat": "🎩", "bell": "🔔", "snowman": "⛄", "robot": "🤖",
        "trophy": "🏆",
    },
}  # fmt: skip

GROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (206, 48, 44), "orange": (240, 140, 40), "yellow": (246, 220, 80), "green": (70, 160, 76),
    "blue": (48, 96, 200), "purple": (128, 64, 168), "pink": (245, 160, 195), "brown": (120, 80, 50),
    "black": (24, 24, 28), "white": (245, 245, 245), "gray": (140, 144, 150), "turquoise": (64, 196, 196),
}  # fmt: skip

GROUNDED = (
    "{object} on {ground} background",
    "{object} on {ground} ground",
    "picture of {object} on {ground} background",
    "illustration of {object} on {ground} background",
    "{object} in front of {ground} background",
    "{object}, {bare} background",
    "{bare} background with {object}",
)
PLAIN = ("{object}", "picture of {object}", "illustration of {object}")
PLURAL = {"grapes", "cherries"}
MASS = {"city view", "broccoli", "cheese"}


def objects() -> list[str]:
    """Every object's name, in a fixed order: the order of the classes."""
    return list(itertools.chain.from_iterable(OBJECTS.values()))


def noun_phrase(name: str) -> str:
    """The name with its article: "a red apple", "an owl", "grapes"."""
    if name in PLURAL or name in MASS:
        return name
    return f"{'an' if name[0] in 'aeiou' and name != 'unicorn' else 'a'} {name}"


def caption(name: str, ground: str | None, phrasing: int = 0) -> str:
    """One of the phrasings of "a red apple on a blue background"; without a ground, of "a red apple"."""
    form = PLAIN[phrasing % len(PLAIN)] if ground is None else GROUNDED[phrasing % len(GROUNDED)]
    article = "an" if ground and ground[0] in "aeiou" else "a"
    return form.format(object=noun_phrase(name), ground=f"{article} {ground}", bare=ground)


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


@dataclass(frozen=True)
class Scene:
    """One object on one ground: `scale` is its longest side in pictures' sides, `x` and `y` its centre in 0..1."""

    name: str
    ground: str
    scale: float
    x: float
    y: float
    tint: tuple[int, int, int] = (0, 0, 0)

    def colour(self) -> tuple[int, int, int]:
        """The ground's RGB with this scene's small tint."""
        base = GROUNDS[self.ground]
        return tuple(int(np.clip(c + t, 0, 255)) for c, t in zip(base, self.tint, strict=True))  # type: ignore[return-value]

    def render(self, size: int = SIZE) -> Image.Image:
        """The RGB picture of this scene, `size` pixels square."""
        picture = Image.new("RGB", (size, size), self.colour())
        art = self._art(size)
        picture.paste(art, self._corner(art, size), art)
        return picture

    def mask(self, size: int = SIZE) -> Image.Image:
        """Where the object is: 255 inside, 0 on the ground."""
        mask = Image.new("L", (size, size))
        art = self._art(size)
        mask.paste(art.getchannel("A"), self._corner(art, size))
        return mask

    def _art(self, size: int) -> Image.Image:
        art = sprite(self.name)
        ratio = self.scale * size / max(art.size)
        shape = (max(1, round(art.width * ratio)), max(1, round(art.height * ratio)))
        return art.resize(shape, Image.Resampling.LANCZOS)

    def _corner(self, art: Image.Image, size: int) -> tuple[int, int]:
        return round(self.x * size - art.width / 2), round(self.y * size - art.height / 2)


def draw_scene(rng: np.random.Generator, names: Sequence[str] | None = None, held_out: bool = False) -> Scene:
    """A random scene of one of `names` (all by default), of pairs training sees or, if `held_out`, of the others."""
    names = names or objects()
    while True:
        name, ground = str(rng.choice(names)), str(rng.choice(list(GROUNDS)))
        if is_held_out(name, ground) == held_out:
            break
    scale = rng.uniform(0.68, 0.86)
    room = (1 - scale) / 2
    x, y = 0.5 + rng.uniform(-1, 1, size=2) * room * 0.7
    tint = rng.integers(-8, 9, size=3)
    return Scene(name, ground, float(scale), float(x), float(y), (int(tint[0]), int(tint[1]), int(tint[2])))


def is_held_out(name: str, ground: str) -> bool:
    """Whether pico's training never sees this object on this ground: one pair in twelve, one for each object."""
    grounds = list(GROUNDS)
    return grounds.index(ground) == (objects().index(name) * 5 + 2) % len(grounds)


def draw_caption(rng: np.random.Generator, scene: Scene) -> str:
    """A caption of the scene: any phrasing, one in five without the ground, one in ten after words nobody knows.

    The unknown words teach the text encoder that a word it has not met leaves the object and the ground as they are.
    """
    ground = None if rng.random() < 0.2 else scene.ground
    text = caption(scene.name, ground, int(rng.integers(0, 420)))
    if rng.random() < 0.1:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        word = "".join(rng.choice(list(letters), size=rng.integers(2, 8)))
        text = f"{word} {'illustration of ' if rng.random() < 0.5 else ''}{text}"
    return text


if __name__ == "__main__":
    SPRITES.parent.mkdir(exist_ok=True)
    np.savez_compressed(SPRITES, **{name: np.asarray(sprite(name)) for name in objects()})
    print(f"{len(objects())} sprites in {SPRITES}")
