"""What several commands have in common: options, and the block in which they work."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bespoke.cli.display import Bars, explained

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; progress goes to standard error.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="Whose settings to use instead of recipe.toml beside the dataset.")
]


@contextmanager
def working(*, debug: bool) -> Generator[Bars, None, None]:
    """A block that draws progress bars, and whose errors a person understands."""
    with explained(debug=debug), Bars() as bars:
        yield bars
