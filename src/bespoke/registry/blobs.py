"""Files kept under the hash of what they hold: written once, read-only, checked each time they are handed out."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.workspace import atomic_file, is_half_written, locked, sha256

READ_ONLY = 0o444


@dataclass(frozen=True)
class Blob:
    """A file's content: its SHA-256 in hexadecimal digits, and how long it is."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a version is: its files, by their place in a run's folder, and what they came from."""

    files: Mapping[str, Blob]
    origin: Mapping[str, Any]
    marks: Mapping[str, str | None]
    """A mark of each part that draws: a scorecard is this version's exactly when its marks are these."""

    @property
    def text(self) -> str:
        """The manifest as JSON: equal exactly for equal versions."""
        files = {name: asdict(blob) for name, blob in sorted(self.files.items())}
        content = {"files": files, "origin": dict(self.origin), "marks": dict(self.marks)}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @property
    def sha256(self) -> str:
        """The hash that names the version, whatever number it has."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @staticmethod
    def of(text: str) -> "Manifest":
        """The manifest that was written as `text`."""
        content: dict[str, Any] = json.loads(text)
        return Manifest({n: Blob(**b) for n, b in content["files"].items()}, content["origin"], content["marks"])


@dataclass(frozen=True)
class Shelf:
    """A folder of blobs, and beside them versions laid out as run folders."""

    root: Path
    again: str = "Register the run again, which puts back what is the same; or use another version."
    """What to do about a blob that is missing or was changed."""

    def path(self, digest: str) -> Path:
        """Where the content of that hash lies, or would."""
        return self.root / "blobs" / digest[:2] / digest

    def holds(self, digest: str) -> bool:
        """Whether the content of that hash is here, unchanged."""
        path = self.path(digest)
        return path.is_file() and sha256(path) == digest

    @contextlib.contextmanager
    def changing(self, waits: Callable[[], None] | None = None) -> Generator[None, None, None]:
        """A block that one process at a time enters: what it puts here stays until a version names it.

        Where another is in it, `waits` is called before it is waited for.

        Raises: BespokeError when another is in it and there is no `waits`.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with locked(self.root / ".lock", f"Another command registers a version in {self.root}.", waits=waits):
            yield

    def put(self, source: Path, digest: str = "") -> Blob:
        """The content of a file, kept; what is here already is left as it is.

        Raises: BespokeError when the disk is full, the file is not of the `digest` that was asked for, or it changes
        meanwhile: then nothing is kept.
        """
        found = sha256(source)
        if digest and digest != found:
            raise BespokeError(f"{source} is not what it should be: its SHA-256 is {found}, not {digest}.", self.again)
        if not self.holds(found):
            with atomic_file(self.path(found)) as temporary:
                shutil.copyfile(source, temporary)
                if sha256(temporary) != found:
                    raise BespokeError(f"{source} was changed while it was copied.", "Run the same command again.")
            self.path(found).chmod(READ_ONLY)
        return Blob(found, source.stat().st_size)

    def put_text(self, text: str) -> Blob:
        """The text in UTF-8, kept."""
        return self.put_bytes(text.encode())

    def put_bytes(self, content: bytes) -> Blob:
        """The content, kept."""
        digest = hashlib.sha256(content).hexdigest()
        if not self.holds(digest):
            with atomic_file(self.path(digest)) as temporary:
                temporary.write_bytes(content)
            self.path(digest).chmod(READ_ONLY)
        return Blob(digest, len(content))

    def remove(self, digest: str) -> None:
        """Takes the content of that hash away, if it is here."""
        path = self.path(digest)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others lie in the folder, too
            path.parent.rmdir()

    def read(self, digest: str) -> str:
        """The text of that hash. Raises: BespokeError when it is not here, or was changed."""
        return self.checked(digest).read_text(encoding="utf-8")

    def checked(self, digest: str, what: str = "") -> Path:
        """Where the content of that hash lies. Raises: BespokeError when it is not here, or was changed."""
        path = self.path(digest)
        called = f"{what} ({path})" if what else str(path)
        if not path.is_file():
            raise BespokeError(f"{called} is missing.", self.again)
        if (found := sha256(path)) != digest:
            raise BespokeError(f"{called} was changed: its SHA-256 is {found}, not {digest}.", self.again)
        return path

    def lay_out(self, manifest: Manifest) -> Path:
        """A version's folder, in which every file was found to be the one that was registered.

        Files are links to the blobs where the disk can do that.

        Raises: BespokeError when a file is missing or was changed, or there are others in the folder.
        """
        folder = self.root / manifest.sha256
        for name, blob in manifest.files.items():
            self._place(folder / name, blob.sha256, name)
        files = [file for file in folder.rglob("*") if file.is_file() and not is_half_written(file)]
        there = {file.relative_to(folder).as_posix() for file in files}
        if strange := sorted(there - set(manifest.files)):
            raise BespokeError(f"{folder} holds what was not registered: {strange[0]}.", "Move it elsewhere.")
        return folder

    def _place(self, target: Path, digest: str, name: str) -> None:
        if target.is_file() and sha256(target) == digest:
            return
        blob = self.checked(digest, name)
        with atomic_file(target, durable=False) as temporary:
            try:
                os.link(blob, temporary)
            except OSError:  # a disk without links
                shutil.copyfile(blob, temporary)
        with contextlib.suppress(OSError):
            target.chmod(READ_ONLY)
