"""Records and a template turned into one HTML page on disk."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from bespoke.page.links import link, shown
from bespoke.workspace import write_text


def render(template: str, path: Path, filters: Mapping[str, Callable[..., object]], **content: object) -> None:
    """Writes the page to `path`, atomically; links in it are relative to its folder."""
    page = _environment(path.parent, filters).get_template(template).render(**content)
    # File names that are not UTF-8 reach Python as lone surrogates, which no UTF-8 file can hold.
    write_text(path, page.encode("utf-8", "backslashreplace").decode("utf-8"))


def _environment(folder: Path, filters: Mapping[str, Callable[..., object]]) -> Environment:
    """Jinja with everything escaped, and with links and the page's own words and plots as filters."""
    environment = Environment(
        loader=PackageLoader("bespoke.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja declares no type for its filters: a checker takes those it ships for the only ones.
    cast("dict[str, Callable[..., object]]", environment.filters).update(
        {"link": partial(link, folder=folder), "shown": partial(shown, folder=folder), **filters}
    )
    return environment
