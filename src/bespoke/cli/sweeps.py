"""`bespoke sweep`: words typed in a shell turned into the verb that looks for better settings."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, Set, working
from bespoke.workspace import relative


def sweep(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe.toml; its [sweep] says what is tried.")],
    trials: Annotated[int | None, typer.Option(help="Trainings in all, those of earlier calls among them.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Begin no training after so many minutes of them.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="On the Ray cluster of RAY_ADDRESS, several at a time.")] = False,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Better settings, found by trying: trainings compared by validation or scorecard, the poor ones ended early."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.sweep import sweep as run

        asked = {"sweep.trials": trials, "sweep.minutes": minutes, "sweep.backend": "ray" if ray else None}
        wanted = [*(settings or ()), *(f"{key}={value}" for key, value in asked.items() if value is not None)]
        found = run(recipe, wanted, report=bars)
    best, own = found.best, found.default
    content = {
        "trials": [asdict(trial) for trial in found.trials], "best": asdict(best), "default": asdict(own),
        "recipe": found.recipe, "page": found.page, "reason": found.reason, "by": found.by,
    }  # fmt: skip
    lines = [f"  {key} = {value}" for key, value in best.settings.items()]
    score = "none" if own.score is None else f"{own.score:+.4f}"
    head = f"{found.reason}. Best: training {best.number} with {best.score:+.4f}; the recipe's own settings: {score}."
    words = "\n".join([head, *lines, f"Page: {relative(found.page)}", f"Recipe: {relative(found.recipe)}"])
    result(content, words, as_json=as_json)
