"""`bespoke serve`: names of models typed in a shell turned into a service that runs until it is told to end."""

from typing import Annotated

import typer

from bespoke.cli.display import errors, explained
from bespoke.cli.options import Debug, Set, Store, looking_in
from bespoke.errors import BespokeError

OF_A_SERVER = {"fastapi", "multipart", "prometheus_client", "python_multipart", "starlette", "uvicorn"}
OF_A_CLUSTER = {"ray"}


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL…", help="NAME@champion, NAME@7, pico, a run …; by default every champion."),
    ] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Let anyone draw who can reach the address.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Draw on a Ray cluster.")] = False,
    replicas: Annotated[str, typer.Option(metavar="LEAST..MOST", help="With --ray: so many replicas.")] = "1..1",
    store: Store = "",
    settings: Set = None,
    debug: Debug = False,
) -> None:
    """Pictures over HTTP by OpenAI's and A1111's protocols, until Ctrl-C; `--set serve.port=8080` and others."""
    with explained(debug=debug), looking_in(store):
        try:
            from bespoke.pipeline.serve import serve as run

            counts = _counts(replicas) if ray else None
            run(models or (), overrides=tuple(settings or ()), keys=not no_keys, replicas=counts, ready=_invite)
        except ModuleNotFoundError as error:
            _missing((error.name or "").split(".")[0], error)


def _invite(address: str, key: str) -> None:
    lines = [f"Pictures at {address}v1/images/generations, described at {address}openapi.json"]
    lines += [f"The key for this service, which ends with it: {key}"] if key else []
    errors.print("\n".join([*lines, "Ctrl-C ends it."]), highlight=False, markup=False, soft_wrap=True)


def _counts(replicas: str) -> tuple[int, int]:
    least, dots, most = replicas.partition("..")
    counts = [int(each) for each in (least, most if dots else least) if each.isdecimal()]
    if len(counts) != 2 or not 1 <= counts[0] <= counts[1]:
        raise BespokeError(f"--replicas {replicas} is no range.", "Example: --replicas 1..4")
    return counts[0], counts[1]


def _missing(library: str, error: ModuleNotFoundError) -> None:
    for known, extra in ((OF_A_SERVER, "serve"), (OF_A_CLUSTER, "serve,ray")):
        if library in known:
            raise BespokeError(f"Serving needs {library}, which is not installed.", f'pip install "bespoke[{extra}]"')
    raise error
