"""`bespoke grid`: settings typed in a shell turned into a labelled grid of pictures."""

from pathlib import Path
from typing import Annotated

import typer

from bespoke.cli.display import THEIRS, result
from bespoke.cli.options import Debug, Json, Set, Store, working
from bespoke.workspace import relative

FEW = 5
"""How many failures are named; JSON holds them all."""


def grid(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="pico, a run, RUN@last, RUN@epoch-9, a diffusers folder, a hub id."),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    x: Annotated[str, typer.Option("--x", metavar="SETTING=VALUES", help="The columns: cfg=1,2,4 or cfg=1..8..4.")],
    y: Annotated[
        str | None, typer.Option("--y", metavar="SETTING=VALUES", help="The rows: steps=5,10,20; checkpoint=all.")
    ] = None,
    z: Annotated[
        str | None, typer.Option("--z", metavar="SETTING=VALUES", help="Several tables: scheduler=ddim,euler_a.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of every picture, unless that is an axis.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of the grid; what lies there is not drawn again.")] = Path(
        "grid"
    ),
    safety_checker: Annotated[bool, typer.Option(help="Use the model's safety checker, where it has one.")] = True,
    settings: Set = None,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """One prompt by two or three settings, as one labelled picture and a page.

    SETTING is cfg, steps, seed, checkpoint, weight, scheduler or prompt.
    """
    with working(debug=debug, store=store) as bars:
        from bespoke.pipeline.grid import grid as run

        changed = tuple(settings or ())
        done = run(
            model, prompt, x=x, y=y, z=z, out=out, seed=seed, overrides=changed, safety_checker=safety_checker,
            report=bars,
        )  # fmt: skip
    content = {"grid": done.grid, "page": done.page, "pictures": done.pictures, "failures": done.failures}
    lines = [f"{len(done.pictures)} pictures in one: {relative(done.grid)}", f"Page: {relative(done.page)}"]
    if done.failures:
        lines.append(f"{len(done.failures)} could not be drawn:")
        lines += [f"  {failure}" for failure in done.failures[:FEW]]
        lines += [f"  and {len(done.failures) - FEW} more"] if len(done.failures) > FEW else []
    result(content, "\n".join(lines), as_json=as_json)
    if done.failures:
        raise typer.Exit(THEIRS)
