"""Events turned into lines of JSON and TensorBoard curves that outlive a kill."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bespoke.training.events import Covered, Event, Kept, Noted, Saved, Staged, Step, Stopped, Validated
from bespoke.workspace import Run, write_text

NAMES: dict[type, str] = {
    Step: "step", Covered: "covered", Validated: "validated", Kept: "kept", Staged: "staged", Saved: "saved",
    Noted: "noted", Stopped: "stopped",
}  # fmt: skip
PLACES = {"gap": ("low", "middle", "high")}
"""Names for the places of fields that are lists; other lists are numbered."""
Row = dict[str, Any]


class Tracker:
    """Appends each event to `metrics.jsonl` and, if asked, its numbers to TensorBoard's log in the run's folder."""

    def __init__(self, run: Run, resumed_from: int | None = None, *, tensorboard: bool = True) -> None:
        if run.metrics.exists():
            # What came after the state is about to happen again; without a state, all of it.
            before = -1 if resumed_from is None else resumed_from
            kept = [json.dumps(row) for row in read(run.metrics) if row["step"] <= before]
            write_text(run.metrics, "".join(f"{line}\n" for line in kept))
        self._run, self._lines = run, run.metrics.open("a", encoding="utf-8")
        self._board = _board(run, resumed_from) if tensorboard else None

    def log(self, event: Event) -> Row:
        """Writes one event, and gives its row."""
        row: Row = {"event": NAMES[type(event)], "time": round(time.time(), 3)}
        row |= {key: self._plain(value) for key, value in asdict(event).items()}
        self._lines.write(json.dumps(row, allow_nan=False) + "\n")
        self._lines.flush()
        if self._board:
            for name, value in numbers(row).items():
                self._board.add_scalar(name, value, event.step)
        return row

    def close(self) -> None:
        """Closes both logs."""
        self._lines.close()
        if self._board:
            self._board.close()

    def _plain(self, value: Any) -> Any:
        """The value as JSON has it: what is no finite number is null, and paths are relative to the run's folder."""
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, Path):
            root = self._run.root
            return (value.relative_to(root) if value.is_relative_to(root) else value).as_posix()
        if isinstance(value, Mapping):
            return {str(key): self._plain(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._plain(part) for part in value]
        return value


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a row by their names in every log: `step/loss`, `validated/others/probe`, `validated/gap/low`."""
    fields = {key: value for key, value in row.items() if key not in ("event", "step", "time")}
    return {f"{row['event']}/{name}": value for name, value in _flat(fields)}


def read(path: Path) -> Iterator[Row]:
    """The rows of a metrics file; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def _flat(fields: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Numbers and truths, however deep they lie; nulls and words are left out."""
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}/")
        elif isinstance(value, list):
            names = PLACES.get(key, [str(place) for place in range(len(value))])
            yield from _flat(dict(zip(names, value, strict=True)), f"{above}{key}/")
        elif isinstance(value, (bool, int, float)):
            yield f"{above}{key}", float(value)


def _board(run: Run, resumed_from: int | None) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.root / "tensorboard"), purge_step=resumed_from)
