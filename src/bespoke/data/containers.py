"""What a person names as a source - a folder, an archive, a table, a URL - turned into a folder of files."""

import errno
import io
import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from bespoke.data import hub
from bespoke.data.names import safe_suffix
from bespoke.data.sources import Found, litter, printable
from bespoke.data.tables import REPEATS, TABLES, TEXTS, marks_of, one_line, plain_columns, repeats_of
from bespoke.errors import BespokeError

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PARQUET, ARROW = (".parquet",), (".arrow",)
SAVED = frozenset(("state.json", "dataset_info.json", "dataset_dict.json"))
"""What Hugging Face's `save_to_disk` writes beside its tables."""
UNSAFE = "unsafe"
"""The reason of what an archive holds and what must not be unpacked."""
MOST_BYTES = 1 << 30
"""Of one unpacked file; no picture that bespoke reads is larger."""
MOST_GROWTH = 200
"""Times its own size that an archive may unpack to; pictures hardly shrink, and a bomb grows a thousandfold."""
ALWAYS_ALLOWED = 1 << 30
"""Bytes that any archive may unpack to."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Opened:
    """A folder of files, and what the source says of files beside or instead of what walking the folder would find."""

    folder: Path
    name: str
    """The source as the person named it, without passwords."""
    origin: Path | None = None
    """The folder of the person's own that is read, if it is one."""
    found: tuple[Found, ...] = ()
    """What must not come in and, of Parquet files, all pictures."""
    walk: bool = True


@contextmanager
def opened(source: str | Path) -> Generator[Opened, None, None]:
    """The source as a folder; what was unpacked or downloaded for it is gone after the block.

    A text such as OWNER/NAME, where nothing of that name is on this machine, is a dataset of Hugging Face's hub.

    Raises: BespokeError when there is no such source, or it is damaged or a bomb.
    """
    on_hub = None if _unpacker(str(source)) else hub.address(source)
    url = on_hub or source
    address = urlsplit(url) if isinstance(url, str) and _URL.match(url) else None
    if address is None or address.scheme == "file":
        path = Path(unquote(address.path) if address else source)
        with _local(path, printable(path.as_posix()), path) as inner:
            yield inner
        return
    name = address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
    with _temporary() as folder:
        try:
            _download(str(url), name, folder)
        except BespokeError as error:
            if on_hub is None:
                raise
            raise BespokeError(f"There is no folder {source}, and {error.problem}", error.hint) from error
        with _local(_only_container(folder) or folder, name, None) as inner:
            yield inner


@contextmanager
def _local(path: Path, name: str, origin: Path | None) -> Generator[Opened, None, None]:
    tables = [path] if path.is_file() else _only_tables(path)
    if not tables:
        yield Opened(path, name, origin)
        return
    unpack = _unpacker(tables[0].name)
    if unpack is None:
        kinds = ", ".join((*ZIP, *TAR, *PARQUET, *ARROW))
        raise BespokeError(f"{name} is a file, not a folder.", f"Name a folder with pictures, or one of {kinds}.")
    with _temporary() as folder:
        found: list[Found] = []
        for number, table in enumerate(tables):
            try:
                inner = unpack(table, folder / f"{number}" if len(tables) > 1 else folder)
                above = table.parent.relative_to(path) if table != path else Path()
                found += [replace(item, name=(above / item.name).as_posix()) for item in inner]
            except DAMAGE as error:
                which = f"{name}/{table.relative_to(path).as_posix()}" if table != path else name
                problem = f"{which} cannot be unpacked: {(str(error).splitlines() or ['it is damaged'])[0]}."
                raise BespokeError(problem, "Unpack it yourself, and name the folder.") from error
        own = origin if origin is not None and origin.is_dir() else None
        yield Opened(folder, name, own, tuple(found), walk=unpack not in (_parquet, _arrow))


@contextmanager
def _temporary() -> Generator[Path, None, None]:
    with tempfile.TemporaryDirectory(prefix="bespoke-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _unpacker(name: str) -> Any:  # noqa: ANN401 - a function of a path and a folder
    kinds = ((ZIP, _zip), (TAR, _tar), (PARQUET, _parquet), (ARROW, _arrow))
    return next((unpack for endings, unpack in kinds if name.lower().endswith(endings)), None)


def _only_container(folder: Path) -> Path | None:
    """The one archive or Parquet file that a URL named, if that is all there is."""
    files = _told(folder)
    return files[0] if len(files) == 1 and _unpacker(files[0].name) else None


def _only_tables(folder: Path) -> list[Path]:
    """The tables of a folder that holds nothing else: Parquet, as datasets are published on the hub, or saved ones.

    What describes a published dataset may stand beside them.
    """
    files = _told(folder)
    tables = [path for path in files if path.name not in SAVED]
    for endings, others in ((PARQUET, False), (ARROW, True)):
        if all(path.name.lower().endswith(endings) and path.name not in TABLES for path in tables):
            return tables if others or tables == files else []
    return []


def _told(folder: Path) -> list[Path]:
    """The files of a folder but for hidden ones and what describes a published dataset."""
    seen = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p.relative_to(folder).as_posix()))
    return [path for path in seen if path.name.lower() not in hub.CARDS]


class _Bomb(Exception):  # noqa: N818 - what it is
    """An archive that unpacks to far more than it is."""

    def __str__(self) -> str:
        return f"it grows to more than {MOST_GROWTH} times its size, as a bomb does"


DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
    _Bomb,
)  # fmt: skip
"""What reading a damaged archive provokes."""


class _Room:
    """What may still be unpacked of one archive."""

    def __init__(self, archive: Path) -> None:
        self._left = max(ALWAYS_ALLOWED, MOST_GROWTH * archive.stat().st_size)

    def copy(self, content: io.BufferedIOBase | IO[bytes], target: Path) -> str:
        """Writes the content; where that cannot be, what is returned says why, and nothing stays.

        Raises: what reading the content raises; _Bomb when the archive grows beyond all measure.
        """
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            return f"cannot be unpacked: {error.strerror}"
        written = 0
        with file:
            while block := content.read(_CHUNK):
                written += len(block)
                if written > min(MOST_BYTES, self._left):
                    break
                file.write(block)
        if written > self._left:
            raise _Bomb
        self._left -= written
        if written > MOST_BYTES:
            target.unlink()
            return f"larger than {MOST_BYTES >> 30} GB"
        return ""


def _zip(archive: Path, folder: Path) -> Iterator[Found]:
    room = _Room(archive)
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir() or _hidden(member.filename):
                continue
            target, trouble = _target(folder, member.filename, kind in (0, stat.S_IFREG))
            if not trouble:
                try:
                    with members.open(member) as content:
                        trouble = room.copy(content, target)
                except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
                    target.unlink(missing_ok=True)
                    trouble = f"damaged or locked in the archive: {error}"
                except OSError as error:
                    if error.errno is not None:
                        raise
                    target.unlink(missing_ok=True)  # bz2 says so of damaged data
                    trouble = f"damaged in the archive: {error}"
            if trouble:
                yield _refused(member.filename, trouble)


def _tar(archive: Path, folder: Path) -> Iterator[Found]:
    room = _Room(archive)
    with tarfile.open(archive) as members:
        for member in members:
            if member.isdir() or _hidden(member.name):
                continue
            target, trouble = _target(folder, member.name, member.isreg())
            content = members.extractfile(member) if not trouble else None
            if content is not None:
                with content:
                    trouble = room.copy(content, target)
            if trouble:
                yield _refused(member.name, trouble)
        _check_end(members)


def _check_end(members: tarfile.TarFile) -> None:
    """Refuses an archive that ends before its end: tarfile takes a damaged header for the last one."""
    stream = members.fileobj
    assert stream is not None
    stream.seek(members.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is damaged or cut off")
    while stream.read(_CHUNK):  # at the end of a compressed stream stands its checksum
        pass


def _hidden(name: str) -> bool:
    return any(litter(part) for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "."))


def _target(folder: Path, name: str, plain: bool) -> tuple[Path, str]:  # noqa: FBT001 - what kind of member it is
    """Where a member goes, and why it must not go anywhere."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "."]
    path = folder.joinpath(*parts) if parts else folder
    if not plain:
        return path, "a link or a device"
    if not parts or ".." in parts or path == folder or not path.is_relative_to(folder):
        return path, "its name leads out of the archive"
    if re.match(r"[A-Za-z]:", parts[0]):
        return path, "its name begins with a drive"
    if "\0" in name:
        return path, "its name holds a character that no name may hold"
    try:
        return path, "the archive holds it twice: the first is used" if path.exists() else ""
    except OSError as error:
        return path, f"cannot be unpacked: {error.strerror}"


def _refused(name: str, trouble: str) -> Found:
    return Found(printable(name), None, trouble=trouble, reason=UNSAFE)


def _parquet(table: Path, folder: Path) -> Iterator[Found]:
    """The pictures embedded in a Parquet file, as Hugging Face's datasets stores them, with their captions."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(table) as file:
            wanted, text = _columns(table, file.schema_arrow)
            yield from _rows(file.iter_batches(batch_size=ROWS, columns=wanted), text, table.name, folder)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _arrow(table: Path, folder: Path) -> Iterator[Found]:
    """The same of a table that Hugging Face's `save_to_disk` wrote: Arrow's stream format."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(table)) as mapped, pyarrow.ipc.open_stream(mapped) as stream:
            wanted, text = _columns(table, stream.schema)
            parts = (
                batch.select(wanted).slice(start, ROWS) for batch in stream for start in range(0, len(batch), ROWS)
            )
            yield from _rows(parts, text, table.name, folder)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


ROWS = 32
"""Rows of a table that are in memory at once."""


def _rows(batches: Iterable[Any], text: str, name: str, folder: Path) -> Iterator[Found]:
    """The pictures of a table's rows, each now in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, row in enumerate(rows):
        yield _embedded(row, text, f"{name}/{number:06d}", folder / f"{number:06d}")


def _columns(table: Path, schema: Any) -> tuple[list[str], str]:  # noqa: ANN401 - pyarrow is typed in part only
    """The columns to read, and which of them holds the caption."""
    import pyarrow

    names: list[str] = schema.names
    text = next((name for name in TEXTS if name in names), "")
    words = (pyarrow.string(), pyarrow.large_string())
    image = schema.field("image").type if "image" in names else None
    embedded = image is not None and pyarrow.types.is_struct(image) and image.get_field_index("bytes") >= 0
    if not embedded or not text or schema.field(text).type not in words:
        problem = f"{table.name} holds no pictures with captions; its columns: {', '.join(names)}."
        raise BespokeError(problem, "It needs a column `image` of structs with `bytes`, and a column `text` of texts.")
    return ["image", *plain_columns(schema)], text


def _embedded(row: dict[str, Any], text: str, name: str, path: Path) -> Found:
    """One row, its picture now in the file at `path` (with the picture's own ending)."""
    image = row["image"] or {}
    own = PurePosixPath(str(image.get("path") or "").replace("\\", "/")).name
    path = path.with_name(path.name + safe_suffix(own))
    path.write_bytes(image.get("bytes") or b"")
    said = row.get(REPEATS)
    repeats = 1.0 if said is None else repeats_of(said)
    notes = () if repeats else (f"its repeats are {said!r} and not used",)
    name = f"{name}/{printable(own)}" if own else name
    return Found(name, path, one_line(row[text] or ""), repeats or 1.0, notes=notes, marks=marks_of(row))


def _download(url: str, name: str, folder: Path) -> None:
    """Everything below a URL, by fsspec; `name` is what it is called in messages."""
    import fsspec

    hint = "Check the address, and that you may read there."
    on_hub = urlsplit(url).scheme == hub.SCHEME
    whole = {"block_size": 0} if on_hub else {}  # each file in one answer, and what is lost of it asked for again
    try:
        # A file system that was made before may remember what was there then.
        system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
        names: list[str] = system.find(root) if system.isdir(root) else [root]
        for file in names:
            below = PurePosixPath(file).relative_to(root).as_posix() if file != root else PurePosixPath(root).name
            target = folder / below
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{file} leads out of it")
            target.parent.mkdir(parents=True, exist_ok=True)
            with system.open(file, "rb", **whole) as content, target.open("wb") as copy:
                shutil.copyfileobj(content, copy, _CHUNK)
    except FileNotFoundError as error:
        raise (hub.refused(error, name) if on_hub else BespokeError(f"There is nothing at {name}.", hint)) from None
    except ImportError as error:
        raise BespokeError(f"{name} needs a package that is missing: {error}", "Install it with pip.") from None
    except Exception as error:
        # Each file system raises what its own network library raises.
        if on_hub:
            raise hub.refused(error, name) from error
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise BespokeError(f"{name} cannot be read: {first}", hint) from error
