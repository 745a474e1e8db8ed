"""A picture turned into the pixels that a model is shown, every random choice a function of its key."""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance

from bespoke.data import masks
from bespoke.data.buckets import Size
from bespoke.data.reading import Pixels
from bespoke.data.saliency import place
from bespoke.recipe.dataset import Data
from bespoke.seeds import generator

VERSION = 2
"""Goes up whenever `fit` gives other pixels for the same transform, so that cached latents are made anew."""
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True)
class Transform:
    """All that is done to one picture, in this order; nothing is left to chance."""

    size: Size
    """The shape that comes out: width and height in pixels."""
    angle: float = 0.0
    """Degrees turned to the left; the empty corners are cut off."""
    trim: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Parts cut off at the left, top, right and bottom."""
    zoom: float = 1.0
    """How much larger than just covering the shape the picture is made."""
    interpolation: Literal["auto", "lanczos", "bicubic"] = "auto"
    crop: tuple[float, float] | Literal["saliency"] = (0.5, 0.5)
    """Where the shape is cut out: 0 is left or top, 1 right or bottom."""
    mirrored: bool = False
    colors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What brightness, contrast and saturation are multiplied by."""
    hue: float = 0.0
    """The part of the circle of colours by which all of them are turned, -0.5 to 0.5: at 1/3 red becomes green."""

    def signature(self) -> str:
        """The transform as text for cache keys: equal exactly when everything done is equal.

        Hue came later, and is named where it is turned, so that what was cached without it stays.
        """
        named = (f for f in fields(self) if f.name != "hue" or self.hue)
        return f"fit-{VERSION} " + " ".join(f"{f.name}={getattr(self, f.name)!r}" for f in named)


@dataclass(frozen=True)
class Fitted:
    """A transformed picture, with what SDXL wants to know about it; sizes and places as (height, width), in pixels."""

    pixels: Pixels
    """[height width 3]"""
    original_size: tuple[int, int]
    """The size of the picture as it was read."""
    crops_coords_top_left: tuple[int, int]
    """Where the shape was cut out of the resized picture; of a mirrored one, counted in the mirrored picture."""
    target_size: tuple[int, int]
    scale: float
    """How many times larger the picture was made before the shape was cut out of it."""
    mask: masks.Grey | None = None
    """[height width], where a mask was given: brought to the same place, its edges smoothed."""

    def facts(self) -> dict[str, tuple[int, int]]:
        """What a cache keeps beside the row. Source of the names: diffusers' SDXL pipelines."""
        names = ("original_size", "crops_coords_top_left", "target_size")
        return {name: getattr(self, name) for name in names}


def plain(settings: Data, size: Size) -> Transform:
    """The transform in which nothing is random: for measuring."""
    crop = "saliency" if settings.crop == "saliency" else (0.5, 0.5)
    return Transform(size, interpolation=settings.image_interpolation_mode, crop=crop)


def variants(settings: Data, size: Size, original: Size, key: tuple[int, str], *, mirror: bool) -> list[Transform]:
    """The versions of a picture that are trained on; where nothing is random, one.

    Each is a function of `key` (a seed and the picture's pixel hash), its own number and the settings. With `mirror`
    every second one is mirrored, and there is an even number of them.
    """
    count = settings.image_variations if _drawn(settings) else 1
    count += count % 2 if mirror else 0
    drawn = (_variant(settings, size, original, (*key, number)) for number in range(count))
    return [replace(t, mirrored=mirror and number % 2 == 1) for number, t in enumerate(drawn)]


def varied(settings: Data) -> bool:
    """Whether training is shown more of a picture than one version, where its caption allows it to be mirrored."""
    return settings.random_flip or _drawn(settings)


def fit(image: Image.Image, transform: Transform, mask: Image.Image | None = None) -> Fitted:
    """The picture turned, trimmed, resized to cover the shape, cut to it, maybe mirrored, its colours changed.

    A mask of the picture's size, in grey, is brought to the same place; colours are not for it.
    """
    image, original = image.convert("RGB"), image.size
    (left, top), image = _turned_and_trimmed(image, transform)
    width, height = transform.size
    scale = max(width / image.width, height / image.height) * transform.zoom
    wide, high = (max(a, round(b * scale)) for a, b in zip(transform.size, image.size, strict=True))
    if (wide, high) != image.size:
        image = image.resize((wide, high), _filter(transform, scale))
    across, down = place(image, width / wide, height / high) if transform.crop == "saliency" else transform.crop
    x, y = int((wide - width) * across), int((high - height) * down)
    left, top = round(left * scale) + x, round(top * scale) + y
    if transform.mirrored:
        left = max(0, round(original[0] * scale) - width - left)
    box = (x, y, x + width, y + height)
    pixels = hue_turned(np.asarray(_colored(image.crop(box), transform.colors), dtype=np.uint8), transform.hue)
    pixels = np.ascontiguousarray(pixels[:, ::-1] if transform.mirrored else pixels)
    fitted = None if mask is None else _fitted_mask(mask, transform, (wide, high), box)
    return Fitted(pixels, (original[1], original[0]), (top, left), (height, width), scale, fitted)


def hue_turned(pixels: Pixels, hue: float) -> Pixels:
    """RGB pixels [height width 3] with their hue turned by a part of the circle; value and saturation stay.

    Source: torchvision's adjust_hue, but in floating point, for Pillow's HSV has 256 hues; HSV by Smith 1978, "Color
    gamut transform pairs", whose way back is written as one formula for the three channels.
    """
    if hue == 0:
        return pixels
    colours = pixels.astype(np.float32)
    value, least = colours.max(axis=2), colours.min(axis=2)
    red, green, blue = np.moveaxis(colours, 2, 0)
    chroma = value - least
    safe = np.where(chroma > 0, chroma, 1)
    sixth = np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    sixth = np.where(value == red, (green - blue) / safe, sixth) + 6 * hue
    place = (np.array([5, 3, 1]) + sixth[..., None]) % 6
    back = value[..., None] - chroma[..., None] * np.clip(np.minimum(place, 4 - place), 0, 1)
    return np.rint(back).astype(np.uint8)


def least_part(settings: Data, size: Size, original: Size) -> float:
    """The part of each side that random cuts must leave, for the rest not to be enlarged; 1 where nothing may go."""
    if settings.upscale:
        return 0.0
    # Two pixels may go in rounding.
    return min(1.0, max((side + 2) / whole for side, whole in zip(size, original, strict=True)))


def inner(width: int, height: int, angle: float) -> float:
    """The part of each side that a turn by `angle` degrees leaves, when the empty corners are cut off."""
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    return min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))


def _drawn(settings: Data) -> bool:
    return settings.crop == "random" or any(
        (settings.crop_jitter, settings.random_scale > 1, settings.random_rotation, settings.color_jitter,
         settings.hue_jitter)
    )  # fmt: skip


def _variant(settings: Data, size: Size, original: Size, key: tuple[int, str, int]) -> Transform:
    """One version: each choice has a generator of its own, so that none changes when another is switched on.

    What cuts into the picture stops where what is left would have to be enlarged, unless that is asked for.
    """
    seed, picture, number = key
    room = least_part(settings, size, original)

    def uniform(purpose: str, count: int) -> list[float]:
        return generator(seed, "transform", purpose, picture, number).random(count).tolist()

    angle = settings.random_rotation * (2 * uniform("rotation", 1)[0] - 1) or 0.0  # never -0.0: keys would differ
    while angle and inner(*original, angle) < room:
        angle = angle / 2 if abs(angle) > 0.5 else 0.0
    room = room / inner(*original, angle)
    cut = min(settings.crop_jitter, (1 - room) / 2)
    left, top, right, bottom = (cut * part for part in uniform("jitter", 4))
    room = room / (1 - max(left + right, top + bottom))
    most = settings.random_scale if room == 0 else min(settings.random_scale, max(1.0, 1 / room))
    crop = plain(settings, size).crop
    across, down = uniform("crop", 2)
    colors = [1 + settings.color_jitter * (2 * part - 1) for part in uniform("color", 3)]
    return Transform(
        size,
        angle,
        (left, top, right, bottom),
        1 + (most - 1) * uniform("scale", 1)[0],
        settings.image_interpolation_mode,
        (across, down) if settings.crop == "random" else crop,
        colors=(colors[0], colors[1], colors[2]),
        hue=settings.hue_jitter * (2 * uniform("hue", 1)[0] - 1) or 0.0,
    )


def _turned_and_trimmed(image: Image.Image, transform: Transform) -> tuple[tuple[int, int], Image.Image]:
    """The turned picture's inside without what is trimmed, and how many pixels came off at the left and the top."""
    width, height = image.size
    if transform.angle:
        image = image.rotate(transform.angle, Image.Resampling.BICUBIC)
    corner = (1 - inner(width, height, transform.angle)) / 2
    left, top, right, bottom = (corner + (1 - 2 * corner) * part for part in transform.trim)
    box = (math.ceil(width * left), math.ceil(height * top), width * (1 - right), height * (1 - bottom))
    box = (box[0], box[1], max(box[0] + 1, int(box[2])), max(box[1] + 1, int(box[3])))
    return box[:2], image if box == (0, 0, width, height) else image.crop(box)


def _fitted_mask(mask: Image.Image, transform: Transform, resized: Size, box: tuple[int, int, int, int]) -> masks.Grey:
    """The mask where its picture is, which was resized and cut so; smoothed by a filter that rings nowhere."""
    _, mask = _turned_and_trimmed(mask, transform)
    grey = np.asarray(mask.resize(resized, Image.Resampling.BILINEAR).crop(box), dtype=np.uint8)
    return np.ascontiguousarray(grey[:, ::-1] if transform.mirrored else grey)


def _filter(transform: Transform, scale: float) -> Image.Resampling:
    shrinks = scale < 1 if transform.interpolation == "auto" else transform.interpolation == "lanczos"
    return Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC


def _colored(image: Image.Image, factors: tuple[float, float, float]) -> Image.Image:
    for enhance, factor in zip(ENHANCERS, factors, strict=True):
        if factor != 1:
            image = enhance(image).enhance(factor)
    return image
