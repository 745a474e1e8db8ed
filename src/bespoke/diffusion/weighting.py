"""How much a picture's error counts at its timestep, from the signal's power over the noise's there.

An error of the noise is the same as one of the clean latents times the ratio, one of v is that times the ratio plus
one, and one of flow matching's direction is that times the square of the ratio's root plus one. So a weight for one
prediction is a weight for the others, too.
"""

import math
from collections.abc import Callable

import torch

from bespoke.diffusion.schedule import Prediction
from bespoke.shapes import PerItem

Weighting = Callable[[PerItem, Prediction], PerItem]
"""From the signal-to-noise ratio of each picture and what the network predicts."""

MOST_RATIO = 1000.0
"""Where debiased estimation stops to follow the ratio, as in kohya's sd-scripts; below, its inverse."""


def min_snr_weights(signal_to_noise: PerItem, prediction: Prediction, gamma: float) -> PerItem:
    """Weights that keep easy timesteps from ruling the loss. Source: Hang et al. 2023, section 3.4."""
    capped = torch.clamp(signal_to_noise, max=gamma)
    if prediction == "epsilon":
        # At a terminal ratio of nothing the quotient's limit is one: the cap is not yet reached there.
        return torch.where(signal_to_noise > 0, capped / signal_to_noise, torch.ones_like(capped))
    return _from_clean(capped, signal_to_noise, prediction)


def soft_min_snr_weights(signal_to_noise: PerItem, prediction: Prediction, gamma: float) -> PerItem:
    """Min-SNR's weights without its corner: 1 / (1 / ratio + 1 / gamma) of the clean latents' error.

    Source: Crowson et al. 2024, "Scalable high-resolution pixel-space image synthesis with hourglass diffusion
    transformers".
    """
    return _from_epsilon(gamma / (signal_to_noise + gamma), signal_to_noise, prediction)


def debiased_weights(signal_to_noise: PerItem, prediction: Prediction) -> PerItem:
    """Weights that grow with the noise, so that it is the picture as a whole that is learnt.

    They are one over the ratio's root; with v, one over the ratio plus one.
    Source: Yu et al. 2023, "Debias the training of diffusion models"; the cap and v's form as in kohya's sd-scripts.
    """
    if prediction == "v_prediction":
        return 1 / (signal_to_noise.clamp(max=MOST_RATIO) + 1)
    roots = signal_to_noise.clamp(min=1 / MOST_RATIO, max=MOST_RATIO).sqrt()
    if prediction == "flow":
        return _from_clean(roots, signal_to_noise, prediction)
    return roots if prediction == "sample" else 1 / roots


def picture_weights(signal_to_noise: PerItem, prediction: Prediction) -> PerItem:
    """Weights that count the clean latents' error alike at all timesteps.

    Source: `precondition_outputs` of diffusers' training scripts for Stable Diffusion 3, for its prediction.
    """
    return _from_clean(torch.ones_like(signal_to_noise), signal_to_noise, prediction)


def cosmap_weights(signal_to_noise: PerItem, prediction: Prediction) -> PerItem:
    """Weights of the direction's error that follow the cosine schedule, given as those of what is predicted.

    Source: Esser et al. 2024, section 3.1, "CosMap".
    """
    sigmas = 1 / (1 + signal_to_noise.sqrt())
    clean = 2 / (math.pi * (1 - 2 * sigmas + 2 * sigmas.square())) / sigmas.square()
    return _from_clean(clean, signal_to_noise, prediction)


def p2_weights(signal_to_noise: PerItem, prediction: Prediction, gamma: float, k: float) -> PerItem:
    """Weights that take from the timesteps in which only fine detail is left: (k + ratio)^-gamma of the noise's error.

    Source: Choi et al. 2022, "Perception prioritized training of diffusion models", equation 8.
    """
    return _from_epsilon((k + signal_to_noise) ** -gamma, signal_to_noise, prediction)


def _from_epsilon(weights: PerItem, signal_to_noise: PerItem, prediction: Prediction) -> PerItem:
    """Weights of the noise's error as weights of the error of what the network predicts."""
    if prediction == "epsilon":
        return weights
    return _from_clean(weights * signal_to_noise, signal_to_noise, prediction)


def _from_clean(weights: PerItem, signal_to_noise: PerItem, prediction: Prediction) -> PerItem:
    """Weights of the clean latents' error as weights of the error of what the network predicts."""
    if prediction == "epsilon":
        return weights / signal_to_noise
    if prediction == "v_prediction":
        return weights / (signal_to_noise + 1)
    return weights / (1 + signal_to_noise.sqrt()).square() if prediction == "flow" else weights
