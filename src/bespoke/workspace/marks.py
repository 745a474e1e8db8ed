"""Digests of large files kept, so that a file which nobody touched is not read again only to know what it is.

Two things are asked of a digest, and only one of them may be kept.

What is this called? Caches, grids and scorecards want to know whether a model is the one that it was before, and a
version whether its base is. Who changes a file leaves traces: its size, its times, its number on the disk. Where there
are none, the digest that was kept is the file's, and `remembered` gives it.

Is this still whole? A bit that turned on the disk leaves no traces, and whoever may write to the cache could let one
file pass for another. So what is verified is read each time, by `sha256`: a version's own files whenever they are
handed out, what came from a hub or a server, what was copied, the states of a training. And what is written down once
and for good is read, too: what a run came from, and what a version is.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.workspace.digests import digest_of
from bespoke.workspace.places import cache
from bespoke.workspace.writing import atomic_file

VARIABLE = "BESPOKE_MARKS"
"""`off` keeps no digests and uses none."""
LEAST = 1 << 25
"""Files of fewer bytes are read: 32 MiB take a twentieth of a second."""
FRESH = 2_000_000_000
"""Nanoseconds. A disk may count time in steps of two seconds (FAT), so that a change soon after another one does not
show in a file's times. Source: git's Documentation/technical/racy-git.txt."""
MOST = 1000
"""So many digests are kept at most; of more the older half is forgotten."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Marks:
    """Digests kept in a folder, a small file for each: several processes may keep and use them at once.

    A folder that cannot be read or written, and what is broken in it, costs the reading of the files, nothing else.
    """

    def __init__(
        self, folder: Path | None, *, least: int | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        """`folder` is nothing where nothing is to be kept; `clock` tells nanoseconds since 1970."""
        self._folder, self._clock = folder, clock
        self._least = LEAST if least is None else least

    def of(self, path: Path) -> str:
        """The hexadecimal SHA-256 of a file's bytes; the kept one, if nothing shows that it was changed since."""
        with path.open("rb") as file:
            # Of the open file, so that these are the facts of what is read, whatever takes its place meanwhile.
            about = os.fstat(file.fileno())
            if self._folder is None or about.st_size < self._least:
                return digest_of(file, path)
            place, facts = self._folder / f"{_name(path)}.json", _facts(about)
            if known := _kept(place, facts):
                return known
            began = self._clock()
            found = digest_of(file, path)
        if max(about.st_mtime_ns, about.st_ctime_ns) + FRESH < began:
            with contextlib.suppress(OSError, BespokeError):  # a full disk or one that is only read
                self._keep(place, {"path": str(path.absolute()), "facts": facts, "sha256": found})
        return found

    def _keep(self, place: Path, content: dict[str, Any]) -> None:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = list(place.parent.iterdir())
        if len(there) >= MOST:
            for old in sorted(there, key=_age)[: MOST // 2]:
                old.unlink(missing_ok=True)
        with atomic_file(place, durable=False) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def remembered(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes, for a name; whoever verifies takes `sha256`, which reads them.

    Digests of large files are kept in this person's cache, below `marks`, and used while a file has the same size,
    number, device and times. On Windows a file has no time of its last change beside the one that programs may set.
    """
    return Marks(_folder()).of(path)


def _folder() -> Path | None:
    if os.environ.get(VARIABLE) == "off":
        return None
    try:
        return cache() / "marks"
    except RuntimeError:  # who runs this has no home, as in some containers
        return None


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]


def _facts(about: os.stat_result) -> list[int]:
    """What is another after a change. The time of change (ctime) is no program's to set, unlike that of writing."""
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def _kept(place: Path, facts: list[int]) -> str:
    """The digest that was kept of a file with these facts; empty where there is none, or it cannot be read."""
    try:
        content = json.loads(place.read_bytes())
        known = content["sha256"] if content["facts"] == facts else ""
        return known if _DIGEST.fullmatch(known) else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _age(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # another process forgot it
        return 0
