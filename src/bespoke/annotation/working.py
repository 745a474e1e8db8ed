"""Work that needs a model, done over parts of a dataset by processes that each make the model once."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from bespoke import scale
from bespoke.scale import Workers


def answered(
    parts: Sequence[Any], work: Callable[[Any], Any], ready: Callable[[], object], workers: Callable[[], Workers]
) -> Generator[Any]:
    """What `work` says of each part, in order; its model is made by `ready`, and only where there are parts.

    `workers` is asked after that, when the model is on this machine.
    """
    if not parts:
        return
    began = time.monotonic()
    ready()
    # Every other process must make its own first: that is worth it when the work takes longer than that.
    patience = max(scale.PATIENCE, time.monotonic() - began)
    yield from scale.map(parts, work, workers=workers(), batch=1, patience=patience)
