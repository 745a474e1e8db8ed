"""Events turned into lines of JSON and TensorBoard curves that outlive a kill."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bespoke.training.loop import Covered, Event, Saved, Step, Stopped, Validated
from bespoke.workspace import Run, write_text

NAMES: dict[type, str] = {Step: "step", Covered: "covered", Validated: "validated", Saved: "saved", Stopped: "stopped"}


class Tracker:
    """Appends each event to `metrics.jsonl` and its numbers to TensorBoard's log in the run's folder."""

    def __init__(self, run: Run, resumed_from: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if run.metrics.exists():
            # What came after the state is about to happen again; without a state, all of it.
            before = -1 if resumed_from is None else resumed_from
            kept = [json.dumps(row) for row in read(run.metrics) if row["step"] <= before]
            write_text(run.metrics, "".join(f"{line}\n" for line in kept))
        self._lines = run.metrics.open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(str(run.root / "tensorboard"), purge_step=resumed_from)

    def log(self, event: Event) -> None:
        """Writes one event."""
        row = {"event": NAMES[type(event)], **asdict(event)}
        self._lines.write(json.dumps(row, default=str) + "\n")
        self._lines.flush()
        for key, value in asdict(event).items():
            if isinstance(value, float):
                self._board.add_scalar(f"{row['event']}/{key}", value, event.step)

    def close(self) -> None:
        """Closes both logs."""
        self._lines.close()
        self._board.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics file; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return
