"""Pictures shown while they are drawn: how far they are, and a file of what can be seen of them so far."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bespoke.sampling import grid
from bespoke.sampling.preview import Glimpse, Step
from bespoke.workspace import atomic_file

FILE = "preview.png"
SECONDS = 1.0
"""So long lies between two looks: one costs little, and a person sees no more."""


class Previews:
    """Hears of each step of a drawing; with a folder, `preview.png` in it shows the pictures as they come."""

    def __init__(
        self, pipeline: Any, folder: Path | None, tell: Callable[[str], None], seconds: float = SECONDS
    ) -> None:
        self._glimpse = Glimpse(pipeline)
        self._file, self._tell, self._seconds = folder and folder / FILE, tell, seconds
        self._last = float("-inf")

    def __enter__(self) -> "Previews":
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the preview: the pictures themselves are there."""
        if self._file:
            self._file.unlink(missing_ok=True)

    def __call__(self, step: Step) -> None:
        """Tells and shows one step, if enough time has gone by since the last."""
        now = time.perf_counter()
        if now - self._last < self._seconds:
            return
        self._last = now
        self._tell(f"step {step.number} of {step.steps}")
        if self._file:
            self._show(self._file, step)

    def _show(self, file: Path, step: Step) -> None:
        with atomic_file(file) as temporary:
            grid(self._glimpse(step), 4).save(temporary, format="PNG")
