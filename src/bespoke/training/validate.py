"""A network turned into its stabilised validation loss: the same pictures, timesteps and noise at every measurement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from bespoke.diffusion import Schedule
from bespoke.recipe.training import Validation
from bespoke.training.batches import Example, Material, validation_batches
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

    def per_picture(self, base: "Measurement") -> np.ndarray:
        """The mean log-ratio of each picture, float64 [n]: pictures are what a test compares."""
        return np.log(self.losses / base.losses).mean(axis=1)

    def bands(self, base: "Measurement") -> list[float]:
        """The mean log-ratio in each stratum, from clean to noisy."""
        return np.log(self.losses / base.losses).mean(axis=0).tolist()


@runtime_checkable
class Processes(Protocol):
    """What a measurement needs of Accelerate's handle on the processes."""

    @property
    def process_index(self) -> int:
        """The number of this one."""
        ...

    @property
    def num_processes(self) -> int:
        """How many there are."""
        ...

    def reduce(self, tensor: Any, reduction: str) -> Any:
        """The tensors of all processes as one."""
        ...


class Validator:
    """Measures a network on the sets of one material: `validation`, the `probe` of training pictures, any others.

    Several processes, `workers`, share the batches; each then knows all losses. With `even` they go forward equally
    often, which a network needs whose weights they share out.
    """

    def __init__(
        self,
        material: Material,
        settings: Validation,
        schedule: Schedule,
        size: int,
        workers: Processes | None = None,
        *,
        even: bool = False,
    ) -> None:
        self.material, self.settings, self.schedule, self.size = material, settings, schedule, size
        self.workers, self.even = workers if workers and workers.num_processes > 1 else None, even

    def __bool__(self) -> bool:
        """Whether there is anything to measure on."""
        return bool(self.material.validation)

    @property
    def sets(self) -> dict[str, Sequence[Example]]:
        """The examples of each set; `validation` is the first."""
        return {"validation": self.material.validation, **self.material.others}

    @torch.no_grad()
    def __call__(self, network: Any, device: torch.device) -> dict[str, Measurement]:
        """The measurement on each set of `network` as it is now; its mode is put back afterwards.

        What was compiled for training is not: its batches have other shapes, each of which would be compiled anew.
        Unless it is `even`, processes may go forward unequally often, and `network` must not wait for the others.
        """
        training = network.training
        network.eval()
        with torch.compiler.set_stance("force_eager"):
            own = {name: self._own(network, device, examples) for name, examples in self.sets.items()}
        network.train(training)
        strata = self.settings.strata
        return {
            name: Measurement(self._all(values).cpu().double().numpy().reshape(-1, strata))
            for name, values in own.items()
        }

    def _own(self, network: Any, device: torch.device, examples: Sequence[Example]) -> Tensor:
        """The losses of one set that this process measures, each at its place; 0 at the others' places."""
        settings, schedule = self.settings, self.schedule.to(device)
        share = (self.workers.process_index, self.workers.num_processes) if self.workers else (0, 1)
        values = torch.zeros(len(examples) * settings.strata, device=device)
        for places, batch in validation_batches(
            self.material, examples, settings.strata, settings.seed, self.schedule, self.size, share, even=self.even
        ):
            values[places] = losses(network, batch.to(device), schedule)[: places.stop - places.start]
        return values

    def _all(self, values: Tensor) -> Tensor:
        """The losses that all processes measured; adding zeros changes none of them."""
        return self.workers.reduce(values, reduction="sum") if self.workers else values


def gap(
    validation: Measurement, probe: Measurement, bases: tuple[Measurement, Measurement]
) -> tuple[float, float, float]:
    """How much worse validation pictures do than the probe, in log-ratio: a 95 % interval, least, middle and most.

    Source: Welch 1947, for two samples of unequal variance.
    """
    ours, theirs = validation.per_picture(bases[0]), probe.per_picture(bases[1])
    middle = float(ours.mean() - theirs.mean())
    if min(len(ours), len(theirs)) < 2:
        return middle, middle, middle
    parts = [values.var(ddof=1) / len(values) for values in (ours, theirs)]
    if not sum(parts):
        return middle, middle, middle
    freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (ours, theirs), strict=True))
    half = float(stdtrit(freedom, 0.975) * math.sqrt(sum(parts)))
    return middle - half, middle, middle + half
