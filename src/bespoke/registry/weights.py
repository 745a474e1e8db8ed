"""A training's figures turned into a run in Weights & Biases, where a person has installed it and asks for it."""

import importlib
import importlib.util
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.registry.tracking import About, State


def find() -> None:
    """Raises: BespokeError when Weights & Biases is not installed."""
    if importlib.util.find_spec("wandb") is None:
        hint = "Run pip install wandb, or set track.wandb = false."
        raise BespokeError("track.wandb is true, and Weights & Biases is not installed.", hint)


class Board:
    """A run in Weights & Biases. It sends by itself; `WANDB_MODE=offline` keeps it on this machine."""

    def __init__(self, folder: Path, about: About) -> None:
        self.trouble: str | None = None
        """What went wrong, in words, if something did."""
        self._run: Any = None
        with self._harmless():
            self._run = importlib.import_module("wandb").init(
                project=about.experiment, name=about.name, id=about.name, resume="allow", dir=str(folder),
                config=dict(about.parameters), settings={"silent": True},
            )  # fmt: skip

    def log(self, numbers: Mapping[str, float], step: int, seconds: float) -> None:  # noqa: ARG002 - as others log
        """Takes in the figures of a step; those of steps that it has already are passed over."""
        if self._run:
            with self._harmless():
                self._run.log(dict(numbers), step=step)

    def close(self, state: State, reason: str = "") -> None:
        """Sends what is left, and says how the run ended."""
        if self._run:
            with self._harmless():
                self._run.summary["bespoke/reason"] = reason
                self._run.finish(exit_code=0 if state == "FINISHED" else 1)

    @contextmanager
    def _harmless(self) -> Generator[None, None, None]:
        """A block whose errors are told and end this log, not the training."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it may raise
            self._run = None
            self.trouble = f"Weights & Biases cannot be used: {error}. Training goes on; metrics.jsonl has all figures."
