"""Runs and caches kept behind a URL, too: sent while they grow, and fetched to a machine that has not got them."""

import contextlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from bespoke.data.intake.remote import Place, Remote, makes_folders
from bespoke.errors import BespokeError
from bespoke.pipeline.processes import is_main
from bespoke.pipeline.reporting import Reporter
from bespoke.workspace import MANIFEST, Project, Run, atomic_file, is_hidden, verified

EVERY = 5.0
"""Seconds between two looks for what a run has saved since."""
Mark = tuple[int, int]
"""A file's size and when it was changed."""


@dataclass
class Mirror:
    """A folder and its copy behind a URL."""

    folder: Path
    place: Place
    _sent: dict[str, Mark] = field(default_factory=dict[str, Mark])

    def send(self, *, fixed: bool = False) -> int:
        """How many files were sent: those that are not there, or changed since; a folder's manifest comes last.

        With `fixed` a file of the same name and size is the same file. Steps that are no longer here go there, too.

        Raises: BespokeError when the place cannot be written.
        """
        there = {} if self._sent else self._sizes()
        sent = 0
        for name, mark in self._here().items():
            done = self._sent.get(name) == mark or ((fixed or _fixed(name)) and there.get(name) == mark[0])
            if not done and self._put(name):
                sent += 1
            self._sent[name] = mark
        self._forget()
        return sent

    def fetch(self, wanted: Callable[[str, int | None], bool]) -> int:
        """How many files came here: those of which `wanted` says so by name and size."""
        came = 0
        for file in self.there():
            if wanted(file.name, file.about()[0]):
                with atomic_file(self.folder / file.name) as temporary, self.place.explained(file.shown):
                    self.place.system.get_file(file.path, str(temporary))
                came += 1
        return came

    def _here(self) -> dict[str, Mark]:
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        names = sorted((path.as_posix() for path in found if not is_hidden(path)), key=_order)
        return {name: mark for name in names if (mark := _mark(self.folder / name))}

    def there(self) -> list[Remote]:
        """The files behind the URL; none where there is nothing."""
        with self.place.explained(self.place.shown):
            return self.place.files() if self.place.system.exists(self.place.root) else []

    def _sizes(self) -> dict[str, int | None]:
        return {file.name: file.about()[0] for file in self.there()}

    def _put(self, name: str) -> bool:
        """Whether a file was sent whole; one that was removed meanwhile was not."""
        path, system = self.place.below(name), self.place.system
        with self.place.explained(f"{self.place.shown}/{name}"):
            try:
                if not makes_folders(self.place.scheme):
                    system.put_file(str(self.folder / name), path)
                    return True
                self.place.make_room(path)
                system.put_file(str(self.folder / name), f"{path}.part")
                system.mv(f"{path}.part", path)
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise
                return False
        return True

    def _forget(self) -> None:
        """Removes what lies there of steps that were removed here."""
        gone = [name for name in self._sent if name.startswith("state/") and not (self.folder / name).parent.exists()]
        for name in sorted(gone, key=_order, reverse=True):  # the manifest first, so that no half of one is taken
            with self.place.explained(f"{self.place.shown}/{name}"), contextlib.suppress(FileNotFoundError):
                self.place.system.rm_file(self.place.below(name))
            del self._sent[name]


@contextlib.contextmanager
def mirrored(run: Run, url: str, report: Reporter) -> Generator[None, None, None]:
    """A block in which a run is trained, whose folder is sent below a URL with each state and at the end.

    What cannot be sent later on does not end the training: it is told, and all of it is here.

    Raises: BespokeError when the run's recipe cannot be sent at the beginning.
    """
    if not url or not is_main():
        yield
        return
    mirror = Mirror(run.root, Place(f"{url.rstrip('/')}/{run.root.name}"))
    mirror.send()
    sender = _Sender(mirror, run)
    try:
        yield
    finally:
        sender.stop()
        try:
            mirror.send()
        except BespokeError as error:
            report("send", 1, 1, f"the run is whole here, and not at {mirror.place.shown}: {error.problem}")
        else:
            report("send", 1, 1, mirror.place.shown)


class _Sender:
    """A thread that sends a run's folder whenever there is a new state or copy of the weights."""

    def __init__(self, mirror: Mirror, run: Run) -> None:
        self._mirror, self._run, self._over = mirror, run, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits until what is being sent is there."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        known = self._saved()
        while not self._over.wait(EVERY):
            saved = self._saved()
            if saved != known:
                with contextlib.suppress(BespokeError):  # it is tried again with the next state, and told at the end
                    self._mirror.send()
                    known = saved

    def _saved(self) -> set[Path]:
        return {*self._run.states(), *self._run.checkpoints()}


def fetched(url: str, project: Project) -> Run:
    """The run below a URL, in a project of this machine; where it is further here than there, as it is here.

    Raises: BespokeError when there is no run, or it cannot be read.
    """
    place = Place(url)
    run = Run(project.runs / place.shown.rpartition("/")[2])
    mirror = Mirror(run.root, place)
    names = {file.name for file in mirror.there()}
    if "recipe.toml" not in names:
        raise BespokeError(f"{place.shown} is no run: it has no recipe.toml.", "Name the folder of one run.")
    ends = f"/{MANIFEST}"
    steps = [name.removesuffix(ends) for name in names if name.startswith("state/") and name.endswith(ends)]
    here = [folder.relative_to(run.root).as_posix() for folder in run.states() if verified(folder)]
    if not here or max(steps, default="") > max(here):
        mirror.fetch(lambda name, _: not name.startswith("state/") or name.rpartition("/")[0] in steps)
    return run


@contextlib.contextmanager
def shared(folder: Path, url: str) -> Generator[None, None, None]:
    """A block that fills a folder of files that never change: what lies at a URL comes first, what is new goes there.

    Raises: BespokeError when it cannot be read or written.
    """
    if not url:
        yield
        return
    mirror = Mirror(folder, Place(url))
    mirror.fetch(lambda name, size: not (folder / name).is_file() or (folder / name).stat().st_size != size)
    yield
    mirror.send(fixed=True)


def _order(name: str) -> tuple[bool, str]:
    """Files in the order in which they are sent: what says that others are whole comes after them."""
    return name.endswith(MANIFEST), name


def _fixed(name: str) -> bool:
    """Whether a run never changes a file."""
    return name.startswith(("state/", "checkpoints/"))


def _mark(path: Path) -> Mark | None:
    """A file's size and time; nothing where it was removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return None
