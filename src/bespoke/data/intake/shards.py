"""Which files a source of several containers means: patterns with braces and stars, and folders of nothing else."""

import math
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from bespoke.data.intake import hub
from bespoke.data.intake.archives import TAR, hidden
from bespoke.data.intake.embedded import ARROW, PARQUET
from bespoke.data.intake.remote import Blob, Local, Place, Remote, shown
from bespoke.data.tables import TABLES
from bespoke.errors import BespokeError

SAVED = frozenset(("state.json", "dataset_info.json", "dataset_dict.json"))
"""What Hugging Face's `save_to_disk` writes beside its tables."""
MOST = 100_000
"""Files that braces may name."""
BESIDE = (".parquet", "_stats.json", ".idx")
"""What img2dataset, and indexes, put beside a tar of the same name."""
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{},/]*(?:,[^{},/]*)+))\}")
_STAR = re.compile(r"[*?\[]")


def is_pattern(source: str | Path) -> bool:
    """Whether a source has braces or stars in it, and is no file or folder of that name."""
    text = str(source)
    return bool(_BRACES.search(text) or _starred(text)) and not os.path.lexists(text)


def _starred(text: str) -> bool:
    """Whether a name has stars or the like; of a web server's, a question mark begins what is asked."""
    return bool(_STAR.search(text.partition("?")[0] if text.startswith(("http://", "https://")) else text))


def base_of(pattern: str) -> str:
    """The folder that holds all that a pattern can mean; files are named from there."""
    fixed = re.split(r"[*?\[{]", pattern, maxsplit=1)[0]
    folder, slash, _ = fixed.rpartition("/")
    return f"{folder}/" if folder.endswith(":/") else folder or (slash or ".")


def here(pattern: str) -> list[Blob]:
    """The files on this machine that a pattern means. Raises: BespokeError when there are none, or one is missing."""
    base, files = Path(base_of(pattern)), list[Local]()
    for name in expanded(pattern):
        found = sorted(base.glob(_last(name, base_of(pattern)))) if _starred(name) else [Path(name)]
        files += [Local(file, file.relative_to(base).as_posix()) for file in found]
    return _some(pattern, [file for file in files if not file.path.is_dir()])


def there(pattern: str) -> list[Blob]:
    """The files behind a URL that a pattern means. Raises: BespokeError when there are none."""
    base, files = base_of(pattern), list[Remote]()
    place = Place(base)
    for name in expanded(pattern):
        if _starred(name):
            files += Place(name).matching(base)
        else:
            files.append(Remote(place, f"{place.root.rstrip('/')}/{name[len(base) :].lstrip('/')}", _last(name, base)))
    return _some(place.shown, files)


def _last(name: str, base: str) -> str:
    return name[len(base) :].lstrip("/").partition("?")[0]


def _some(pattern: str, files: Sequence[Blob]) -> list[Blob]:
    if not files:
        raise BespokeError(f"No file fits {pattern}.", "In a shell, put the pattern between quotation marks.")
    if any(".." in PurePosixPath(file.name).parts for file in files):
        hint = "Put no `..` behind the first brace or star, or import one after the other into the same dataset."
        raise BespokeError(f"{pattern} leads out of the folder in which it begins.", hint)
    return list({file.name: file for file in files}.values())


def expanded(pattern: str) -> list[str]:
    """The names that braces stand for: `{00..02}` for 00, 01 and 02, `{a,b}` for a and b. Source: bash's manual.

    Raises: BespokeError when they are far too many.
    """
    many = math.prod(_count(found) for found in _BRACES.finditer(pattern))
    if many > MOST:
        raise BespokeError(f"{shown(pattern)} names {many} files.", f"Name at most {MOST} at once.")
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    start, rest = pattern[: found.start()], expanded(pattern[found.end() :])
    return [f"{start}{choice}{end}" for choice in _choices(found) for end in rest]


def _count(found: re.Match[str]) -> int:
    return max(0, int(found[2]) - int(found[1]) + 1) if found[1] else found[3].count(",") + 1


def _choices(found: re.Match[str]) -> list[str]:
    if not found[1]:
        return found[3].split(",")
    return [f"{number:0{len(found[1])}}" for number in range(int(found[1]), int(found[2]) + 1)]


def containers_of(files: Sequence[Blob]) -> list[Blob]:
    """The tables or tars of a folder that holds nothing else: Parquet files, saved tables, shards.

    What describes a published dataset, or one shard, may stand beside them.
    """
    told = [file for file in files if not hidden(file.name) and _own(file).lower() not in hub.CARDS]
    tables = [file for file in told if _own(file) not in SAVED]
    for endings, others in ((PARQUET, False), (ARROW, True)):
        if tables and all(_ends(file, endings) and _own(file) not in TABLES for file in tables):
            return tables if others or tables == told else []
    tars = [file for file in told if _ends(file, TAR)]
    beside = {f"{tar.name.partition('.tar')[0]}{ending}" for tar in tars for ending in BESIDE}
    return tars if tars and all(_ends(file, TAR) or file.name in beside for file in told) else []


def _own(file: Blob) -> str:
    return PurePosixPath(file.name).name


def _ends(file: Blob, endings: Collection[str]) -> bool:
    return file.name.lower().endswith(tuple(endings))
