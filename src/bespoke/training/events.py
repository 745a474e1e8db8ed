"""What happens in a training, as frozen records: the loop yields them, and whoever called it shows and keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """Some steps were made; the figures are means since the last such event."""

    step: int
    loss: float
    """Not a number where every step was left out."""
    learning_rate: float
    gradient_norm: float
    images_per_second: float
    epoch: float
    weight_norm: float = 0.0
    """Length of all trained weights together."""
    skipped: int = 0
    """Steps that were left out, because their gradients were no numbers."""
    memory_gb: float = 0.0
    """The most memory that this process has had, in GiB."""
    gpu_memory_gb: float = 0.0
    """The most of the GPU's memory that this process has had, in GiB; 0 without one."""


@dataclass(frozen=True)
class Validated:
    """The network was measured on the validation pictures, and on whatever else is measured."""

    step: int
    loss: float
    log_ratio: float
    """The mean log-ratio to the untouched base; below 0 is better than the base."""
    bands: tuple[float, ...]
    best: bool
    others: Mapping[str, float] = field(default_factory=dict)
    """The log-ratio on each other set: `probe` are training pictures."""
    gap: tuple[float, float, float] | None = None
    """How much worse validation pictures do than the probe: the least, the middle and the most of a 95 % interval."""
    chance: float | None = None
    """The chance of such an improvement on the measurement that patience counts from, if there was none."""


@dataclass(frozen=True)
class Covered:
    """An epoch is over, or the training is within one: how many of the person's pictures were trained on for it."""

    step: int
    epoch: int
    """Counted from 1."""
    pictures: int
    """How many were used, each counted once."""
    coverage: float
    """Their share of all training pictures; a picture that counts less than 1 may be missing."""
    complete: bool


@dataclass(frozen=True)
class Kept:
    """The weights after an epoch were written, never to be removed."""

    step: int
    epoch: int
    folder: Path


@dataclass(frozen=True)
class Staged:
    """A stage of the training is over and the next begins, counted from 0."""

    step: int
    stage: int
    reason: str
    """Why the stage before ended."""


@dataclass(frozen=True)
class Saved:
    """A state to resume from is on disk."""

    step: int
    folder: Path


@dataclass(frozen=True)
class Noted:
    """Something about how this training is carried out that a person may want to know; each is said once."""

    step: int
    note: str


@dataclass(frozen=True)
class Stopped:
    """The training is over."""

    step: int
    best_step: int
    reason: str
    finished: bool


Event = Step | Covered | Validated | Kept | Staged | Saved | Noted | Stopped
