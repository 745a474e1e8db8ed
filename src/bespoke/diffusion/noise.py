"""A key turned into the noise of one picture, drawn on the host: no neighbour, order or process changes it."""

from dataclasses import dataclass

import numpy as np
import torch

from bespoke.seeds import Key, normal, uniform


@dataclass(frozen=True)
class Pyramid:
    """Noise of several resolutions, so that large shapes and whole pictures are noised and learnt, too."""

    iterations: int
    """Most layers."""
    discount: float
    """What a layer counts for against the one before, between 0 and 1."""


def noise(
    shape: tuple[int, ...], key: tuple[Key, ...], offset: float = 0.0, pyramid: Pyramid | None = None
) -> np.ndarray:
    """The noise of a picture's latents [c h w], in float32: standard normal, unless it is shifted or layered.

    Source: of the offset, N. Guttenberg 2023, "Diffusion with offset noise".
    """
    found = normal(shape, "noise", *key)
    if offset:
        found = found + np.float32(offset) * normal((shape[0], 1, 1), "offset", *key)
    return _layered(found, pyramid, key) if pyramid else found


def perturbed(noise: np.ndarray, strength: float, key: tuple[Key, ...]) -> np.ndarray:
    """Noise with more noise on it: what is added to the latents while the network is asked for the first alone.

    Source: Ning et al. 2023, "Input perturbation reduces exposure bias in diffusion models".
    """
    return noise + np.float32(strength) * normal(noise.shape, "perturbation", *key)


def _layered(noise: np.ndarray, pyramid: Pyramid, key: tuple[Key, ...]) -> np.ndarray:
    """Noise with coarser and coarser layers on it, each by a random factor of 2 to 4, brought back to a variance of 1.

    Source: J. Whitaker 2023, "Multi-resolution noise for diffusion model training", as in kohya's sd-scripts.
    """
    channels, rows, columns = noise.shape
    for layer in range(pyramid.iterations):
        factor = (2 + 2 * uniform("pyramid factor", layer, *key)) ** layer
        size = max(1, int(rows / factor)), max(1, int(columns / factor))
        coarse = torch.from_numpy(normal((1, channels, *size), "pyramid", layer, *key))
        stretched = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear")[0].numpy()
        noise = noise + np.float32(pyramid.discount**layer) * stretched
        if 1 in size:
            break
    return noise / noise.std(ddof=1)
