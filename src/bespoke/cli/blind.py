"""`bespoke compare`: words typed in a shell turned into a server of pairs to rate, and ratings into words."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from bespoke.cli.display import errors, result
from bespoke.cli.options import Debug, Json, Store, working
from bespoke.errors import BespokeError
from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.evaluation.preference import Agreement, WinRate
    from bespoke.feedback.results import Results

OF_A_SERVER = {"fastapi", "starlette", "uvicorn"}


def compare(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="A B…", help="Models as `bespoke sample` takes them, or folders of pictures."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="One prompt a line, instead of the run's own.")
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Pictures of each prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the first picture of a prompt, and of the order of pairs.")] = 0,
    repeat: Annotated[float, typer.Option(help="The part of the pairs that each rater is shown twice.")] = 0.2,
    out: Annotated[Path, typer.Option(help="The folder of pictures and ratings.")] = Path("compared"),
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets others in the network rate.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.")] = 0,
    rater: Annotated[str | None, typer.Option(metavar="NAME", help="Who rates, to leave the question out.")] = None,
    results: Annotated[bool, typer.Option("--results", help="Say what the ratings say so far; rate nothing.")] = False,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pairs of pictures to rate in a browser, not knowing whose they are, until Ctrl-C; then what the ratings say."""
    with working(debug=debug, store=store) as bars:
        if not results:
            serve = server()
            from bespoke.feedback import rater_name
            from bespoke.pipeline.blind import blind
            from bespoke.pipeline.sample import read_prompts

            name = rater_name(rater) if rater is not None else ""
            prompts = read_prompts(file) if file else None
            made = blind(models or (), prompts, out=out, n=n, seed=seed, repeated=repeat, report=bars)
            for note in made.notes:
                errors.print(note, highlight=False, markup=False)
            serve(made, host=host, port=port, ready=lambda address: _invite(address, name))
            made.ratings.close()
        from bespoke.pipeline.blind import tally

        found = tally(out, models or ())
    content = {**found.to_json(), "ratings": out / "ratings.csv", "results": out / "results.json"}
    result(content, "\n".join((*_told(found), f"Ratings: {relative(out / 'ratings.csv')}")), as_json=as_json)


def server() -> Any:  # noqa: ANN401 - the function, of a room that may lack its libraries
    """What serves pages in a browser. Raises: BespokeError when its libraries are missing."""
    try:
        from bespoke.web import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OF_A_SERVER:
            raise
        raise BespokeError(
            f"Pages need {error.name}, which is not installed.", 'pip install "bespoke[serve]"'
        ) from None
    return serve


def _invite(address: str, rater: str) -> None:
    page = f"{address}?rater={quote(rater)}" if rater else address
    errors.print(f"Rate here: {page}\nWhat the ratings say: {address}results\nCtrl-C ends it.", highlight=False)


def _told(found: "Results") -> Iterator[str]:
    """What the ratings say, for a person to read."""
    from bespoke.cli.sentences import counted

    for rate in found.win_rates:
        if not rate.count:
            yield f"{rate.first} and {rate.second}: not rated yet"
            continue
        yield (
            f"{rate.first} preferred to {rate.second}: {rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%}); "
            f"{rate.wins} won, {rate.ties} equal, {rate.losses} lost; {_verdict(rate)}"
        )
    for each in found.strengths:
        yield f"  strength of {each.model}: {each.value:+.2f} ({each.low:+.2f} to {each.high:+.2f})"
    for each in found.raters:
        twice = f", the same answer to {each.same} of {each.repeated} shown twice" if each.repeated else ""
        yield f"{each.name}: {each.done} of {counted(each.total, 'pair')} rated{twice}"
    if found.between:
        yield f"raters agree {_agreed(found.between)}"
    if found.within:
        yield f"with themselves {_agreed(found.within)}"
    yield from found.notes


def _verdict(rate: "WinRate") -> str:
    return f"{rate.preferred} is preferred" if rate.preferred else "cannot tell which is preferred"


def _agreed(made: "Agreement") -> str:
    if not made.units:
        return "on nothing yet: no pair was rated twice"
    alpha = "alpha not known" if made.alpha != made.alpha else f"alpha {made.alpha:.2f}"
    interval = f"{made.low:.2f} to {made.high:.2f}"
    return f"in {made.share:.0%} of pairs of answers ({alpha}, {interval}; {made.units} rated more than once)"
