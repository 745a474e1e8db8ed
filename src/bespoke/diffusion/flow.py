"""The arithmetic of flow matching, for models that learn the way from picture to noise as a straight line.

A `sigma` says how far along the line latents are: 0 is the picture, 1 is noise alone. Source of all: Esser et al. 2024,
"Scaling rectified flow transformers for high-resolution image synthesis".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bespoke.diffusion.schedule import Schedule
from bespoke.errors import BespokeError
from bespoke.shapes import Latents, PerItem, Timesteps, Told


@dataclass(frozen=True, eq=False)
class Flow(Schedule):
    """The sigma of each timestep, and as `signal` the power of the picture for a power of one in all."""

    sigmas: Float[Tensor, " steps"]

    @staticmethod
    def from_config(config: Mapping[str, object]) -> "Flow":
        """The schedule that a diffusers scheduler for flow matching describes: its sigmas from picture to noise.

        Raises: BespokeError when it moves sigmas by a picture's size, which no Stable Diffusion does.
        Source: diffusers' FlowMatchEulerDiscreteScheduler.
        """
        if config.get("use_dynamic_shifting"):
            problem = "The model's scheduler moves its sigmas by the picture's size (use_dynamic_shifting)."
            raise BespokeError(problem, "Take a Stable Diffusion 3, whose `shift` is one number.")
        count = int(str(config.get("num_train_timesteps", 1000)))
        shift = float(str(config.get("shift", config.get("flow_shift", 1.0))))
        sigmas = flow_shifted(torch.arange(1, count + 1, dtype=torch.float32) / count, shift)
        return Flow((1 - sigmas).square() / ((1 - sigmas).square() + sigmas.square()), "flow", sigmas)

    def to(self, device: torch.device) -> "Flow":
        """The same schedule on a device, so that no step waits for the host."""
        return Flow(self.signal.to(device), self.prediction, self.sigmas.to(device))

    def noisy(self, clean: Latents, noise: Latents, times: Timesteps) -> Latents:
        """Latents as they are at `times`. Source: equation 13."""
        return flow_noisy(clean, noise, self.sigmas[times])

    def target(self, clean: Latents, noise: Latents, times: Timesteps) -> Latents:  # noqa: ARG002 - it is one for all
        """What the network should answer: the direction from picture to noise. Source: section 2."""
        return flow_target(clean, noise)

    def signal_to_noise(self, times: Timesteps) -> PerItem:
        """The ratio of the signal's to the noise's power at `times`."""
        return ((1 - self.sigmas[times]) / self.sigmas[times]).square()

    def told(self, times: Timesteps) -> Told:
        """What the network is told of `times`: sigmas in thousandths, as far as there are a thousand timesteps."""
        return self.sigmas[times] * self.steps


def schedule_of(config: Mapping[str, object]) -> Schedule:
    """The schedule that a diffusers scheduler's configuration describes, of diffusion or of flow matching.

    Raises: BespokeError for a kind of schedule or prediction that is not known.
    """
    return (Flow if flows(config) else Schedule).from_config(config)


def flows(config: Mapping[str, object]) -> bool:
    """Whether a diffusers scheduler of these settings is for models that were trained by flow matching."""
    return str(config.get("_class_name", "")).startswith("FlowMatch") or bool(config.get("use_flow_sigmas"))


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
