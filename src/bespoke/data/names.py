"""Names as people and cameras gave them turned into file names that are safe and unique on every system."""

import re
import unicodedata
from pathlib import PurePosixPath

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
_LONGEST = 120
"""Bytes of a stem: systems allow 255 for a name, and a temporary name and an ending are to fit too."""


class Names:
    """The names given out so far in one folder; two that differ only in case count as equal."""

    def __init__(self, *taken: str) -> None:
        self._taken = {name.casefold() for name in taken}

    def give(self, path: str, suffix: str) -> str:
        """A new name for the file at `path`: its stem, or where that is taken its folders and stem."""
        parts = PurePosixPath(path)
        stem = _safe(parts.stem)
        folded = _safe("-".join((*parts.parent.parts, parts.stem)))
        for name in (stem, folded):
            if self._free(name + suffix):
                return name + suffix
        number = 2
        while not self._free(f"{folded}-{number}{suffix}"):
            number += 1
        return f"{folded}-{number}{suffix}"

    def _free(self, name: str) -> bool:
        """Whether `name` was free; it is taken now."""
        free = name.casefold() not in self._taken
        self._taken.add(name.casefold())
        return free


def safe_suffix(name: str) -> str:
    """The ending of a file name, without what some system forbids."""
    return _plain(PurePosixPath(name).suffix[:20]).rstrip(". ")


def _safe(stem: str) -> str:
    cut = _plain(stem).encode()[:_LONGEST].decode(errors="ignore").lstrip(". ").rstrip(". ") or "picture"
    # Windows takes con.png, and even con.front.png, for the console.
    return f"_{cut}" if cut.split(".")[0].casefold() in _RESERVED else cut


def _plain(name: str) -> str:
    return _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name))
