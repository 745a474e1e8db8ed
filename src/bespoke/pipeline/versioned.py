"""`NAME@champion` or `NAME@7` turned into a folder of files that were found to be those that were registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    manifest: str
    """The hash of what it is."""
    origin: Mapping[str, Any]
    """What it came from, as it was registered."""


def is_registered(model: str, folder: Path = Path()) -> bool:
    """Whether a name means a version of the registry; what lies in the folder under that name comes first."""
    if not is_version(model) or (folder / model).exists():
        return False
    return not Run(folder / model.rpartition("@")[0]).recipe.is_file()


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
    run, origin = Run(catalogue.folder(version)), manifest.origin
    return Found(version.title, run, origin["base_hash"], version.manifest, origin)
