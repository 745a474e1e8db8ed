"""A picture turned into the square of pixels that a model is shown."""

import numpy as np
from PIL import Image

from bespoke.data.reading import Pixels, pixel_hash
from bespoke.seeds import uniform

VERSION = 1
"""Goes up whenever `fit` gives other pixels for the same settings, so that cached latents are made anew."""


def fit(image: Image.Image, resolution: int, *, center_crop: bool = True, flip: bool = False) -> Pixels:
    """The picture as uint8 [resolution, resolution, 3]: the shorter side resized, a square cut out, maybe mirrored.

    Without `center_crop` the place of the square is random, but the same every time: it depends on the pixels alone.
    """
    image = image.convert("RGB")
    scale = resolution / min(image.size)
    width, height = (max(resolution, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        filter_ = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
        image = image.resize((width, height), filter_)
    place = 0.5 if center_crop else uniform("crop", pixel_hash(image))
    left, top = (int((side - resolution) * place) for side in (width, height))
    pixels = np.asarray(image.crop((left, top, left + resolution, top + resolution)), dtype=np.uint8)
    return np.ascontiguousarray(pixels[:, ::-1] if flip else pixels)


def signature(resolution: int, *, center_crop: bool = True, flip: bool = False) -> str:
    """The settings of `fit` as text for cache keys: equal exactly when `fit` gives equal pixels for every picture."""
    crop = "center" if center_crop else "random"
    return f"fit-{VERSION} resolution={resolution} crop={crop} flip={'yes' if flip else 'no'}"
