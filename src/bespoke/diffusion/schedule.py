"""Clean latents, noise and timesteps turned into noisy latents and into what a network should predict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.shapes import Latents, PerItem, Timesteps, Told

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a network answers: the noise, v, the picture, or by flow matching the direction from picture to noise."""
KNOWN = ("epsilon", "v_prediction", "sample")
"""What schedulers with betas may have."""
Betas = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much signal is left at each timestep (papers write it as alpha-bar), and what the network predicts."""

    signal: Float[Tensor, " steps"]
    prediction: Prediction

    @staticmethod
    def from_config(config: Mapping[str, object]) -> "Schedule":
        """The schedule that a diffusers scheduler's configuration describes.

        Raises: BespokeError for a kind of schedule or prediction that is not known.
        """
        prediction = config.get("prediction_type", "epsilon")
        kind = config.get("beta_schedule", "linear")
        if prediction not in KNOWN or kind not in get_args(Betas):
            problem = f"The model's scheduler has beta_schedule {kind!r} and prediction_type {prediction!r}."
            raise BespokeError(problem, f"Known are {get_args(Betas)} and {KNOWN}.")
        count = int(str(config.get("num_train_timesteps", 1000)))
        start, end = (
            float(str(config.get(key, default))) for key, default in (("beta_start", 1e-4), ("beta_end", 0.02))
        )
        betas = _betas(cast(Betas, kind), count, start, end)
        if config.get("rescale_betas_zero_snr"):
            betas = _without_terminal_signal(betas)
        return Schedule(torch.cumprod(1 - betas, 0), cast(Prediction, prediction))

    @property
    def steps(self) -> int:
        """How many timesteps there are."""
        return len(self.signal)

    def to(self, device: torch.device) -> "Schedule":
        """The same schedule on a device, so that no step waits for the host."""
        return Schedule(self.signal.to(device), self.prediction)

    def noisy(self, clean: Latents, noise: Latents, times: Timesteps) -> Latents:
        """Latents as they are at `times`. Source: Ho et al. 2020, equation 4."""
        signal = self._at(times)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise

    def target(self, clean: Latents, noise: Latents, times: Timesteps) -> Latents:
        """What the network should answer at `times`. Source: Salimans & Ho 2022, section 4 and appendix D."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        signal = self._at(times)
        return signal.sqrt() * noise - (1 - signal).sqrt() * clean

    def told(self, times: Timesteps) -> Told:
        """What the network is told of `times`: themselves."""
        return times

    def signal_to_noise(self, times: Timesteps) -> PerItem:
        """The ratio of the signal's to the noise's power at `times`. Source: Kingma et al. 2021, equation 2."""
        signal = self.signal[times]
        return signal / (1 - signal)

    def _at(self, times: Timesteps) -> Float[Tensor, "b 1 1 1"]:
        return self.signal[times][:, None, None, None]


def _betas(kind: Betas, count: int, start: float, end: float) -> Float[Tensor, " steps"]:
    if kind == "linear":
        return torch.linspace(start, end, count, dtype=torch.float32)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2

    def left(part: float) -> float:  # Nichol & Dhariwal 2021, equation 17
        return math.cos((part + 0.008) / 1.008 * math.pi / 2) ** 2

    return torch.tensor([min(1 - left((i + 1) / count) / left(i / count), 0.999) for i in range(count)])


def _without_terminal_signal(betas: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """Betas rescaled so that nothing is left at the last step. Source: Lin et al. 2024, algorithm 1."""
    roots = torch.cumprod(1 - betas, 0).sqrt()
    roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    signal = roots**2
    return 1 - torch.cat([signal[:1], signal[1:] / signal[:-1]])
