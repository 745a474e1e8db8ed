"""Records and a template turned into one HTML page on disk."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket

from bespoke.page.links import link, shown
from bespoke.workspace import write_text


class _Compiled(BytecodeCache):
    """Templates compiled once for this process: that takes longer than writing a page by them."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Gives a template what was compiled of it."""
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keeps what was compiled of a template."""
        self._kept[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


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
        bytecode_cache=_COMPILED,
    )
    # Jinja declares no type for its filters: a checker takes those it ships for the only ones.
    cast("dict[str, Callable[..., object]]", environment.filters).update(
        {"link": partial(link, folder=folder), "shown": partial(shown, folder=folder), **filters}
    )
    return environment
