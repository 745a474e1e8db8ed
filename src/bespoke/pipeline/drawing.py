"""The cells of a grid turned into files: only those that are missing, and networks are read as rarely as can be."""

import functools
import hashlib
import itertools
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bespoke.models.marks import fingerprint
from bespoke.models.wearing import worked_in
from bespoke.page.wording import duration
from bespoke.pipeline.axes import Cell
from bespoke.pipeline.naming import marks_of
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.warm import HERE, shared
from bespoke.sampling import NO_NUMBER, READING, Drawn, choices, draw, save_picture
from bespoke.workspace import remembered

CHECKER = "safety_checker"
MANY = 200
"""So many pictures are announced before they are drawn, with the time they will take."""
LETTERS = 160
"""How much of a failure's message is kept."""
STAGE = "draw"
Batch = list[tuple[Path, Cell]]


def files(cells: Sequence[Cell], folder: Path, *, safety_checker: bool) -> list[Path]:
    """The file of each cell in `folder`; its name is a hash of all that the picture depends on.

    Models of equal weights give equal names, whatever they are called.
    """
    part, file = functools.cache(fingerprint), functools.cache(remembered)
    parts = (CHECKER,) if safety_checker else ()
    models = {id(cell.source): marks_of(cell.source, parts, part, file) for cell in cells}
    return [folder / f"{_digest(cell, models[id(cell.source)])}.png" for cell in cells]


def drawn(cells: Mapping[Path, Cell], report: Reporter, *, safety_checker: bool) -> dict[Path, str]:
    """Draws the cells whose files are missing, and gives why some could not be drawn, by file.

    Each batch is written as soon as it is drawn. One that fails is drawn again picture by picture.
    """
    missing = {file: cell for file, cell in cells.items() if not file.is_file()}
    if not missing:
        report(STAGE, len(cells), len(cells), "all were there already")
        return {}
    work = _Work(report, len(missing), safety_checker=safety_checker)
    batches = list(_batches(missing))
    if len(missing) >= MANY:
        work.announce(batches)
    report(STAGE, 0, len(missing))
    for batch in batches:
        work.draw(batch)
    return work.failures


class _Work:
    """What was drawn so far and how fast, and what could not be."""

    def __init__(self, report: Reporter, total: int, *, safety_checker: bool) -> None:
        self._report, self._total, self._checker = report, total, safety_checker
        self._began, self._done, self._black = time.perf_counter(), 0, 0
        self.failures: dict[Path, str] = {}

    def draw(self, batch: Batch) -> None:
        """Draws and writes one batch."""
        for (file, cell), made in zip(batch, self._attempt(batch), strict=True):
            if isinstance(made, str):
                self.failures[file] = made
            else:
                weight = cell.weight if cell.source.adapted else 1.0
                save_picture(made, file, cell.settings, cell.source.name, adapter_weight=weight)
                self._black += made.flagged
            self._done += 1
        self._report(STAGE, self._done, self._total, self._note())

    def announce(self, batches: Sequence[Batch]) -> None:
        """Says how many pictures there are to draw and how long that will take, as measured with the first model."""
        try:
            forecast = f", about {duration(self._forecast(batches))} here"
        except Exception:  # noqa: BLE001 - the pictures that cannot be drawn say so themselves
            forecast = ""
        words = f"{self._total:,} pictures to draw{forecast}; stop whenever you like, the same command goes on"
        self._report("grid", 1, 1, words)

    def _attempt(self, batch: Batch) -> list[Drawn | str]:
        try:
            return list(self._tried(batch))
        except Exception as error:  # noqa: BLE001 - whatever a model or a scheduler raises is shown in its place
            if len(batch) > 1:
                return [made for one in batch for made in self._attempt([one])]
            return [_message(error)]

    def _tried(self, batch: Batch) -> list[Drawn | str]:
        cell = batch[0][1]
        pipeline = self._ready(cell)
        with warnings.catch_warnings(), worked_in(pipeline):
            warnings.filterwarnings("ignore", NO_NUMBER, RuntimeWarning)
            drawn = list(draw(pipeline, [one.request for _, one in batch], cell.settings))
        return [NO_NUMBER if one.broken else one for one in drawn]

    def _forecast(self, batches: Sequence[Batch]) -> float:
        """Seconds for all: what a batch of 1 and of 3 steps takes, once the first has warmed up the machine."""
        _, short, long = (self._timed(batches[0], steps) for steps in (1, 1, 3))
        step = max(0.0, (long - short) / 2)
        rest, size = max(0.0, short - step), len(batches[0])
        cells = [cell for batch in batches for _, cell in batch]
        return sum(rest + step * cell.settings.num_inference_steps for cell in cells) / size

    def _timed(self, batch: Batch, steps: int) -> float:
        cell, began = batch[0][1], time.perf_counter()
        wish = cell.settings.model_copy(update={"num_inference_steps": steps})
        pipeline = self._ready(cell)
        with worked_in(pipeline):
            for _ in draw(pipeline, [one.request for _, one in batch], wish):
                pass
        return time.perf_counter() - began

    def _ready(self, cell: Cell) -> Any:
        return HERE.ready(cell.source, cell.settings, cell.weight, safety_checker=self._checker)

    def _note(self) -> str:
        rate = self._done / max(1e-9, time.perf_counter() - self._began)
        said = [f"{rate:.3g} pictures/s"]
        said += [f"{self._black} made black by the model's safety checker"] if self._black else []
        said += [f"{len(self.failures)} could not be drawn"] if self.failures else []
        return ", ".join(said)


def _batches(cells: Mapping[Path, Cell]) -> Iterator[Batch]:
    """The cells in batches of equal settings: checkpoints outermost, then their adapters, schedulers and weights."""
    networks: dict[Any, int] = {}
    sources: dict[int, int] = {}
    for cell in cells.values():
        networks.setdefault(shared(cell.source), len(networks))
        sources.setdefault(id(cell.source), len(sources))

    def settings(item: tuple[Path, Cell]) -> tuple[Any, ...]:
        cell = item[1]
        models = networks[shared(cell.source)], sources[id(cell.source)]
        wish = cell.settings
        how = json.dumps(choices(wish), sort_keys=True)
        return *models, wish.scheduler, cell.weight, wish.num_inference_steps, how

    for _, group in itertools.groupby(sorted(cells.items(), key=settings), key=settings):
        members = list(group)
        size = members[0][1].settings.batch_size
        yield from (members[first : first + size] for first in range(0, len(members), size))


def _digest(cell: Cell, model: Mapping[str, Any]) -> str:
    wish = cell.settings
    all_of_it = {
        "model": model,
        "prompt": cell.request.prompt,
        "seed": cell.request.seed,
        "settings": choices(wish),
        "reading": READING,
        "weight": cell.weight if cell.source.adapted else None,
    }
    return hashlib.sha256(json.dumps(all_of_it, sort_keys=True).encode()).hexdigest()[:32]


def _message(error: Exception) -> str:
    """Why a picture could not be drawn, in a line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first if len(first) <= LETTERS else first[: LETTERS - 1] + "…"
