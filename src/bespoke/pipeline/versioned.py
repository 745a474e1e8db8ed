"""`NAME@champion` or `NAME@7` turned into a folder of files that were found to be those that were registered."""

from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.registry import Catalogue, is_version, place
from bespoke.workspace import Run


@dataclass(frozen=True)
class Found:
    """A registered version on this machine."""

    title: str
    """Its name with its number, which an alias does not tell for ever."""
    run: Run
    """Its files, laid out as a run; nothing may be written there."""
    base_hash: str
    """The hash of the base that it was trained on."""


def is_registered(model: str) -> bool:
    """Whether a name means a version of the registry; folders and files of that name come first."""
    return is_version(model) and not Path(model).exists() and not Run(Path(model.rpartition("@")[0])).recipe.is_file()


def found(model: str, start: Path | None = None) -> Found:
    """The version that a name means in the nearest registry of `start`, every file of it checked.

    Raises: BespokeError when there is no registry or no such version, or a file was changed or is missing.
    """
    try:
        where = place(start=start)
    except BespokeError as error:
        problem = f"There is no run {model.rpartition('@')[0]!r}, and no registry to look {model} up in."
        raise BespokeError(problem, error.hint) from error
    catalogue = Catalogue(where)
    version = catalogue.meant(model)
    manifest = catalogue.manifest(version)
    return Found(version.title, Run(catalogue.folder(version)), manifest.origin["base_hash"])
