"""A network's answers turned into one number for each picture: how far they are from what was wanted."""

import torch

from bespoke.diffusion.schedule import Prediction
from bespoke.shapes import Latents, PerItem


def squared_errors(answer: Latents, target: Latents) -> PerItem:
    """The mean squared error of each picture, in float32 whatever the network computed in."""
    return (answer.float() - target.float()).square().mean(dim=(1, 2, 3))


def min_snr_weights(signal_to_noise: PerItem, prediction: Prediction, gamma: float) -> PerItem:
    """Weights that keep easy timesteps from ruling the loss. Source: Hang et al. 2023, section 3.4."""
    capped = torch.clamp(signal_to_noise, max=gamma)
    if prediction == "epsilon":
        # At a terminal ratio of nothing the quotient's limit is one: the cap is not yet reached there.
        return torch.where(signal_to_noise > 0, capped / signal_to_noise, torch.ones_like(capped))
    if prediction == "v_prediction":
        return capped / (signal_to_noise + 1)
    return capped
