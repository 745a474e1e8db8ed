"""`bespoke keys new …`: what is typed in a shell turned into keys of the service."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bespoke.cli.display import explained, result
from bespoke.cli.options import Debug, Json
from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.serving.keys import Key

keys_app = typer.Typer(
    help="Keys of the service: who may draw, and how much.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")]
KeyFile = Annotated[
    Path, typer.Option("--file", metavar="FILE", help="The file of keys; by default that of the project here.")
]
HERE = Path("serve-keys.json")
"""The same as `serving.keys.FILE`, which is not loaded for `--help`."""


@keys_app.command("new")
def new_key(
    name: Name,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="What it opens: draw (the default), metrics, admin.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Pictures a minute, in place of serve.rate_per_minute.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Pictures waiting or being drawn, in place of serve.most_per_key.")
    ] = None,
    file: KeyFile = HERE,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A new key. It is shown this once: the file has only its hash."""
    with explained(debug=debug):
        from bespoke.serving.keys import make

        secret = make(file, name, scopes or ["draw"], rate_per_minute=rate, most_per_key=most)
    _shown(name, secret, file, as_json=as_json)


@keys_app.command("list")
def list_keys(file: KeyFile = HERE, as_json: Json = False, debug: Debug = False) -> None:
    """The keys, oldest first, and which were revoked."""
    with explained(debug=debug):
        from bespoke.serving.keys import listed

        found = listed(file)
    words = "\n".join(_told(key) for key in found) or "There is no key yet: bespoke keys new NAME"
    content = [key.model_dump(mode="json", exclude={"hash"}) for key in found]
    result({"file": file, "keys": content}, words, as_json=as_json)


@keys_app.command("revoke")
def revoke_key(name: Name, file: KeyFile = HERE, as_json: Json = False, debug: Debug = False) -> None:
    """Lets a key open nothing any more; a service that runs heeds it with its next request."""
    with explained(debug=debug):
        from bespoke.serving.keys import revoke

        count = revoke(file, name)
    result({"name": name, "revoked": count, "file": file}, f"The key {name} opens nothing any more.", as_json=as_json)


@keys_app.command("rotate")
def rotate_key(
    name: Name,
    overlap: Annotated[float, typer.Option(min=0, metavar="HOURS", help="So long the old one still holds.")] = 0.0,
    file: KeyFile = HERE,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A new key in place of an old one, with its scopes and limits."""
    with explained(debug=debug):
        from bespoke.serving.keys import rotate

        secret = rotate(file, name, timedelta(hours=overlap))
    _shown(name, secret, file, as_json=as_json)


def _shown(name: str, secret: str, file: Path, *, as_json: bool) -> None:
    words = f"{secret}\nKeep it: it is shown this once. {relative(file)} has its hash, under the name {name}."
    result({"name": name, "key": secret, "file": file}, words, as_json=as_json)


def _told(key: "Key") -> str:
    limits = {"a minute": key.rate_per_minute, "at once": key.most_per_key}
    said = [", ".join(key.scopes), *(f"{limit:g} {what}" for what, limit in limits.items() if limit is not None)]
    end = f"; revoked from {key.revoked:%Y-%m-%d %H:%M} UTC" if key.revoked else ""
    return f"{key.name:<24} {'; '.join(said)}; made {key.created:%Y-%m-%d}{end}"
