"""The colours of a picture in the eleven words that people agree on, and the one that most of it has."""

import functools

import numpy as np
import numpy.typing as npt

from bespoke.data.reading import Pixels

COLOURS = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
"""The basic colour terms of English. Source: Berlin & Kay 1969, "Basic Color Terms"."""
MIXED = "mixed"
"""Said of a picture of which no colour takes a third."""
LEAST_SHARE = 1 / 3
STEPS = 32
"""Levels of each channel that are told apart."""

EXAMPLES = {
    "black": "000000 1a1a1a 001122 221100 0a1a0a",
    "grey": "696969 808080 a9a9a9 708090 778899 555555 c0c0c0 333333 404040 8b8589 928e85",
    "white": "ffffff fffafa f5f5f5 fffff0 f0f8ff f8f8ff fdf5e6 e8e8e8 fdf0f0 f0f0fe",
    "red": "ff0000 dc143c b22222 8b0000 cd5c5c 640000 e34234 c04040",
    "orange": "ffa500 ff8c00 ff7f50 ff4500 f4a460 fb8b3c cc5500 ffb347",
    "brown": "8b4513 a0522d d2691e 654321 3d2008 a52a2a bc8f5f d2b48c 6b4423 c19a6b 80461b 4b3621 7b5c3a 7d6608 946f0c",
    "yellow": "ffff00 ffd700 f0e68c fffacd daa520 eee8aa bdb76b e3c800 fff59d ffff66",
    "green": "008000 006400 00ff00 228b22 2e8b57 6b8e23 556b2f 90ee90 32cd32 8fbc8f 9acd32 013220 98fb98 00fa9a 20b2aa "
    "008b6b 7fffd4 808000 66cdaa 4a5d23 c1f0c1 a6c36f 7a9a78",
    "blue": "0000ff 000080 4169e1 1e90ff 87ceeb add8e6 4682b4 191970 00bfff 6495ed b0c4de 5f9ea0 00ffff 000040 008b8b "
    "40e0d0 afeeee 3a5f8a 87cefa cfe8fa 0f4c81 4a739b d4f4ff",
    "purple": "800080 8a2be2 9370db 4b0082 ba55d3 9932cc dda0dd d8bfd8 301934 6a5acd 483d8b e6e6fa bf77f6 5d3a66 "
    "8e5f86",
    "pink": "ffc0cb ffb6c1 ff69b4 ff1493 db7093 ff00ff c71585 fa8072 ffe4e1 e9967a de5d83 f4c2c2 ffd1dc d0457a "
    "ffa6c9 ff99cc fc8eac ff80bf",
}
"""For each word some of the colours that it names, most of them those that CSS sorts under it."""

Lab = npt.NDArray[np.float32]


def shares(pixels: Pixels) -> dict[str, float]:
    """The part of the pixels, 0 to 1, that each colour takes; colours that are not there are left out.

    `pixels` are sRGB of any shape that ends with 3 channels.
    """
    steps = np.asarray(pixels, dtype=np.intp) // (256 // STEPS)
    named = _names()[steps[..., 0], steps[..., 1], steps[..., 2]]
    counts = np.bincount(named.ravel(), minlength=len(COLOURS)) / named.size
    return {name: float(part) for name, part in zip(COLOURS, counts, strict=True) if part > 0}


def dominant(pixels: Pixels) -> str:
    """The colour that takes most of the pixels; `mixed` where none takes a third."""
    found = shares(pixels)
    colour = max(found, key=lambda name: found[name])
    return colour if found[colour] >= LEAST_SHARE else MIXED


def swatch(colour: str) -> str:
    """What to paint where a colour of this name is meant, as CSS has it; nothing for `mixed`."""
    return f"#{EXAMPLES[colour].split()[0]}" if colour in EXAMPLES else ""


def oklab(pixels: npt.NDArray[np.floating]) -> Lab:
    """OKLab of sRGB levels of 0 to 255, [..., 3]: lightness 0 to 1, and green to red and blue to yellow around 0.

    Source: B. Ottosson 2020, "A perceptual color space for image processing"; IEC 61966-2-1 for sRGB's curve.
    """
    levels = np.asarray(pixels, dtype=np.float32) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    to_cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
    to_lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
              [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip
    return (np.cbrt(linear @ np.array(to_cones, np.float32).T) @ np.array(to_lab, np.float32).T).astype(np.float32)


@functools.cache
def _names() -> npt.NDArray[np.uint8]:
    """For each of 32×32×32 colours the number of the word whose nearest example is nearest in OKLab."""
    hexes = [(number, text) for number, name in enumerate(COLOURS) for text in EXAMPLES[name].split()]
    examples = oklab(np.array([list(bytes.fromhex(text)) for _, text in hexes], dtype=np.float32))
    words = np.array([number for number, _ in hexes], dtype=np.uint8)
    middles = (np.arange(STEPS, dtype=np.float32) + 0.5) * (256 / STEPS) - 0.5
    grid = oklab(np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1))
    distances = ((grid.reshape(-1, 1, 3) - examples) ** 2).sum(axis=2)
    return words[distances.argmin(axis=1)].reshape(STEPS, STEPS, STEPS)
