"""The members of a zip or a tar brought into a folder, and those told that must not come in."""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from bespoke.data.intake.folders import Found, litter, printable
from bespoke.data.intake.landing import Landing
from bespoke.data.intake.remote import CHUNK, Blob, Readable

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UNSAFE = "unsafe"
"""The reason of what an archive holds and what must not be unpacked."""
MOST_BYTES = 1 << 30
"""Of one unpacked file; no picture that bespoke reads is larger."""
MOST_GROWTH = 200
"""Times its own size that an archive may unpack to; pictures hardly shrink, and a bomb grows a thousandfold."""
ALWAYS_ALLOWED = 1 << 30
"""Bytes that any archive may unpack to."""
LONGEST_HEADER = 1 << 20
"""Bytes of a long name or other words about a member of a tar, which tarfile reads whole into memory."""
_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""How compressed tars begin."""


class Bomb(Exception):  # noqa: N818 - what it is
    """An archive that unpacks to far more than it is."""

    def __str__(self) -> str:
        return f"it grows to more than {MOST_GROWTH} times its size, as a bomb does"


DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
    Bomb,
)  # fmt: skip
"""What reading a damaged archive provokes."""


class _Room:
    """What may still be unpacked of one archive."""

    def __init__(self, stream: io.BufferedIOBase, size: int | None) -> None:
        self._stream, self._size, self._used = stream, size, 0

    def check(self, size: int) -> None:
        """Takes so many bytes of it. Raises: Bomb when the archive grows beyond all measure."""
        self._used += size
        # A server may not tell how large a file is; then what has been read of it counts.
        if self._used > max(ALWAYS_ALLOWED, MOST_GROWTH * (self._size or self._stream.tell())):
            raise Bomb


class _Measured:
    """A member as it is read: its growth is watched, and no more is read than a file may hold."""

    def __init__(self, content: Readable, room: _Room) -> None:
        self._content, self._room, self._size = content, room, 0

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes of it. Raises: _TooLarge."""
        block = self._content.read(size)
        self._room.check(len(block))
        self._size += len(block)
        if self._size > MOST_BYTES:
            raise _TooLarge
        return block


class _TooLarge(Exception):  # noqa: N818 - a verdict over one member
    pass


def zipped(blob: Blob, landing: Landing) -> Iterator[Found]:
    """What of a zip must not come in; the other members are in the landing's folder after it.

    Raises: what `DAMAGE` names when the archive is damaged or a bomb.
    """
    with blob.open(random=True) as stream, zipfile.ZipFile(cast(IO[bytes], stream)) as members:
        room = _Room(stream, blob.about()[0])
        for member in members.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir() or hidden(member.filename):
                continue
            target, trouble = place_of(landing, member.filename, plain=kind in (0, stat.S_IFREG))
            if not trouble and not landing.keeps(target, member.file_size):
                trouble = _member_of_zip(members, member, landing, target, room)
            if trouble:
                yield refused(member.filename, trouble)


def _member_of_zip(
    members: zipfile.ZipFile, member: zipfile.ZipInfo, landing: Landing, target: Path, room: _Room
) -> str:
    """Why a member of a zip is not in its place; each has a checksum of its own, so damage costs itself only."""
    try:
        with members.open(member) as content:
            return _landed(content, landing, target, room)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        return f"damaged or locked in the archive: {error}"
    except OSError as error:
        if error.errno is not None:
            raise
        return f"damaged in the archive: {error}"  # bz2 says so of damaged data


def _landed(content: Readable, landing: Landing, target: Path, room: _Room) -> str:
    """Why the content cannot be written; nothing where it is in its place."""
    try:
        return landing.write(target, _Measured(content, room))
    except _TooLarge:
        return f"larger than {MOST_BYTES >> 30} GB"


class _Header(tarfile.TarInfo):
    """A header of a tar, read in a stream: the end is noted, and words about a member do not fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> "_Header":
        """The header in a block. Raises: tarfile.ReadError when it announces too much."""
        header = super().frombuf(buf, encoding or "utf-8", errors)
        longs = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_PAX)
        if header.type in longs and header.size > LONGEST_HEADER:
            raise tarfile.ReadError("a header of it is too long")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_Header":
        """The next header."""
        try:
            return super().fromtarfile(tarfile)
        except _END:
            cast(_Tar, tarfile).ended = True
            raise


_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_END: Any = vars(tarfile)["EOFHeaderError"]


class _Tar(tarfile.TarFile):
    """A tar that knows whether it came to its end: tarfile takes a damaged header for the last one."""

    tarinfo = _Header
    ended = False
    members: list[tarfile.TarInfo]

    def forget(self) -> None:
        """Frees the headers that were read; it would keep them all."""
        self.members.clear()


def tarred(blob: Blob, landing: Landing) -> Iterator[Found]:
    """What of a tar must not come in; the other members are in the landing's folder after it. It is read once.

    Raises: what `DAMAGE` names when the archive is damaged, cut off or a bomb.
    """
    with blob.open() as stream, ExitStack() as stack:
        room = _Room(stream, blob.about()[0])
        start = stream.peek(6)
        unpack = next((opens for magic, opens in _PACKED.items() if start.startswith(magic)), None)
        # tarfile's own unpacking of streams does not look at gzip's checksum.
        plain: Any = stack.enter_context(unpack(cast(IO[bytes], stream), "rb")) if unpack else stream
        members = stack.enter_context(_Tar.open(fileobj=plain, mode="r|"))
        for member in members:
            if member.isdir() or hidden(member.name):
                continue
            target, trouble = place_of(landing, member.name, plain=member.isreg())
            if not trouble and not landing.keeps(target, member.size):
                content = members.extractfile(member)
                assert content is not None
                trouble = _landed(content, landing, target, room)
            if trouble:
                yield refused(member.name, trouble)
            members.forget()
        if not members.ended:
            raise tarfile.ReadError("it is damaged or cut off")
        while plain.read(CHUNK):  # at the end of a compressed stream stands its checksum
            pass


def hidden(name: str) -> bool:
    """Whether a file is hidden or left behind by an operating system, or lies in a folder that is."""
    return any(litter(part) for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "."))


def place_of(landing: Landing, name: str, *, plain: bool) -> tuple[Path, str]:
    """Where a member goes, and why it must not go anywhere."""
    folder = landing.folder
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
        return path, "the archive holds it twice: the first is used" if landing.taken(path) else ""
    except OSError as error:
        return path, f"cannot be unpacked: {error.strerror}"


def refused(name: str, trouble: str) -> Found:
    """A member that must not come in, and why."""
    return Found(printable(name), None, trouble=trouble, reason=UNSAFE)
