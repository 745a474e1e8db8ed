"""A prompt and two or three settings turned into pictures, one labelled sheet of them and one page."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.page.axes import AxesReport, Place, Table, write_axes
from bespoke.page.report import Fact
from bespoke.pipeline.axes import Axis, Cell, Given, axis, cell, different
from bespoke.pipeline.drawing import drawn, files
from bespoke.pipeline.naming import named
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.sample import read_all, settled
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request
from bespoke.sampling.grid import Block, sheet
from bespoke.workspace import atomic_file

SIDES = (256, 192, 128)
"""How wide pictures are shown on the page, in its pixels: the first with which a row fits on a wide screen."""
SCREEN = 1400


@dataclass(frozen=True)
class Plotted:
    """A grid on disk."""

    grid: Path
    """All pictures as one, with labels."""
    page: Path
    pictures: tuple[Path | None, ...]
    """By the third axis, then by rows, then by columns; nothing where one could not be drawn."""
    failures: tuple[str, ...] = ()
    """What could not be drawn, and why."""


@dataclass(frozen=True)
class _Made:
    """A cell where the axes' values meet, and what became of it."""

    cell: Cell
    labels: tuple[str, ...]
    file: Path
    problem: str = ""

    @property
    def picture(self) -> Path | None:
        return None if self.problem else self.file


def grid(
    model: str,
    prompt: str,
    *,
    x: Given,
    y: Given | None = None,
    z: Given | None = None,
    out: str | Path = "grid",
    seed: int | None = None,
    settings: Sample | None = None,
    overrides: Sequence[str] = (),
    safety_checker: bool = True,
    report: Reporter = silent,
) -> Plotted:
    """The prompt drawn with every combination of the axes' values: `x` in columns, `y` in rows, `z` in tables.

    All pictures have the same seed unless that is an axis. Those that lie in `out` already are not drawn again, so a
    grid can be stopped, gone on with and enlarged.

    Raises: BespokeError when there is no such model or setting, or no such value of it.
    """
    if not prompt.strip():
        raise BespokeError("There is nothing to draw.", 'Give a prompt: bespoke grid pico "a red apple" --x cfg=1,2,4')
    source = named(model)
    wish = settled(settings or source.settings, source.checkpoint, overrides)
    start = Cell(source, Request(prompt, wish.seed if seed is None else seed), wish)
    axes = [Axis() if given is None else axis(given, model, prompt) for given in (z, y, x)]
    different(axes)
    places = list(itertools.product(*(range(len(axis.values)) for axis in axes)))
    cells = [cell(start, list(zip(axes, place, strict=True))) for place in places]
    if any(axis.setting == "weight" for axis in axes) and not any(one.source.adapted for one in cells):
        raise BespokeError(f"{model} has no adapter to weigh.", "Name a run, or give the other axis: checkpoint=RUN.")
    asked = dict.fromkeys(text for one in cells for text in (one.request.prompt, one.settings.negative_prompt))
    read_all(source.checkpoint, list(asked), wish, report)
    return _made(start, axes, cells, Path(out), report, safety_checker=safety_checker)


def _made(
    start: Cell, axes: Sequence[Axis], cells: Sequence[Cell], out: Path, report: Reporter, *, safety_checker: bool
) -> Plotted:
    """The cells drawn, and shown as a sheet and as a page."""
    where = files(cells, out / "pictures", safety_checker=safety_checker)
    failed = drawn(dict(zip(where, cells, strict=True)), report, safety_checker=safety_checker)
    labels = itertools.product(*(axis.labels for axis in axes))
    made = [
        _Made(one, words, file, failed.get(file, "")) for one, words, file in zip(cells, labels, where, strict=True)
    ]
    done = Plotted(
        out / "grid.png",
        out / "index.html",
        tuple(one.picture for one in made),
        tuple(f"{', '.join(filter(None, one.labels))}: {one.problem}" for one in made if one.problem),
    )
    _draw_sheet(start, axes, made, done.grid)
    _write_page(start, axes, made, done)
    return done


def _draw_sheet(start: Cell, axes: Sequence[Axis], made: Sequence[_Made], path: Path) -> None:
    blocks = [
        Block(head, [[one.picture or one.problem for one in row] for row in rows])
        for head, rows in zip(axes[0].labels, _tables(axes, made), strict=True)
    ]
    title = f"{start.request.prompt}   ({start.source.name})"
    with atomic_file(path) as temporary:
        sheet(title, axes[2].labels, axes[1].labels, blocks).save(temporary, format="PNG")


def _write_page(start: Cell, axes: Sequence[Axis], made: Sequence[_Made], done: Plotted) -> None:
    tables = tuple(
        Table(head, tuple(tuple(_place(one) for one in row) for row in rows))
        for head, rows in zip(axes[0].labels, _tables(axes, made), strict=True)
    )
    columns = axes[2].labels
    side = next((side for side in SIDES if side * len(columns) <= SCREEN), SIDES[-1])
    facts = tuple(_facts(start, axes, len(made)))
    page = AxesReport(start.request.prompt, columns, axes[1].labels, tables, facts, done.grid, side)
    write_axes(page, done.page)


def _tables(axes: Sequence[Axis], made: Sequence[_Made]) -> list[list[Sequence[_Made]]]:
    """The cells by table, row and column."""
    rows, columns = len(axes[1].values), len(axes[2].values)
    lines = [made[first : first + columns] for first in range(0, len(made), columns)]
    return [lines[first : first + rows] for first in range(0, len(lines), rows)]


def _place(one: _Made) -> Place:
    return Place(one.picture, one.cell.request.prompt, one.cell.words(), one.problem)


def _facts(start: Cell, axes: Sequence[Axis], count: int) -> list[Fact]:
    """What no axis changes."""
    wish = start.settings
    said = {
        "checkpoint": ("Model", start.source.name),
        "guidance_scale": ("Guidance", f"{wish.guidance_scale:g}"),
        "guidance_end": ("Guidance ends", f"{wish.guidance_end:g}"),
        "num_inference_steps": ("Steps", f"{wish.num_inference_steps}"),
        "seed": ("Seed", f"{start.request.seed}"),
    }
    changed = {axis.setting for axis in axes}
    facts = [Fact(*words) for setting, words in said.items() if setting not in changed]
    facts += [Fact("Negative prompt", wish.negative_prompt)] if wish.negative_prompt else []
    return [*facts, Fact("Pictures", f"{count:,}")]
