"""A folder of pictures turned into a sorted list of the files in it, each with its caption."""

import functools
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bespoke.data.intake.masked import Masks
from bespoke.data.intake.samples import CLASS, read_member, sample_key
from bespoke.data.intake.sidecars import (
    ABOUT_FOLDERS,
    LONGEST_CAPTION,
    SIDECARS,
    Said,
    from_file_name,
    of_folder,
    read_sidecar,
)
from bespoke.data.tables import TABLES, UNMARKED, Marks, Row, read_table
from bespoke.errors import BespokeError

LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx", "@eadir", "$recycle.bin"})
"""What operating systems leave behind; like hidden files these are not counted."""
_DOUBTFUL = re.compile(r"(\\+)(?=udc[89a-f][0-9a-f]|[\udc80-\udcff])")


@dataclass(frozen=True)
class Found:
    """One file of a source; `path` is None for a file that is named somewhere and is not there."""

    name: str
    """Its path below the source, with forward slashes."""
    path: Path | None
    text: str = ""
    repeats: float = 1.0
    """How often it counts in an epoch."""
    trouble: str = ""
    """Why it is missing, or why it has no caption."""
    notes: tuple[str, ...] = ()
    reason: str = "missing file"
    """What it is set aside for where `path` is None."""
    marks: Marks = UNMARKED
    mask: Path | None = None
    """The file of its mask, where it has one."""
    no_mask: str = ""
    """Why a mask that is named cannot be had."""


def find(source: Path, *, file_names: bool = False, samples: bool = False) -> tuple[Found, ...]:
    """Every file below `source` in stable order, and every file that a table there names and that is missing.

    Hidden files and what operating systems leave behind are skipped; captions and masks are not files of their own.
    With `file_names` a picture without a caption takes what stands in its name before the first underscore. With
    `samples` files belong together as in WebDataset, too.

    Raises: BespokeError when `source` is no folder, cannot be listed or holds no file, or a table is unusable.
    """
    _check(source)
    listed = dict(sorted(_walk(source), key=lambda entry: (_plain(entry[0]), entry[0])))
    tables = [name for name, path in listed.items() if PurePosixPath(name).name.lower() in TABLES and path.is_file()]
    files = {name: path for name, path in listed.items() if name not in tables}
    sidecars, reader = _sidecars(files, samples=samples), read_member if samples else read_sidecar
    used = {name for names in sidecars.values() for name in names}
    # A file that stands beside a picture speaks of that picture, whatever it is called.
    about = {name: files[name] for name in files.keys() - used if PurePosixPath(name).name in ABOUT_FOLDERS}
    folder_says = functools.cache(lambda folder: of_folder(folder, about))
    used |= about.keys()
    pictures = {name: path for name, path in files.items() if name not in used}
    masks = Masks()
    named, missing = _tables(listed, tables, pictures.keys(), masks)
    masks.beside(pictures, lambda name: name in sidecars or bool(name in named and named[name].text))
    left, found = masks.left(pictures), list[Found]()
    for name, path in pictures.items():
        if name not in left:
            continue
        said = named.get(name, Said())
        for sidecar in sidecars.get(name, []):
            said = said.over(reader(sidecar, files[sidecar]))
        said = said.over(folder_says(PurePosixPath(name).parent))
        item = _found(name, path, said.over(Said(from_file_name(name))) if file_names else said)
        mask = masks.of.get(name)
        found.append(replace(item, mask=files[mask] if mask else None, no_mask=masks.missing.get(name, "")))
    if not found and not missing:
        raise BespokeError(f"{source} holds no pictures.", "Name a folder with pictures in it, or put some there.")
    return tuple(sorted((*found, *missing), key=lambda item: (_plain(item.name), item.name)))


def litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left behind by an operating system."""
    return name.startswith(".") or name.lower() in LITTER


def printable(name: str) -> str:
    """The name with each byte that is not UTF-8 spelled out, since JSON and CSV cannot hold it.

    Backslashes that could be taken for such a spelling, or stand before one, are doubled: no two names print alike.
    """
    return _DOUBTFUL.sub(r"\1\1", name).encode("utf-8", "backslashreplace").decode("utf-8")


def _check(source: Path) -> None:
    hint = "Name a folder that holds pictures and their captions."
    if not source.exists():
        raise BespokeError(f"There is no folder {source}.", hint)
    if not source.is_dir():
        raise BespokeError(f"{source} is a file, not a folder.", hint)


def _walk(source: Path) -> Iterator[tuple[str, Path]]:
    """The printable name and the path of everything below `source` that is not a plain folder."""
    for folder, below, files in os.walk(source, onerror=_refuse):
        below[:] = [name for name in below if not litter(name)]
        links = [name for name in below if Path(folder, name).is_symlink()]
        for name in (*(f for f in files if not litter(f)), *links):
            path = Path(folder, name)
            yield printable(path.relative_to(source).as_posix()), path


def _refuse(error: OSError) -> None:
    raise BespokeError(
        f"{error.filename} cannot be listed: {error.strerror}.", "Check that you may read it."
    ) from error


def _plain(name: str) -> str:
    """The name by which files are sorted and looked up: macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def _sidecars(files: Iterable[str], *, samples: bool) -> dict[str, list[str]]:
    """For each other file, the caption files beside it: `cat.txt`, `cat.json` or `cat.png.txt` for `cat.png`.

    With `samples`, one that has none takes those of its sample: `cat.txt` for `cat.front.png`.
    """
    stems: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    keys: dict[str, list[str]] = {}
    texts: list[PurePosixPath] = []
    for path in map(PurePosixPath, files):
        if path.suffix.lower() in SIDECARS or (samples and path.suffix.lower() == CLASS):
            texts.append(path)
        else:
            stems.setdefault(_plain(str(path.with_suffix(""))), []).append(str(path))
            names.setdefault(_plain(str(path)), []).append(str(path))
            keys.setdefault(sample_key(path), []).append(str(path))
    beside: dict[str, list[str]] = {}
    orphans: dict[str, list[str]] = {}
    for text in sorted(texts, key=lambda path: (*SIDECARS, CLASS).index(path.suffix.lower())):
        spelled = str(text.with_suffix(""))
        key = _plain(spelled)
        # Beside cat.png and cat.png.jpg, cat.png.txt belongs to the second, for other trainers know no other way.
        others = stems.get(key) or names.get(key, [])
        for other in [other for other in others if other.startswith(spelled)] or others:
            beside.setdefault(other, []).append(str(text))
        if not others and samples:
            for other in keys.get(sample_key(text), []):
                orphans.setdefault(other, []).append(str(text))
    return orphans | beside


def _tables(
    listed: Mapping[str, Path], tables: Iterable[str], files: Collection[str], masks: Masks
) -> tuple[dict[str, Said], list[Found]]:
    """The captions that the tables give by file name, and the files they name that are not there.

    What they say of masks goes to `masks`.
    """
    known = {_plain(name): name for name in files}
    known.update((name, name) for name in files)
    captions: dict[str, Said] = {}
    missing: dict[str, Found] = {}
    # A table deeper in the tree lies nearer to its pictures, so it is heard first.
    for table in sorted(tables, key=lambda name: -name.count("/")):
        for row in read_table(listed[table]):
            name = _resolve(table, row.file)
            file = _known(known, name)
            if file is None:
                missing.setdefault(name, Found(name, None, trouble=_absence(table, row)))
            else:
                row = masks.from_row(file, row, lambda cell, table=table: _known(known, _resolve(table, cell)))  # noqa: PLW2901
                captions[file] = _merged(captions.get(file), row, table)
    return captions, list(missing.values())


def _known(known: Mapping[str, str], name: str) -> str | None:
    """The file of a name, however that writes its letters and what stands between folders."""
    return known.get(name) or known.get(_plain(name)) or known.get(_plain(name.replace("\\", "/")))


def _resolve(table: str, file: str) -> str:
    """The name below the source of a file that `table` names, or the name as written when it points elsewhere."""
    name = os.path.normpath(PurePosixPath(table).parent / file).replace(os.sep, "/") if file else ""
    return name or f"{table}: a row without a name"


def _absence(table: str, row: Row) -> str:
    if not row.file:
        return f"line {row.line} of {table} has no file_name"
    return f"line {row.line} of {table} names {row.file}, and the source holds no such file (hidden ones are skipped)"


def _merged(earlier: Said | None, row: Row, table: str) -> Said:
    now = Said(row.text, repeats=row.repeats, marks=row.marks)
    if earlier is None:
        return now
    if earlier.prompt and now.prompt and earlier.prompt != now.prompt:
        name = PurePosixPath(table).name
        now = Said(notes=(f"{name} gives it several captions: the first is used",))
    return earlier.over(now)


def _found(name: str, path: Path, said: Said) -> Found:
    try:
        there = path.exists()
    except OSError as error:
        return Found(name, None, trouble=f"cannot be reached: {error.strerror}")
    if not there:
        return Found(name, None, trouble="a link to a file that is not there")
    if len(said.text.encode()) >= LONGEST_CAPTION:
        said = replace(said, prompt="", tags=(), trouble="its caption is too long to be one")
    repeats = 1.0 if said.repeats is None else said.repeats
    return Found(name, path, said.text, repeats, said.trouble, said.notes, marks=said.marks)
