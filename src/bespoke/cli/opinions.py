"""`bespoke feedback page`: kept pictures turned into a page on which people say what they think of them."""

from typing import Annotated
from urllib.parse import quote

import typer

from bespoke.cli.blind import server
from bespoke.cli.display import errors
from bespoke.cli.feedback import Feedback
from bespoke.cli.options import Debug, working


def page(
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets others in the network in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.")] = 0,
    rater: Annotated[str | None, typer.Option(metavar="NAME", help="Who judges, to leave the question out.")] = None,
    feedback: Feedback = "",
    debug: Debug = False,
) -> None:
    """A page on which people say what they think of kept pictures, one by one, or of two; until Ctrl-C."""
    with working(debug=debug):
        serve = server()
        from bespoke.feedback import Store, place, rater_name

        name = rater_name(rater) if rater is not None else ""
        with Store(place(feedback)) as store:
            serve(store, host=host, port=port, ready=lambda address: _invite(address, name))


def _invite(address: str, rater: str) -> None:
    there = f"{address}?rater={quote(rater)}" if rater else address
    errors.print(f"Judge pictures here: {there}\nCtrl-C ends it.", highlight=False)
