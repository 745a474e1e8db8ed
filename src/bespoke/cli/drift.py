"""`bespoke feedback drift`: what has changed in served pictures, told in a few lines and shown on a page."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, Set, Store, working
from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.pipeline.drift import Drifted

CANARIES = {
    "": "no canaries",
    "same": "canaries: the same, bit for bit",
    "other bits": "canaries: the same but for the last bits",
    "changed": "canaries: CHANGED",
}


def drift(
    version: Annotated[
        str, typer.Option(metavar="NAME@7", help="The version; by default the one that drew the newest picture kept.")
    ] = "",
    against: Annotated[
        str, typer.Option(metavar="NAME@6", help="Compare with this version's last pictures, not with its own first.")
    ] = "reference",
    now: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day that it is, in UTC; those before it are looked at."),
    ] = None,
    canaries: Annotated[bool, typer.Option(help="Draw the frozen prompts anew, once a day.")] = True,
    feedback: Annotated[
        str,
        typer.Option("--feedback", metavar="PATH|URL", help="The store: a feedback.db, a project, PostgreSQL's URL."),
    ] = "",
    settings: Set = None,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Whether a version's pictures, its prompts or its speed have changed, day by day, with a page; for every night."""
    with working(debug=debug, store=store) as bars:
        from bespoke.pipeline.drift import drift as run
        from bespoke.pipeline.drift import to_json

        done = run(
            ".", version, against, feedback=feedback, overrides=tuple(settings or ()),
            now=now.date() if now else None, canaries=canaries, report=bars,
        )  # fmt: skip
    content = {**to_json(done), "new_days": done.new, "page": done.page, "content": done.content}
    result(content, "\n".join(_told(done)), as_json=as_json)


def _told(done: "Drifted") -> Iterator[str]:
    from bespoke.pipeline.driftpage import headline

    yield f"{done.version}: {headline(done)}"
    yield f"{len(done.days)} days looked at, {done.new} of them now; {CANARIES[done.flight.worst]}."
    for sentence in done.advice:
        yield f"  {sentence}"
    yield f"Page: {relative(done.page)}"
