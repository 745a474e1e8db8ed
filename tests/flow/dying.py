"""What processes of `tests.warm` do until they are killed."""

import os
import signal
from collections.abc import Sequence
from typing import Any

from bespoke import caption_data, scale, train
from bespoke.pipeline import challenging, mirror, updating


def die(*_: Any) -> None:
    """The end of this process, without anything being cleared away."""
    os.kill(os.getpid(), signal.SIGKILL)


def update(project: str, stage: str, *rest: str) -> None:
    """`bespoke feedback propose --run`, killed as a stage is done but not on record, or in the middle of training."""
    by_stage: Any = challenging.BY_STAGE
    whole = by_stage[stage]

    def heard(what: str, done: int, *_: Any) -> None:
        if stage == "train" and what == "train" and done >= 2:
            die()

    by_stage[stage] = lambda work: die(whole(work))
    updating.propose(project, run=True, approve="--approve" in rest, report=heard)


def send(recipe: str, words: Sequence[str]) -> None:
    """Trains, and sends what is there to the store all the time."""
    mirror.EVERY = 0.01
    train(recipe, words)


def caption(dataset: str, words: Sequence[str]) -> None:
    """Puts pictures into words, and starts other processes for the second batch, not only when that is quicker."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test may run where Ctrl-C is ignored
    original = scale.map

    def at_once(*records: Any, **how: Any) -> Any:
        return original(*records, **{**how, "patience": 0.0})

    scale.map = at_once
    caption_data(dataset, overrides=words)
