"""What a person names as a source - a folder, archives, tables, shards, a URL - turned into a folder of files."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bespoke.data.intake import hub, shards
from bespoke.data.intake.archives import DAMAGE, TAR, ZIP, hidden, place_of, refused, tarred, zipped
from bespoke.data.intake.embedded import ARROW, PARQUET, arrow, parquet
from bespoke.data.intake.folders import Found, printable
from bespoke.data.intake.landing import INCOMING, Landing, Spool
from bespoke.data.intake.remote import Blob, Local, Place, here, shown
from bespoke.errors import BespokeError

_Unpack = Callable[[Blob, Landing], Iterator[Found]]
_KINDS: tuple[tuple[tuple[str, ...], _Unpack], ...] = (
    (ZIP, zipped), (TAR, tarred), (PARQUET, parquet), (ARROW, arrow),
)  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """A folder of files, and what the source says of files beside or instead of what walking the folder would find."""

    folder: Path
    name: str
    """The source as the person named it, without passwords; of a pattern, the folder that holds what it means."""
    origin: Path | None = None
    """The folder of the person's own that is read, if it is one."""
    found: tuple[Found, ...] = ()
    """What must not come in and, of Parquet files, all pictures."""
    walk: bool = True
    samples: bool = False
    """Whether files of one name up to its first dot belong together, as in WebDataset's shards."""
    ours: bool = False
    """Whether the files were made for this import, so that they need not be copied."""


@dataclass(frozen=True)
class _Source:
    """Containers, or files behind a URL, and where they are."""

    name: str
    blobs: Sequence[Blob]
    key: str
    """The same, wherever the command is given."""
    origin: Path | None = None
    single: bool = False
    """Whether one container was named itself."""
    plain: bool = False
    """Whether they are files as they are."""


@contextmanager
def opened(
    source: str | Path, into: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Generator[Opened, None, None]:
    """The source as a folder; what arrived for it is gone after the block.

    It arrives in a hidden folder of `into`, by default in a temporary one. When the block fails, or is killed, what
    was read of several containers or of a URL stays in `into` for the next call. A text such as OWNER/NAME, where
    nothing of that name is on this machine, is a dataset of Hugging Face's hub. `progress` is called with (containers
    read, containers in all), or with files where they are no containers.

    Raises: BespokeError when there is no such source, it is damaged or a bomb, or `into` and it lie in one another.
    """
    found = _located(source)
    origin = found if isinstance(found, Path) else found.origin
    if into is not None:
        check_apart(origin, into)
    if isinstance(found, Path):
        yield Opened(found, printable(found.as_posix()), found)
        return
    with _folder(into) as folder, _spooled(found, folder) as spool:
        told = _taken(found, spool, progress or _silent)
        spool.settle()
        own = origin if origin is not None and origin.is_dir() else None
        unpacks = {_unpacker(blob.name) for blob in found.blobs} if not found.plain else set[_Unpack]()
        walk = not unpacks & {parquet, arrow}
        yield Opened(spool.folder, found.name, own, tuple(told), walk, samples=tarred in unpacks, ours=into is not None)


def check_apart(source: Path | None, folder: Path) -> None:
    """Refuses to write a folder into the source, or beside a source that lies in it."""
    if source is None:
        return
    inner, outer = folder.resolve(), source.resolve()
    if source.is_dir() and (inner.is_relative_to(outer) or outer.is_relative_to(inner)):
        problem = f"{folder} and the pictures {source} lie within one another."
        raise BespokeError(problem, "Name a folder beside that of the pictures, not in it.")


def _located(source: str | Path) -> Path | _Source:
    """The person's own folder as it is, or the containers that the source means."""
    on_hub = None if _unpacker(str(source)) else hub.address(source)
    url = on_hub or source
    path = here(url)
    if path is not None:
        return _local(path)
    try:
        return _remote(str(url))
    except BespokeError as error:
        if on_hub is None:
            raise
        raise BespokeError(f"There is no folder {source}, and {error.problem}", error.hint) from error


def _local(path: Path) -> Path | _Source:
    if shards.is_pattern(path):
        pattern = path.as_posix()
        base = shards.base_of(pattern)
        return _Source(printable(base), _of_one_kind(pattern, shards.here(pattern)), str(Path(base).resolve()))
    name = printable(path.as_posix())
    if not path.is_file():
        below = sorted(p for p in path.rglob("*") if p.is_file() and not hidden(p.relative_to(path).as_posix()))
        blobs = shards.containers_of([Local(p, p.relative_to(path).as_posix()) for p in below])
        return _Source(name, blobs, str(path.resolve()), path) if blobs else path
    if _unpacker(path.name) is None:
        raise _no_container(name)
    return _Source(name, [Local(path, path.name)], str(path.resolve()), single=True)


def _remote(url: str) -> _Source:
    if shards.is_pattern(url):
        base = shown(shards.base_of(url))
        return _Source(base, _of_one_kind(shown(url), shards.there(url)), base)
    place = Place(url)
    # A web server does not say whether it serves a folder, but for reading it.
    if _unpacker(place.shown) and (place.scheme in ("http", "https") or not place.is_folder()):
        return _Source(place.shown, [place.file()], place.shown, single=True)
    if not place.is_folder():
        place.file().about()
        raise _no_container(place.shown)
    files = place.files()
    blobs = shards.containers_of(files)
    told = [file for file in files if not hidden(file.name) and file.name.lower() not in hub.CARDS]
    if not blobs and len(told) == 1 and _unpacker(told[0].name):
        return _Source(place.shown, told, place.shown, single=True)
    return _Source(place.shown, blobs or files, place.shown, plain=not blobs)


def _of_one_kind(pattern: str, blobs: Sequence[Blob]) -> Sequence[Blob]:
    kinds = {_unpacker(blob.name) for blob in blobs}
    if None in kinds:
        raise _no_container(next(blob.name for blob in blobs if _unpacker(blob.name) is None))
    if len({kind in (parquet, arrow) for kind in kinds}) > 1:
        raise BespokeError(f"{pattern} names files of several kinds.", "Import those of each kind by themselves.")
    return blobs


def _no_container(name: str) -> BespokeError:
    kinds = ", ".join(ending for endings, _ in _KINDS for ending in endings)
    return BespokeError(f"{name} is a file, not a folder.", f"Name a folder with pictures, or one of {kinds}.")


def _unpacker(name: str) -> _Unpack | None:
    return next((unpack for endings, unpack in _KINDS if name.lower().endswith(endings)), None)


@contextmanager
def _folder(into: Path | None) -> Generator[Path, None, None]:
    if into is not None:
        yield into / INCOMING
        return
    with tempfile.TemporaryDirectory(prefix="bespoke-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _spooled(source: _Source, folder: Path) -> Generator[Spool, None, None]:
    """The place where the source's files arrive; it stays where that saves the next call work."""
    spool = Spool(folder, f"{source.single} {source.plain} {source.key}")
    try:
        yield spool
    except Exception:
        cheap = source.single and isinstance(source.blobs[0], Local)
        if cheap or not spool.whole:
            spool.remove()
        raise
    spool.remove()


def _silent(done: int, total: int) -> None:
    """Tells nobody."""


def _taken(source: _Source, spool: Spool, progress: Callable[[int, int], None]) -> list[Found]:
    """What the containers say of their files, which are in the spool afterwards."""
    if source.plain:
        listed = sorted((blob.name, *blob.about()) for blob in source.blobs)
        return spool.take("", listed, "", partial(_as_they_are, source.blobs, progress))
    told: list[Found] = []
    for done, blob in enumerate(source.blobs, start=1):
        told += _unpacked(source, blob, spool)
        progress(done, len(source.blobs))
    return told


def _unpacked(source: _Source, blob: Blob, spool: Spool) -> list[Found]:
    unpack = _unpacker(blob.name)
    assert unpack is not None
    below = "" if source.single and unpack in (zipped, tarred) else blob.name
    try:
        return spool.take(blob.name, blob.about(), below, partial(unpack, blob))
    except DAMAGE as error:
        which = source.name if source.single else f"{source.name}/{blob.name}"
        problem = f"{which} cannot be unpacked: {(str(error).splitlines() or ['it is damaged'])[0]}."
        alone = "Fetch or make it anew; or unpack what can be had of it yourself, and name the folder."
        several = "Fetch or make it anew, or leave it out; then run the same command again. The others are kept."
        raise BespokeError(problem, alone if source.single else several) from error


def _as_they_are(blobs: Sequence[Blob], progress: Callable[[int, int], None], landing: Landing) -> Iterator[Found]:
    """What of a folder behind a URL cannot be on this machine; the other files are in the landing's folder after it."""
    for done, blob in enumerate(blobs, start=1):
        if hidden(blob.name):
            continue
        place, trouble = place_of(landing, blob.name, plain=True)
        if not trouble and not landing.keeps(place, blob.about()[0] or -1):
            with blob.open() as content:
                trouble = landing.write(place, content)
        if trouble:
            yield refused(blob.name, trouble)
        progress(done, len(blobs))
