"""Where feedback is kept: the nearest project's file, or a database by URL; and where its pictures lie."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from bespoke.errors import BespokeError
from bespoke.registry.store import of_file, shown
from bespoke.workspace import Project, cache

VARIABLE = "BESPOKE_FEEDBACK"
"""Names a store where nobody else does."""
SQLITE = "sqlite:///"
POSTGRES = ("postgresql+psycopg://", "postgresql://", "postgres://")


@dataclass(frozen=True)
class Place:
    """A store's address, and the folder of its pictures."""

    address: str
    """As SQLAlchemy writes it."""
    samples: Path

    @property
    def file(self) -> Path | None:
        """The store's file, where it is one."""
        local = self.address.startswith(SQLITE)
        return Path(unquote(self.address.removeprefix(SQLITE))) if local else None

    @property
    def project(self) -> Path:
        """The folder in which the pictures' own lies."""
        return self.samples.parent

    @property
    def shown(self) -> str:
        """What a person is told of it: no password."""
        return str(self.file) if self.file else shown(self.address)


def place(given: str = "", start: Path | None = None, *, must_be: bool = True) -> Place:
    """The store that is `given`, by URL, file or project folder; else what BESPOKE_FEEDBACK names, or the nearest.

    That is `feedback.db` in `start` or the first folder above that has one. With `must_be` a file must be there.
    Pictures lie beside the file or, of a database, in the project that `start` is in.

    Raises: BespokeError when there is none, or its kind is not known.
    """
    here = (start or Path.cwd()).absolute()
    near = next((folder for folder in (here, *here.parents) if Project(folder).feedback.is_file()), None)
    address = given or os.environ.get(VARIABLE, "") or (str(Project(near).feedback) if near else "")
    if not address:
        hint = "Go into a project whose service keeps some, or name a store: --feedback PATH or URL."
        raise BespokeError(f"There is no feedback here: no feedback.db in {here} or above.", hint)
    if scheme := next((one for one in POSTGRES if address.startswith(one)), ""):
        home = next((folder for folder in (here, *here.parents) if Project(folder).recipe.is_file()), cache())
        return Place(POSTGRES[0] + address.removeprefix(scheme), Project(home).samples)
    if "://" in address and not address.startswith(SQLITE):
        told = shown(address)
        raise BespokeError(f"Feedback cannot be kept at {told}.", "Name a file, or postgresql://HOST/DATABASE.")
    file = Path(unquote(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else address).expanduser()
    file = Project(file).feedback.absolute() if file.is_dir() else file.absolute()
    if must_be and not file.is_file():
        raise BespokeError(f"There is no feedback at {file}.", "Name a feedback.db, a project or a database's URL.")
    return Place(of_file(file), Project(file.parent).samples)
