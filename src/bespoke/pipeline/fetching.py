"""Models and adapters behind a URL turned into files on this machine: fetched once, and gone on with after a kill."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import filelock

from bespoke.data import here, shown
from bespoke.data.intake.hub import DATASETS, SCHEME
from bespoke.data.intake.remote import CHUNK, Place, Remote
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, find, hub
from bespoke.workspace import cache, is_full

INDEX, CARD = "model_index.json", "README.md"
FILES = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
"""What the URL of a single file ends with; another URL may also be that of a folder."""
SETTINGS = (".json", ".txt", ".model")


def is_url(name: str | Path) -> bool:
    """Whether a name is a URL, also one of a file on this machine."""
    return isinstance(name, str) and "://" in name


def checkpoint_of(name: str, *, download: bool = True) -> Checkpoint:
    """The checkpoint of a name as `find` knows it, or behind a URL: a folder in diffusers' layout, or one file.

    Raises: BespokeError as `find` and `brought`.
    """
    if not is_url(name):
        return find(name, download=download)
    whole = name.removeprefix(f"{SCHEME}://").rstrip("/")
    if whole != name and hub.parsed(whole) and not whole.endswith(FILES):
        return find(whole, download=download)
    return replace(find(str(brought(name, download=download))), name=shown(name))


def path_of(name: str, folder: Path, *, download: bool = True) -> Path:
    """The path that a name means, counted from a folder, or where the file behind a URL is now.

    Raises: BespokeError as `brought`.
    """
    return brought(name, download=download) if is_url(name) else folder / name


def brought(url: str, *, download: bool = True) -> Path:
    """The file or folder on this machine that a URL means; what is there and has not changed is not fetched again.

    It lies in the cache that whole models are unpacked into. Where the place cannot be asked, or must not without
    `download`, it is the copy that came last.

    Raises: BespokeError when there is nothing, it cannot be read, or a package for such URLs is missing.
    """
    if path := here(url):
        if not path.exists():
            raise BespokeError(f"There is nothing at {url}.", "Check the path.")
        return path
    if url.startswith(f"{SCHEME}://") and not url.startswith(DATASETS):
        return hub.file_of(url.removeprefix(f"{SCHEME}://"), download=download)
    place, room = Place(url), cache() / "fetched" / _digest(url)
    try:
        files = _files(place) if download else []
        mark = _digest(json.dumps([(file.name, *file.about()) for file in files]))
    except BespokeError:
        if copy := _newest(room):
            return copy
        raise
    if not download:
        if copy := _newest(room):
            return copy
        raise BespokeError(f"{place.shown} is not on this machine.", "It is fetched when it is trained or drawn with.")
    with _alone(room):
        return _fetched(files, room / mark, place)


def _files(place: Place) -> list[Remote]:
    """The files of what a URL means: one file, or those of a model's folder that are read, its index last.

    Raises: BespokeError when there is nothing, or a folder is no model.
    """
    if place.shown.endswith(FILES):
        return [place.file()]
    with place.explained(place.shown):
        folder = place.system.exists(place.below(INDEX))
    if not folder:
        if not place.scheme.startswith("http") and place.is_folder():
            raise BespokeError(f"{place.shown} is no model in diffusers' layout: it has no {INDEX}.", "Name a file.")
        return [place.file()]
    found = [file for file in place.files() if _is_read(PurePosixPath(file.name))]
    return sorted(found, key=lambda file: (file.name == INDEX, file.name))


def _is_read(name: PurePosixPath) -> bool:
    """Whether a file of a model's folder is read: card, settings, whole weights of its parts; no halves, no pickles."""
    if len(name.parts) == 1:
        return name.name in (INDEX, CARD)
    weights = name.suffix == ".safetensors" and "." not in name.stem
    return len(name.parts) == 2 and (weights or name.suffix in SETTINGS)


def _fetched(files: list[Remote], folder: Path, place: Place) -> Path:
    """What was fetched into a folder: the one file, or the folder itself; what lies there already is kept."""
    if files[-1].name == INDEX:
        for file in files:
            _fetch(file, folder / file.name)
        return folder
    target = folder / (PurePosixPath(place.shown).name or "file")
    _fetch(files[0], target)
    return _named(target)


def _fetch(file: Remote, target: Path) -> None:
    """Fetches a file that is not there; a part of it is gone on with where the place can be read from there on."""
    if _named(target).exists():
        return
    size, tag = file.about()
    part = target.with_name(f".{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    if not tag:  # nothing says that it is still the same file
        part.unlink(missing_ok=True)
    begun = part.stat().st_size if part.exists() else 0
    try:
        with _from(file, begun) as content, part.open("r+b" if begun else "wb") as out:
            out.seek(content.tell())
            out.truncate()
            while block := content.read(CHUNK):
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        if is_full(error):
            raise BespokeError(f"The disk is full: {target} could not be fetched.", "Free some space there.") from error
        raise
    if size is not None and part.stat().st_size != size:
        problem = f"{file.shown} did not come whole: {part.stat().st_size:,} of {size:,} bytes."
        raise BespokeError(problem, "The same command goes on where it was.")
    with part.open("rb") as content:
        plain = content.read(9)[8:] == b"{"
    os.replace(part, target if target.suffix in (*FILES, *SETTINGS, ".md") or not plain else _with_ending(target))


def _from(file: Remote, begun: int) -> io.BufferedReader:
    """A stream of a file from a place on, or from its beginning where it cannot be read by place."""
    if begun:
        with contextlib.suppress(BespokeError, OSError, ValueError):
            content = file.open(random=True)
            content.seek(begun)
            return content
    return file.open()


def _with_ending(target: Path) -> Path:
    """The name of a safetensors file whose URL does not end so, as a shop's downloads do not."""
    return target.with_name(f"{target.name}.safetensors")


def _named(target: Path) -> Path:
    """The name that a fetched file has."""
    return target if target.exists() else _with_ending(target)


def _newest(room: Path) -> Path | None:
    """The copy of a URL that came last, if there is one that is whole."""
    copies = sorted(room.glob("*/"), key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
    return next((copy for folder in copies if (copy := _whole(folder))), None)


def _whole(folder: Path) -> Path | None:
    if (folder / INDEX).is_file():
        return folder
    found = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    return found[0] if len(found) == 1 else None


@contextlib.contextmanager
def _alone(room: Path) -> Generator[None, None, None]:
    """A block that one process enters at a time; another waits, and finds what the first fetched."""
    room.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(room / ".lock"):
        yield


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
