"""Libraries that talk turned into ones that do not."""

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Generator[None, None, None]:
    """A block in which diffusers and transformers print no progress and no advice."""
    levels: list[tuple[Any, int]] = []
    # transformers comes first: it must be quiet before diffusers loads its parts, which would advise on torchvision.
    for name in ("transformers.utils.logging", "diffusers.utils.logging"):
        log = importlib.import_module(name)
        levels.append((log, log.get_verbosity()))
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
