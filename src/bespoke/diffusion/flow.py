"""The arithmetic of flow matching, for models that learn the way from picture to noise as a straight line.

A `sigma` says how far along the line latents are: 0 is the picture, 1 is noise alone. Nothing trains by it yet; Stable
Diffusion 3 will. Source of all: Esser et al. 2024, "Scaling rectified flow transformers for high-resolution image
synthesis".
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bespoke.shapes import Latents, PerItem

FlowWeighting = Literal["none", "logit_normal", "mode", "sigma_sqrt", "cosmap"]


def flow_noisy(clean: Latents, noise: Latents, sigmas: PerItem) -> Latents:
    """Latents as they are at `sigmas`. Source: equation 13."""
    at = sigmas[:, None, None, None]
    return (1 - at) * clean + at * noise


def flow_target(clean: Latents, noise: Latents) -> Latents:
    """What the network should answer: the direction from picture to noise, the same all along. Source: section 2."""
    return noise - clean


def flow_shifted(sigmas: Float[Tensor, " n"], shift: float) -> Float[Tensor, " n"]:
    """Sigmas moved towards noise where `shift` is above 1, as large pictures need. Source: equation 23."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def logit_normal_sigmas(uniform: Float[Tensor, " n"], mean: float = 0.0, std: float = 1.0) -> Float[Tensor, " n"]:
    """Logit-normal sigmas, most in the middle, of numbers that are uniform in [0, 1). Source: equation 19."""
    return torch.sigmoid(mean + std * torch.special.ndtri(uniform))


def mode_sigmas(uniform: Float[Tensor, " n"], scale: float) -> Float[Tensor, " n"]:
    """Sigmas with a heavy tail at both ends, of numbers that are uniform in [0, 1). Source: equation 20."""
    return 1 - uniform - scale * (torch.cos(math.pi / 2 * uniform).square() - 1 + uniform)


def flow_weights(sigmas: PerItem, weighting: FlowWeighting) -> PerItem:
    """What a picture's error counts for at its sigma: 1, where the choice of sigmas itself is the weighting.

    Source: section 3.1; the names are those of diffusers' training scripts. `sigma_sqrt` is infinite at 0.
    """
    if weighting == "sigma_sqrt":
        return sigmas**-2.0
    if weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * sigmas + 2 * sigmas.square()))
    return torch.ones_like(sigmas)
