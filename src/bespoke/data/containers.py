"""What a person names as a source - a folder, an archive, a Parquet file, a URL - turned into a folder of files."""

import io
import json
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bespoke.data.names import safe_suffix
from bespoke.data.sources import Found, litter, printable
from bespoke.data.tables import FILE, REPEATS, TABLES, TEXTS
from bespoke.errors import BespokeError

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PARQUET = (".parquet",)
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
    """A folder of files, and what the source holds beside them that must not come in."""

    folder: Path
    name: str
    """The source as the person named it."""
    refused: tuple[Found, ...] = ()


@contextmanager
def opened(source: str | Path) -> Generator[Opened, None, None]:
    """The source as a folder; what was unpacked or downloaded for it is gone after the block.

    Raises: BespokeError when there is no such source, or it is damaged, protected by a password, or a bomb.
    """
    name = printable(Path(source).as_posix() if isinstance(source, Path) else source)
    if isinstance(source, str) and _URL.match(source):
        with _temporary() as folder:
            _download(source, folder)
            with _local(_only_container(folder) or folder, name) as inner:
                yield inner
        return
    with _local(Path(source), name) as inner:
        yield inner


@contextmanager
def _local(path: Path, name: str) -> Generator[Opened, None, None]:
    tables = [path] if path.is_file() else _only_tables(path)
    if not tables:
        yield Opened(path, name)
        return
    unpack = _unpacker(tables[0].name)
    if unpack is None:
        kinds = ", ".join((*ZIP, *TAR, *PARQUET))
        raise BespokeError(f"{name} is a file, not a folder.", f"Name a folder with pictures, or one of {kinds}.")
    with _temporary() as folder:
        try:
            refused = tuple(item for table in tables for item in unpack(table, _inner(folder, table, tables)))
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            problem = f"{name} cannot be unpacked: {(str(error).splitlines() or ['it is damaged'])[0]}."
            raise BespokeError(problem, "Unpack it yourself, and name the folder.") from error
        yield Opened(folder, name, refused)


@contextmanager
def _temporary() -> Generator[Path, None, None]:
    with tempfile.TemporaryDirectory(prefix="bespoke-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _unpacker(name: str) -> Any:  # noqa: ANN401 - a function of a path and a folder
    kinds = ((ZIP, _zip), (TAR, _tar), (PARQUET, _parquet))
    return next((unpack for endings, unpack in kinds if name.lower().endswith(endings)), None)


def _only_container(folder: Path) -> Path | None:
    """The one archive or Parquet file that a URL named, if that is all there is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return files[0] if len(files) == 1 and _unpacker(files[0].name) else None


def _only_tables(folder: Path) -> list[Path]:
    """The Parquet files of a folder that holds nothing else, as datasets are published on the hub."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not litter(path.name))
    published = all(path.name.lower().endswith(PARQUET) and path.name not in TABLES for path in files)
    return files if published else []


def _inner(folder: Path, table: Path, tables: list[Path]) -> Path:
    """Where one of several tables is unpacked: names in one may be those in another."""
    return folder / table.stem if len(tables) > 1 else folder


class _Room:
    """What may still be unpacked of one archive."""

    def __init__(self, archive: Path) -> None:
        self._left = max(ALWAYS_ALLOWED, MOST_GROWTH * archive.stat().st_size)

    def copy(self, content: io.BufferedIOBase | IO[bytes], target: Path) -> str:
        """Writes the content; what it says when there is too much of it is the trouble, and nothing stays."""
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with target.open("wb") as file:
            while block := content.read(_CHUNK):
                written += len(block)
                if written > min(MOST_BYTES, self._left):
                    break
                file.write(block)
        if written > self._left:
            raise OSError(f"it grows to more than {MOST_GROWTH} times its size, as a bomb does")
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
            trouble = "" if kind in (0, stat.S_IFREG) else "a link or a device"
            target, trouble = _target(folder, member.filename, trouble)
            if not trouble:
                try:
                    with members.open(member) as content:
                        trouble = room.copy(content, target)
                except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                    target.unlink(missing_ok=True)
                    trouble = f"damaged in the archive: {error}"
            if trouble:
                yield _refused(member.filename, trouble)


def _tar(archive: Path, folder: Path) -> Iterator[Found]:
    room = _Room(archive)
    with tarfile.open(archive) as members:
        for member in members:
            if member.isdir() or _hidden(member.name):
                continue
            target, trouble = _target(folder, member.name, "" if member.isreg() else "a link or a device")
            content = members.extractfile(member) if not trouble else None
            if content is not None:
                with content:
                    trouble = room.copy(content, target)
            if trouble:
                yield _refused(member.name, trouble)


def _hidden(name: str) -> bool:
    return any(litter(part) for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "."))


def _target(folder: Path, name: str, trouble: str) -> tuple[Path, str]:
    """Where a member goes, and why it must not go anywhere."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "."]
    path = folder.joinpath(*parts) if parts else folder
    if not trouble and (not parts or ".." in parts or path == folder or not path.is_relative_to(folder)):
        trouble = "its name leads out of the archive"
    if not trouble and re.match(r"[A-Za-z]:", parts[0]):
        trouble = "its name begins with a drive"
    if not trouble and path.exists():
        trouble = "the archive holds it twice: the first is used"
    return path, trouble


def _refused(name: str, trouble: str) -> Found:
    return Found(printable(name), None, trouble=trouble, reason=UNSAFE)


def _parquet(table: Path, folder: Path) -> Iterator[Found]:
    """The pictures embedded in a Parquet file, as Hugging Face's datasets stores them, with a table of captions."""
    import pyarrow
    from pyarrow import parquet

    hint = "It needs a column `image` of structs with `bytes`, and a column `text`."
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with parquet.ParquetFile(table) as file:
            names = file.schema_arrow.names
            texts = [name for name in TEXTS if name in names][:1]
            if "image" not in names or not texts:
                problem = f"{table.name} holds no pictures with captions; its columns: {', '.join(names)}."
                raise BespokeError(problem, hint)
            wanted = ["image", *texts, *([REPEATS] if REPEATS in names else [])]
            batches = file.iter_batches(batch_size=32, columns=wanted)
            rows = list(_pictures((row for batch in batches for row in batch.to_pylist()), folder))
    except (pyarrow.ArrowInvalid, AttributeError, TypeError) as error:
        raise BespokeError(f"{table.name} cannot be read: {str(error).splitlines()[0]}", hint) from error
    lines = [json.dumps({FILE: name, TEXTS[0]: row[texts[0]], REPEATS: row.get(REPEATS)}) for name, row in rows]
    (folder / TABLES[1]).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    yield from ()


def _pictures(rows: Iterable[dict[str, Any]], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row without its picture, which is now a file of that name."""
    for number, row in enumerate(rows):
        image = row.pop("image") or {}
        name = PurePosixPath((image.get("path") or "").replace("\\", "/")).name or f"{number:06d}"
        if litter(name) or (folder / name).exists() or name in TABLES:
            name = f"{number:06d}-{name.lstrip('.')}"
        name = f"{PurePosixPath(name).stem}{safe_suffix(name)}"
        (folder / name).write_bytes(image.get("bytes") or b"")
        yield name, row


def _download(url: str, folder: Path) -> None:
    """Everything below a URL, by fsspec."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
        names: list[str] = system.find(root) if system.isdir(root) else [root]
        for name in names:
            below = PurePosixPath(name).relative_to(root).as_posix() if name != root else PurePosixPath(root).name
            target = folder / below
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{name} leads out of {url}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with system.open(name, "rb") as content, target.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
    except FileNotFoundError:
        raise BespokeError(f"There is nothing at {url}.", "Check the address.") from None
    except ImportError as error:
        raise BespokeError(f"{url} needs a package that is missing: {error}", "Install it with pip.") from None
    except (ValueError, OSError) as error:
        problem = f"{url} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}"
        raise BespokeError(problem, "Check the address, and that you may read there.") from error
