"""Files on this machine or behind a URL, by fsspec: what they are called, how large they are, and a stream of each."""

import io
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bespoke.data.intake import hub
from bespoke.errors import BespokeError

CHUNK = 1 << 20
"""Bytes that are read at once."""
ASKED = 1 << 23
"""Bytes that are asked of a server at once."""
IN_ONE_ANSWER = frozenset(("http", "https", hub.SCHEME))
"""Schemes that can send a whole file, so that nothing of it is asked for by its place."""
BY_ARROW = frozenset(("s3", "gs"))
"""Schemes that Arrow, which comes with bespoke, speaks where fsspec's own package for them is missing."""
TAGS = ("ETag", "etag", "md5Hash", "checksum", "sha256", "LastModified", "updated", "mtime", "last_modified")
"""What file systems say of a file that changes when the file does."""
SHORTEST_SECRET = 4
"""Characters of a value behind a URL's question mark that is kept out of messages; shorter ones are in many words."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
_DENIED = (
    "access denied",
    "access_denied",
    "accessdenied",
    "forbidden",
    "credentials",
    "unauthorized",
    "permission",
    "http status 403",
)


@runtime_checkable
class Readable(Protocol):
    """What gives bytes in order."""

    def read(self, size: int = ..., /) -> bytes:
        """The next bytes; none at the end."""
        ...


@dataclass(frozen=True)
class Local:
    """A file on this machine."""

    path: Path
    name: str

    def about(self) -> tuple[int, str]:
        """Its size and when it was changed."""
        state = self.path.stat()
        return state.st_size, str(state.st_mtime_ns)

    def open(self, *, random: bool = False) -> io.BufferedReader:  # noqa: ARG002 - any file here can be read by place
        """A stream of it."""
        return self.path.open("rb")


@dataclass(frozen=True)
class Remote:
    """A file behind a URL."""

    place: "Place"
    path: str
    """What its file system calls it."""
    name: str
    listed: dict[str, Any] | None = field(default=None, compare=False)
    """What a list of files said of it."""

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return f"{self.place.shown.removesuffix('/' + self.name)}/{self.name}" if self.name else self.place.shown

    def about(self) -> tuple[int | None, str]:
        """Its size and its tag, as the server says."""
        with self.place.explained(self.shown):
            said = self.listed if self.listed is not None else cast(dict[str, Any], self.place.system.info(self.path))
        size = said.get("size")
        return size if isinstance(size, int) else None, next((str(said[tag]) for tag in TAGS if said.get(tag)), "")

    def open(self, *, random: bool = False) -> io.BufferedReader:
        """A stream of it, read once from the beginning or, with `random`, by place.

        Raises: BespokeError, also in the middle, when it cannot be read.
        """
        whole = {"block_size": 0} if self.place.scheme in IN_ONE_ANSWER and not random else {}
        with self.place.explained(self.shown):
            content = self.place.system.open(self.path, "rb", **whole)
        return io.BufferedReader(_Explained(content, self), CHUNK if random or whole else ASKED)


Blob = Local | Remote
"""A file that can be read, named by its path below what the person named."""


class _Explained(io.RawIOBase):
    """A file of fsspec whose troubles are told in words; each file system raises what its own library raises."""

    def __init__(self, content: Any, blob: Remote) -> None:  # noqa: ANN401 - whatever fsspec opens
        self._content, self._blob, self._at = content, blob, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._content.seekable())

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer
        with self._blob.place.explained(self._blob.shown):
            block = self._content.read(len(buffer))
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with self._blob.place.explained(self._blob.shown):
            self._at = self._content.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._content.close()
        super().close()


@dataclass(frozen=True)
class Place:
    """Where a URL leads: a folder, a file or a pattern of files."""

    url: str

    @property
    def scheme(self) -> str:
        """What stands before `://`."""
        return _parts(self.url).scheme.lower()

    @cached_property
    def shown(self) -> str:
        """The URL as it may be written down: without passwords, signatures and a slash at the end."""
        return shown(self.url)

    @cached_property
    def _found(self) -> tuple[Any, str]:
        import fsspec

        with self.explained(self.shown):
            try:
                # A file system that was made before may remember what was there then.
                return fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
            except ImportError:
                if self.scheme not in BY_ARROW:
                    raise
                return _by_arrow(self.url)

    @property
    def system(self) -> Any:  # noqa: ANN401 - fsspec is not typed
        """The file system."""
        return self._found[0]

    @property
    def root(self) -> str:
        """What the file system calls the place."""
        return self._found[1]

    def below(self, name: str) -> str:
        """What the file system calls a file below the place."""
        return f"{self.root.rstrip('/')}/{name}"

    def make_room(self, path: str) -> None:
        """Makes the folder of a file that is to be written, where file systems need one."""
        if makes_folders(self.scheme):
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)

    def is_folder(self) -> bool:
        """Whether it is a folder. Of a web server only asked where that can be told without reading a whole file."""
        with self.explained(self.shown):
            return bool(self.system.isdir(self.root))

    def file(self) -> Remote:
        """The file that it is."""
        return Remote(self, self.root, PurePosixPath(self.shown).name)

    def files(self) -> list[Remote]:
        """All files below it, in the order of their names."""
        with self.explained(self.shown):
            listed: dict[str, dict[str, Any]] = self.system.find(self.root, detail=True)
            return [Remote(self, path, _below(self.root, path), listed[path]) for path in sorted(listed)]

    def matching(self, base: str) -> list[Remote]:
        """The files that its pattern fits, named below the folder `base` of the same system."""
        with self.explained(self.shown):
            root = Place(base).root
            listed: dict[str, dict[str, Any]] = self.system.glob(self.root, detail=True)
            if not listed:
                self.system.ls(root)  # looking for names says nothing of a bucket that is missing or locked
            files = sorted(path for path, about in listed.items() if about.get("type") != "directory")
            return [Remote(Place(base), path, _below(root, path), listed[path]) for path in files]

    @contextmanager
    def explained(self, name: str) -> Generator[None]:
        """Turns what a file system raises into words about what is called `name`."""
        try:
            yield
        except (BespokeError, MemoryError):
            raise
        except Exception as error:
            raise self._refused(error, name) from error

    def _refused(self, error: Exception, name: str) -> BespokeError:
        hint = "Check the address, and that you may read there. The same command goes on where it was."
        if self.scheme == hub.SCHEME and not isinstance(error, ImportError):
            return hub.refused(error, name)
        if isinstance(error, ImportError):
            return BespokeError(f"{name} needs a package that is missing: {error}", "Install it with pip.")
        said = self._without_secrets((str(error).splitlines() or [""])[0] or type(error).__name__)
        if any(word in f"{type(error).__name__} {said}".lower() for word in _DENIED):
            return BespokeError(f"You may not read or write {name}: {said}", _credentials(self.scheme))
        if isinstance(error, FileNotFoundError):
            bucket = _parts(self.shown).netloc
            lacks = "bucket" in said.lower() or (self.scheme in _STORES and not self.system.exists(bucket))
            what = f"no bucket {bucket}: {name} leads nowhere" if lacks else f"nothing at {name}"
            return BespokeError(f"There is {what}.", hint)
        return BespokeError(f"{name} cannot be read: {said}", hint)

    def _without_secrets(self, said: str) -> str:
        """A message without what stands in the URL and nobody else is to see."""
        address = _parts(self.url)
        user = address.netloc.rpartition("@")[0]
        password = user.partition(":")[2]
        # A library may have decoded them, or tell one of them alone.
        values = [value for _, value in parse_qsl(address.query) if len(value) >= SHORTEST_SECRET]
        for secret in filter(None, (address.query, user, unquote(user), password, unquote(password), *values)):
            said = said.replace(secret, "…")
        return said


def here(source: str | Path) -> Path | None:
    """The path on this machine that is meant, also by a `file://` URL; nothing for any other URL."""
    if not isinstance(source, str) or not _URL.match(source):
        return Path(source)
    return Path(unquote(source[len("file://") :])) if source.lower().startswith("file://") else None


def shown(source: str | Path) -> str:
    """A source as it may be written down: a URL without passwords, signatures and a slash at its end."""
    if not isinstance(source, str) or not _URL.match(source):
        return str(source)
    address = _parts(source)
    plain = address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return plain.rstrip("/") if not plain.endswith("://") else plain


def _parts(url: str) -> SplitResult:
    """The URL in its parts. Raises: BespokeError when it is none; it is not shown, for it may hold a password."""
    try:
        return urlsplit(url)
    except ValueError as error:
        hint = "A bracket in it that is no part of a pattern is written %5B or %5D."
        raise BespokeError(f"The source is no URL: {error}.", hint) from None


def makes_folders(scheme: str) -> bool:
    """Whether folders must be there before files in them; in stores there are none, and asking may make a bucket."""
    return scheme not in (*_STORES, "memory")


def _below(root: str, path: str) -> str:
    """The name of a file below a folder. Raises: ValueError when it leads out of it."""
    name = PurePosixPath(path).relative_to(PurePosixPath(root)).as_posix() if path != root else PurePosixPath(path).name
    if ".." in PurePosixPath(name).parts:
        raise ValueError(f"{path} leads out of it")
    return name


def _by_arrow(url: str) -> tuple[Any, str]:
    """Arrow's own file system for a store, in fsspec's clothes, and what it calls the place."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    system, root = fs.FileSystem.from_uri(url)
    return ArrowFSWrapper(system), root


def _credentials(scheme: str) -> str:
    if scheme in ("s3", "s3a"):
        return "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to one who may, and check the bucket."
    if scheme in _STORES:
        return "Log in to that store as one who may, and check the bucket."
    return "Check the address, and that you may read there."
