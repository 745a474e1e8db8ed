"""A network turned into its stabilised validation loss: the same pictures, timesteps and noise at every measurement."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bespoke.diffusion import Schedule
from bespoke.recipe.tree import Validation
from bespoke.training.batches import Batch, Material, validation_batches
from bespoke.training.step import losses


@dataclass(frozen=True)
class Measurement:
    """One measurement: the loss of every validation picture at every stratum, [n strata]."""

    losses: np.ndarray

    @property
    def mean(self) -> float:
        """The plain mean: comparable with other trainers' validation loss."""
        return float(self.losses.mean())

    def log_ratio(self, base: "Measurement") -> float:
        """The mean log-ratio to the base's losses, each stratum counting the same: below 0 is better than the base.

        The raw mean is ruled by the timesteps where losses are large; the ratio hears them all.
        """
        return float(np.log(self.losses / base.losses).mean())

    def bands(self, base: "Measurement") -> list[float]:
        """The mean log-ratio in each stratum, from clean to noisy."""
        return np.log(self.losses / base.losses).mean(axis=0).tolist()


class Validator:
    """Measures a network on one material's validation pictures."""

    def __init__(self, material: Material, settings: Validation, schedule: Schedule, size: int) -> None:
        self.material, self.settings, self.schedule, self.size = material, settings, schedule, size

    def __bool__(self) -> bool:
        """Whether there is anything to measure on."""
        return bool(self.material.validation)

    @torch.no_grad()
    def __call__(self, network: Any, device: torch.device) -> Measurement:
        """The measurement of `network` as it is now; its mode is put back afterwards."""
        training = network.training
        network.eval()
        schedule = self.schedule.to(device)
        found = [losses(network, batch.to(device), schedule).cpu() for batch in self._batches()]
        network.train(training)
        values = torch.cat(found).double().numpy()
        return Measurement(values.reshape(len(self.material.validation), self.settings.strata))

    def _batches(self) -> Iterator[Batch]:
        return validation_batches(self.material, self.settings.strata, self.settings.seed, self.schedule, self.size)
