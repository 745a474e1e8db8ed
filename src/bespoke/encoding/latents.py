"""Pictures turned into the autoencoder's means and log variances, so that each step draws its latents afresh."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bespoke.shapes import Latents, Moments


class LatentEncoder:
    """Encodes uint8 pictures [H, W, 3] with a model's VAE, one at a time so that no row depends on its neighbours."""

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae, self.device = vae.to(device), device

    @torch.no_grad()
    def __call__(self, read: Callable[[int], np.ndarray], numbers: Sequence[int]) -> Moments:
        """The moments of the pictures that `read` gives for `numbers`."""
        rows: list[torch.Tensor] = []
        for number in numbers:
            pixels = torch.tensor(read(number)).permute(2, 0, 1)[None].float().to(self.device)
            rows.append(self.vae.encode(pixels / 127.5 - 1).latent_dist.parameters.float().cpu())
        return torch.cat(rows)


def sampled(moments: Moments, noise: Latents, scale: float, shift: float = 0.0) -> Latents:
    """Scaled latents drawn from the moments with that noise. Source: Kingma & Welling 2013, section 2.4."""
    mean, log_variance = moments.chunk(2, dim=1)
    return (mean + torch.exp(log_variance.clamp(-30, 20) / 2) * noise - shift) * scale
