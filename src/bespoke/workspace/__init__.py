"""Where a project's files lie, and how they are written: a kill at any moment leaves the old file or the new."""

from bespoke.workspace.digests import hashing_told, sha256
from bespoke.workspace.locking import alone, locked
from bespoke.workspace.marks import remembered
from bespoke.workspace.places import Project, Run, cache, is_hidden, relative
from bespoke.workspace.writing import (
    MANIFEST,
    Journal,
    atomic_file,
    atomic_folder,
    check_new,
    is_full,
    is_half_written,
    make_durable,
    verified,
    write_json,
    write_lines,
    write_text,
)

__all__ = [
    "MANIFEST", "Journal", "Project", "Run", "alone", "atomic_file", "atomic_folder", "cache", "check_new",
    "hashing_told", "is_full", "is_half_written", "is_hidden", "locked", "make_durable", "relative", "remembered",
    "sha256", "verified", "write_json", "write_lines", "write_text",
]  # fmt: skip
