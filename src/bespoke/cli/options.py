"""What several commands have in common: options, and the block in which they work."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from bespoke.cli.display import Bars, explained
from bespoke.workspace import hashing_told

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; progress goes to standard error.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="Whose settings to use instead of recipe.toml beside the dataset.")
]
STORE = "BESPOKE_STORE"
"""The variable that names a registry; `registry.places` reads it."""
Store = Annotated[
    str, typer.Option("--store", metavar="URL", help="The registry: a server, a bespoke.db; by default the nearest.")
]
PREVIEW = "--preview"
PICTURES = 5
"""How many pictures a preview shows where no number is given."""


class Previewing(TyperCommand):
    """A command whose `--preview` may stand without its number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own copy of click has it
        """The arguments left over, after the number was put in where it was left out: click wants a value."""
        given: list[str] = []
        for word, after in zip(args, [*args[1:], ""], strict=True):
            given += [word, str(PICTURES)] if word == PREVIEW and not after.lstrip("-").isdecimal() else [word]
        return super().parse_args(ctx, given)


@contextmanager
def working(*, debug: bool, store: str = "") -> Generator[Bars, None, None]:
    """A block that draws progress bars, and whose errors a person understands; `store` is where it finds versions."""
    with explained(debug=debug), looking_in(store), Bars() as bars, hashing_told(bars):
        yield bars


@contextmanager
def looking_in(store: str) -> Generator[None, None, None]:
    """A block in which `NAME@champion` is looked up in that store."""
    before = os.environ.get(STORE)
    if store:
        os.environ[STORE] = store
    try:
        yield
    finally:
        if store and before is None:
            os.environ.pop(STORE)
        elif before is not None:
            os.environ[STORE] = before
