"""Where a registry is: the nearest project's store, a file, or a server's address; and where its files lie here."""

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bespoke.errors import BespokeError
from bespoke.registry.store import is_store, of_file, shown
from bespoke.workspace import Project, cache

VARIABLE = "BESPOKE_STORE"
"""Names a store where nobody else does."""
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Place:
    """A store, and where this machine keeps files of its versions."""

    address: str
    """The URL of a server or a database."""
    shelf: Path

    @property
    def file(self) -> Path | None:
        """The store's file, where it is one: the shelf is then the only place that has the files."""
        local = self.address.startswith(SQLITE)
        return Path(unquote(self.address.removeprefix(SQLITE))) if local else None

    @property
    def shown(self) -> str:
        """What a person is told of it: no password."""
        return str(self.file) if self.file else shown(self.address)


def place(given: str = "", start: Path | None = None, *, must_be: bool = True) -> Place:
    """The store that is `given`, by URL, file or project folder; else the nearest one to `start` and above.

    That is what BESPOKE_STORE names, or the first folder upwards whose recipe names a store in `[track]` or that has a
    `bespoke.db`. With `must_be` a file must be there already.

    Raises: BespokeError when there is none.
    """
    here = (start or Path.cwd()).absolute()
    address = given or os.environ.get(VARIABLE, "") or _nearest(here)
    if not address:
        hint = "Go into a project that has trained, or name a store: --store URL."
        raise BespokeError(f"There is no registry here: no bespoke.db in {here} or above.", hint)
    if "://" in address and not address.startswith(SQLITE):
        project = _project(here)
        return Place(address, (Project(project) if project else Project(cache())).versions)
    file = Path(unquote(address.removeprefix(SQLITE))).expanduser().absolute()
    file = Project(file).store if file.is_dir() else file
    if must_be and not file.is_file():
        raise BespokeError(f"There is no registry at {file}.", "Name a bespoke.db, a project or a server's URL.")
    return Place(of_file(file), Project(file.parent).versions)


def sharing(one: Place) -> list[Place]:
    """The stores whose versions may have files on the shelf of this one: itself, and those of the shelf's project.

    Raises: BespokeError when the project's recipe names a store that cannot be.
    """
    project = Project(one.shelf.parent)
    beside = [str(file) for file in sorted(project.root.iterdir()) if is_store(file)] if project.root.is_dir() else []
    known = [place(name, project.root) for name in (*beside, *filter(None, [_named(project)]))]
    return [one, *(other for other in dict.fromkeys(known) if other.shelf == one.shelf and other != one)]


def _nearest(here: Path) -> str:
    for folder in _upwards(here):
        if named := _named(Project(folder)):
            return named
        if Project(folder).store.is_file():
            return str(Project(folder).store)
    return ""


def _named(project: Project) -> str:
    """The store that a project's recipe names."""
    try:
        content: dict[str, Any] = tomllib.loads(project.recipe.read_text(encoding="utf-8-sig"))
        return str(content.get("track", {}).get("store", ""))
    except (OSError, ValueError, AttributeError):
        return ""  # whoever reads the recipe says what is wrong with it


def _project(here: Path) -> Path | None:
    return next((f for f in _upwards(here) if Project(f).recipe.is_file() or Project(f).store.is_file()), None)


def _upwards(here: Path) -> Iterator[Path]:
    return iter((here, *here.parents))
