"""Files on a shelf that no version names, found and taken away: what kills and full disks left there, and deletions."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.registry.blobs import Shelf
from bespoke.registry.catalogue import Catalogue
from bespoke.workspace import is_half_written

UNTOUCHED = 24 * 3600
"""Seconds. A file that is being written is not this old."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Unneeded:
    """What no version names."""

    blobs: tuple[str, ...] = ()
    """The hashes of files."""
    folders: tuple[Path, ...] = ()
    """Versions laid out that are none any more."""
    halves: tuple[Path, ...] = ()
    """Files that a killed command began, and that nobody wrote to for a day."""
    bytes: int = 0
    """How much room is free without all of it."""

    def __bool__(self) -> bool:
        return bool(self.blobs or self.folders or self.halves)


def unneeded(catalogues: Sequence[Catalogue]) -> Unneeded:
    """What no version of these stores, which share a shelf, names of that shelf.

    For a block of `shelf.changing`: what another process puts there is named by no version before all of it is there.

    Raises: BespokeError when a store cannot be reached, or of one version it cannot be told what it names.
    """
    shelf = catalogues[0].shelf
    # Looked at first: what comes from a server meanwhile is of a version that may not have been there a moment ago.
    files, folders = sorted(shelf.root.glob("blobs/*/*")), [*shelf.root.glob("*/")]
    needed = [catalogue.needed() for catalogue in catalogues]
    blobs = frozenset[str]().union(*(one.blobs for one in needed))
    manifests = frozenset[str]().union(*(one.manifests for one in needed))
    gone = [file for file in files if _DIGEST.fullmatch(file.name) and file.name not in blobs]
    laid = [folder for folder in sorted(folders) if _DIGEST.fullmatch(folder.name) and folder.name not in manifests]
    halves = [file for file in files if is_half_written(file) and _is_old(file)]
    return Unneeded(tuple(file.name for file in gone), tuple(laid), tuple(halves), _room([*gone, *halves], laid))


def remove(found: Unneeded, shelf: Shelf) -> None:
    """Takes away what was found, in the same block of `shelf.changing` in which it was."""
    for folder in found.folders:
        shutil.rmtree(folder)
    for digest in found.blobs:
        shelf.remove(digest)
    for file in found.halves:
        file.unlink(missing_ok=True)


def _is_old(file: Path) -> bool:
    try:
        return file.stat().st_mtime < time.time() - UNTOUCHED
    except OSError:  # it became what it was to become
        return False


def _room(files: Sequence[Path], folders: Sequence[Path]) -> int:
    """The bytes that are free once all of it is gone: a file with a name elsewhere keeps its room."""
    every = [*files, *(file for folder in folders for file in folder.rglob("*") if file.is_file())]
    found = {(about.st_dev, about.st_ino): about for about in map(Path.stat, every)}
    names = Counter((about.st_dev, about.st_ino) for about in map(Path.stat, every))
    return sum(about.st_size for key, about in found.items() if about.st_nlink <= names[key])
