"""`bespoke evaluate`: models named in a shell turned into a scorecard, told in a few lines and shown on a page."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, Set, Store, working
from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.pipeline.evaluate import Evaluated

MARKS = {True: "✓", False: "✕", None: "?"}


def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL…", help="A run, RUN@last, RUN@epoch-9, any model; several at once.")
    ],
    against: Annotated[
        str, typer.Option(metavar="MODEL", help="What they are compared with: base is what the first was trained on.")
    ] = "base",
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures to come near to, which no training saw.")
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Measure all weights that the first one's run kept after epochs, too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the pictures; by default `evaluation` in the run's folder.")
    ] = None,
    settings: Set = None,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A scorecard against the base: is it better, where, by how much, and does it copy? Ends with a page."""
    with working(debug=debug, store=store) as bars:
        from bespoke.pipeline.evaluate import evaluate as run

        done = run(
            models, against, reference=reference, checkpoints=checkpoints, out=out, overrides=tuple(settings or ()),
            report=bars,
        )  # fmt: skip
    content = {
        "scores": done.scorecard.to_json()["scores"], "report": done.report, "content": done.content, "card": done.card,
        "verdicts": {m: [{"question": j.question, "answer": j.answer, "ok": j.ok} for j in found]
                     for m, found in done.verdicts.items()},
        "unmeasured": dict(done.scorecard.unmeasured), "seconds": done.seconds,
    }  # fmt: skip
    result(content, "\n".join(_told(done)), as_json=as_json)


def _told(done: "Evaluated") -> Iterator[str]:
    for model, judgements in done.verdicts.items():
        yield f"{model}, against {done.scorecard.control}:"
        for judgement in judgements:
            yield f"  {MARKS[judgement.ok]} {judgement.question} {judgement.answer}"
    if done.scorecard.unmeasured:
        yield f"Not measured: {', '.join(done.scorecard.unmeasured)}."
    yield f"Page: {relative(done.report)}"
