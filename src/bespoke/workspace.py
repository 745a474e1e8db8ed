"""Where a project's files lie, and how they are written: a kill at any moment leaves the old file or the new."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
from safetensors import SafetensorError

from bespoke.errors import BespokeError

MANIFEST = "manifest.json"


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Generator[Path, None, None]:
    """A temporary path beside `path` that becomes `path` when the block ends well, and is removed when it does not.

    Without `durable` it may be lost with the machine's power, until `make_durable` was called for it.

    Raises: BespokeError when the disk is full; what stood at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
            if durable:
                _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def make_durable(paths: Sequence[Path]) -> None:
    """Waits until files that were written are on disk, all at once where the system can do that."""
    if paths and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        _sync(path)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Generator[Path, None, None]:
    """A temporary folder that becomes `path`, with a manifest of sizes and hashes written last.

    Raises: BespokeError when the disk is full; FileExistsError when `path` exists.
    """
    if path.exists():
        raise FileExistsError(path)
    # One level up, so that `state/` holds complete steps only, even after a kill.
    temporary = path.parent.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            files = sorted(f for f in temporary.rglob("*") if f.is_file())
            manifest = {
                f.relative_to(temporary).as_posix(): {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in files
            }
            (temporary / MANIFEST).write_text(json.dumps({"files": manifest}, indent=1), encoding="utf-8")
            for entry in (*temporary.rglob("*"), temporary):
                _sync(entry)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def verified(folder: Path) -> bool:
    """Whether `folder` is complete: its manifest is there and every file has the size and hash it names."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(
            (folder / name).stat().st_size == facts["bytes"] and sha256(folder / name) == facts["sha256"]
            for name, facts in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def is_hidden(path: Path) -> bool:
    """Whether a path, or a folder on its way, has a name that begins with a dot; meant for paths below a folder."""
    return any(part.startswith(".") for part in path.parts)


def check_new(path: Path, kind: str = "one") -> None:
    """Raises: BespokeError when something lies at `path`; the hint is to name a new one, or a new `kind`."""
    if path.exists():
        raise BespokeError(f"{path} is there already.", f"Name a new {kind}; nothing is overwritten.")


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically, in UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_lines(path: Path, pieces: Iterable[str]) -> None:
    """Writes pieces of text to `path` atomically, in UTF-8, as they come."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Writes `content` to `path` atomically as indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


class Journal:
    """Results kept one by one while long work goes on, as lines of JSON: a kill costs the line being written, no more.

    A line is in the system's hands once `append` returns, so it outlives this process, if not a loss of power.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._whole = path, False

    def __iter__(self) -> Iterator[Any]:
        """What was appended, oldest first; lines that were torn or damaged are left out."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def append(self, *contents: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Adds one line for each of the contents. Raises: BespokeError when the disk is full."""
        lines = "".join(json.dumps(content, ensure_ascii=False) + "\n" for content in contents)
        with _explained(self._path):
            if not self._whole:
                self._mend()
            self._whole = False  # a full disk may tear a line, too
            with self._path.open("ab") as file:
                file.write(lines.encode("utf-8"))
            self._whole = True

    def _mend(self) -> None:
        """Ends a line that a kill tore, so that the next begins on its own."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")

    def remove(self) -> None:
        """Forgets all lines."""
        self._path.unlink(missing_ok=True)
        self._whole = False


@contextlib.contextmanager
def alone(folder: Path) -> Generator[None, None, None]:
    """A block that only one process of this machine and person enters for a folder.

    The lock lies in the system's temporary folder, so that a folder that is refused stays as it was.

    Raises: BespokeError when another process is in such a block.
    """
    whose = str(os.getuid()) if hasattr(os, "getuid") else ""
    place = Path(tempfile.gettempdir(), f"bespoke-locks-{whose}")
    place.mkdir(exist_ok=True, mode=0o700)
    lock = place / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.lock"
    with locked(lock, f"Another command is working on {folder}."):
        yield


@contextlib.contextmanager
def locked(lock: Path, problem: str, hint: str = "Wait until it is done, or stop it.") -> Generator[None, None, None]:
    """A block that only one process at a time enters for a lock file.

    Raises: BespokeError with the problem when another is in it.
    """
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        raise BespokeError(problem, hint) from None
    try:
        yield
    finally:
        held.release()


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache() -> Path:
    """This person's cache: `~/.cache/bespoke`, or where the variable BESPOKE_CACHE says."""
    return Path(os.environ.get("BESPOKE_CACHE", "~/.cache/bespoke")).expanduser()


def relative(path: Path) -> str:
    """The path from the working directory; as it is where there is none, such as on another drive."""
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:
        return path.as_posix()


@dataclass(frozen=True)
class Project:
    """The paths of a project's folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe."""
        return self.root / "recipe.toml"

    @property
    def cache(self) -> Path:
        """Latents and text states; safe to delete."""
        return self.root / "cache"

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.root / "runs"

    @property
    def store(self) -> Path:
        """MLflow's store of the runs."""
        return self.root / "bespoke.db"

    @property
    def feedback(self) -> Path:
        """What people say of pictures that a service drew."""
        return self.root / "feedback.db"

    @property
    def samples(self) -> Path:
        """Pictures that the service was allowed to keep, by the hash of what they hold."""
        return self.root / "samples"

    @property
    def updates(self) -> Path:
        """Whether the model in use was to be trained anew, each time that was asked, and what came of it."""
        return self.root / "updates.jsonl"

    @property
    def versions(self) -> Path:
        """The files of registered versions, by the hash of what they hold."""
        return self.root / "versions"

    def new_run(self) -> "Run":
        """A new, empty run folder, named by the time it began (UTC)."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        for suffix in ("", *(f"-{n}" for n in range(2, 100))):
            with contextlib.suppress(FileExistsError):
                (self.runs / f"{stamp}{suffix}").mkdir(parents=True)
                return Run(self.runs / f"{stamp}{suffix}")
        raise BespokeError(f"{self.runs} already has a hundred runs of this second", "Wait a second and try again.")


@dataclass(frozen=True)
class Run:
    """The paths of one run's folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe as resolved: every derived value written out."""
        return self.root / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line for each event of the training."""
        return self.root / "metrics.jsonl"

    @property
    def adapter(self) -> Path:
        """The best adapter by validation."""
        return self.root / "adapter.safetensors"

    @property
    def model(self) -> Path:
        """The best weights by validation, where all of them were trained: a whole model in diffusers' layout."""
        return self.root / "model"

    @property
    def begun(self) -> Path:
        """What the training began with and may be changed elsewhere meanwhile: a file of new words."""
        return self.root / "begun" / "words.safetensors"

    @property
    def begun_adapter(self) -> Path:
        """The adapter that it began with, where `model.adapter_file` named one."""
        return self.root / "begun" / "adapter.safetensors"

    @property
    def begun_base(self) -> Path:
        """The hub's commit that it began with, as JSON, where its base came from there."""
        return self.root / "begun" / "base.json"

    @property
    def begun_dataset(self) -> Path:
        """The record of the dataset as it was then."""
        return self.root / "begun" / "dataset.json"

    @property
    def origin(self) -> Path:
        """What it came from, as JSON: hashes and licences of base and pictures, the version of the code."""
        return self.root / "begun" / "origin.json"

    @property
    def attention(self) -> Path:
        """Which way attention of each shape is computed, as JSON, where that was measured."""
        return self.root / "begun" / "attention.json"

    @property
    def scorecard(self) -> Path:
        """Its newest scorecard as JSON."""
        return self.report.with_name("report.json")

    def checkpoint(self, epoch: int) -> Path:
        """The folder of the weights after an epoch, counted from 1."""
        return self.root / "checkpoints" / f"epoch-{epoch}"

    def checkpoints(self) -> list[Path]:
        """The folders of weights after epochs, oldest first."""
        return sorted(self.root.glob("checkpoints/epoch-*"), key=lambda folder: int(folder.name.removeprefix("epoch-")))

    @property
    def last(self) -> Path:
        """The folder of the weights at the last step."""
        return self.root / "last"

    @property
    def samples(self) -> Path:
        """Pictures drawn for this run."""
        return self.root / "samples"

    @property
    def result(self) -> Path:
        """How the training ended; there only when it did."""
        return self.root / "result.json"

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.root / "report" / "index.html"

    def state(self, step: int) -> Path:
        """The folder from which training resumes after `step`."""
        return self.root / "state" / f"step-{step:06d}"

    def states(self) -> list[Path]:
        """The folders of saved states, oldest first; not checked for completeness."""
        return sorted(self.root.glob("state/step-*"))


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if is_full(error):
            hint = f"What stood at {path} before is untouched. Free some space there and run the same command again."
            raise BespokeError(f"The disk is full: {path} could not be written.", hint) from error
        raise


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk, or a person's share of it, is full."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in codes
    # safetensors hands on the system's error in words only.
    return any(f"(os error {code})" in str(error) for code in codes)


def _sync(path: Path) -> None:
    """Asks the system to write a file or a folder's entries to disk; folders cannot be opened so on Windows."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
