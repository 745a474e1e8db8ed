"""A folder of pictures turned into a sorted list of the files in it, each with its caption."""

import csv
import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bespoke.errors import BespokeError

TABLE = "metadata.csv"
SIDECARS = (".txt", ".caption")
LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx", "@eadir", "$recycle.bin"})
"""What operating systems leave behind; like hidden files these are not counted."""
LONGEST_CAPTION = 65_536
"""Bytes of a sidecar file; a longer text is no caption."""


@dataclass(frozen=True)
class Found:
    """One file of a source; `path` is None for a file that is named somewhere and is not there."""

    name: str
    """Its path below the source, with forward slashes."""
    path: Path | None
    text: str = ""
    trouble: str = ""
    """Why it is missing, or why it has no caption."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row of a `metadata.csv`."""

    line: int
    file: str
    text: str


@dataclass(frozen=True)
class _Caption:
    text: str
    trouble: str = ""
    notes: tuple[str, ...] = ()


def find(source: Path) -> tuple[Found, ...]:
    """Every file below `source` in stable order, and every file that a `metadata.csv` there names and that is missing.

    Hidden files and what operating systems leave behind are skipped; captions are not files of their own.

    Raises: BespokeError when `source` is no folder, cannot be listed or holds no file, or a `metadata.csv` is unusable.
    """
    _check(source)
    listed = dict(sorted(_walk(source), key=lambda entry: (_plain(entry[0]), entry[0])))
    tables = [name for name, path in listed.items() if PurePosixPath(name).name.lower() == TABLE and path.is_file()]
    files = {name: path for name, path in listed.items() if name not in tables}
    sidecars = _sidecars(files)
    used = {name for names in sidecars.values() for name in names}
    named, missing = _tables(listed, tables, {name for name in files if name not in used})
    found = [_found(name, path, named, sidecars, files) for name, path in files.items() if name not in used]
    if not found and not missing:
        raise BespokeError(f"{source} holds no pictures.", "Name a folder with pictures in it, or put some there.")
    return tuple(sorted((*found, *missing), key=lambda item: (_plain(item.name), item.name)))


def read_table(path: Path) -> list[Row]:
    """The rows of a `metadata.csv`, with captions on one line each.

    Raises: BespokeError when it is not UTF-8, not CSV, or lacks the columns `file_name` and `text`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_rows(path, file))
    except UnicodeDecodeError:
        hint = 'Save it as "CSV UTF-8" in your spreadsheet program.'
        raise BespokeError(f"{path} is not UTF-8 text.", hint) from None
    except OSError as error:
        raise BespokeError(f"{path} cannot be read: {error.strerror}.", "Check that you may read it.") from error


def one_line(text: str) -> str:
    """The caption on one line: control characters and runs of white space become single spaces."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())


def litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left behind by an operating system."""
    return name.startswith(".") or name.lower() in LITTER


def printable(name: str) -> str:
    """The name with each byte that is not UTF-8 spelled out, since JSON and CSV cannot hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


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


def _sidecars(files: Iterable[str]) -> dict[str, list[str]]:
    """For each other file, the caption files beside it: `cat.txt`, `cat.caption` or `cat.png.txt` for `cat.png`."""
    others: dict[str, list[str]] = {}
    texts: list[PurePosixPath] = []
    for path in map(PurePosixPath, files):
        if path.suffix.lower() in SIDECARS:
            texts.append(path)
            continue
        for key in {_plain(str(path)), _plain(str(path.with_suffix("")))}:
            others.setdefault(key, []).append(str(path))
    beside: dict[str, list[str]] = {}
    for text in sorted(texts, key=lambda path: SIDECARS.index(path.suffix.lower())):
        for other in others.get(_plain(str(text.with_suffix(""))), []):
            beside.setdefault(other, []).append(str(text))
    return beside


def _tables(
    listed: Mapping[str, Path], tables: Iterable[str], files: Collection[str]
) -> tuple[dict[str, _Caption], list[Found]]:
    """The captions that the tables give by file name, and the files they name that are not there."""
    known = {_plain(name): name for name in files}
    known.update((name, name) for name in files)
    captions: dict[str, _Caption] = {}
    missing: dict[str, Found] = {}
    # A table deeper in the tree lies nearer to its pictures, so it is heard first.
    for table in sorted(tables, key=lambda name: -name.count("/")):
        for row in read_table(listed[table]):
            name = _resolve(table, row.file)
            file = known.get(name) or known.get(_plain(name)) or known.get(_plain(name.replace("\\", "/")))
            if file is None:
                missing.setdefault(name, Found(name, None, trouble=_absence(table, row)))
            else:
                captions[file] = _merged(captions.get(file), row.text)
    return captions, list(missing.values())


def _rows(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    numbered = _numbered(path, lines)
    columns = [column.strip() for column in next(numbered, (0, [""]))[1]]
    if not {"file_name", "text"} <= set(columns):
        problem = (
            f"{path} needs the columns file_name and text; found: {', '.join(filter(None, columns)) or 'nothing'}."
        )
        raise BespokeError(problem, "Its first line must read: file_name,text - with commas between the columns.")
    file, text = columns.index("file_name"), columns.index("text")
    for line, cells in numbered:
        if any(cells):
            padded = [*cells, *[""] * len(columns)]
            yield Row(line, padded[file].strip(), one_line(padded[text]))


def _numbered(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record with the number of its last line."""
    reader = csv.reader(lines, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        hint = "Put a caption with commas or quotation marks in it between quotation marks, and double those inside it."
        raise BespokeError(f"{path} is not valid CSV in line {reader.line_num}: {error}.", hint) from None


def _resolve(table: str, file: str) -> str:
    """The name below the source of a file that `table` names, or the name as written when it points elsewhere."""
    name = os.path.normpath(PurePosixPath(table).parent / file).replace(os.sep, "/") if file else ""
    return name or f"{table}: a row without a name"


def _absence(table: str, row: Row) -> str:
    if not row.file:
        return f"line {row.line} of {table} has no file_name"
    return f"line {row.line} of {table} names {row.file}, and the source holds no such file (hidden ones are skipped)"


def _merged(earlier: _Caption | None, text: str) -> _Caption:
    if earlier is None or not earlier.text or earlier.text == text:
        return _Caption(text)
    return (
        _Caption(earlier.text, notes=("metadata.csv gives it several captions: the first is used",))
        if text
        else earlier
    )


def _found(
    name: str, path: Path, named: Mapping[str, _Caption], sidecars: Mapping[str, list[str]], files: Mapping[str, Path]
) -> Found:
    if not path.exists():
        return Found(name, None, trouble="a link to a file that is not there")
    caption = named.get(name, _Caption(""))
    for sidecar in sidecars.get(name, []):
        if not caption.text:
            caption = _sidecar(sidecar, files[sidecar])
    return Found(name, path, caption.text, caption.trouble, caption.notes)


def _sidecar(name: str, path: Path) -> _Caption:
    """The caption that a text file holds; one that cannot be used costs its picture, not the import."""
    if not path.is_file():
        return _Caption("", f"{name} is not a plain file")
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_CAPTION + 1)
        if len(content) > LONGEST_CAPTION:
            return _Caption("", f"{name} is too long for a caption")
        return _Caption(one_line(content.decode("utf-8-sig")), f"{name} is empty")
    except UnicodeDecodeError:
        return _Caption("", f"{name} is not UTF-8 text")
    except OSError as error:
        return _Caption("", f"{name} cannot be read: {error.strerror}")
