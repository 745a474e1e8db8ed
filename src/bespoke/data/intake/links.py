"""A table of URLs turned into links, row by row: what is to be fetched, and what the row says of it."""

import csv
import functools
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import httpx

from bespoke.data.intake.folders import printable
from bespoke.data.tables import (
    FILE,
    REPEATS,
    SPLIT,
    TEXTS,
    UNMARKED,
    WEIGHT,
    Marks,
    caption_of,
    marks_of,
    plain_columns,
    repeats_of,
)
from bespoke.errors import BespokeError

URLS = ("photo_image_url", "url", "image_url", "img_url", "file_url")
"""Columns that hold pictures' addresses, in lower case; the first that is there is used."""
SAID = (*TEXTS, "photo_description", "ai_description", "description", "alt", "title")
"""Columns that may hold captions; the first that says something is heard."""
NAMES = (FILE, "photo_id", "key")
KNOWN = {
    "page": ("page", "photo_url", "foreign_landing_url", "page_url"),
    "author": ("author", "creator", "photographer"),
    "licence": ("licence", "license"),
}
"""What is told of a picture's origin, and the columns that may tell it."""
UNSPLASH = "photo_image_url"
"""The column by which Unsplash's table is known. Source: github.com/unsplash/datasets, DOCS.md."""
PHOTOGRAPHER = ("photographer_first_name", "photographer_last_name", "photographer_username")
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_DAMAGED = "\ufffd"


@dataclass(frozen=True)
class Link:
    """One row of a table of URLs, or one picture that a search engine found."""

    url: str
    """Empty where there is none to fetch."""
    name: str
    """A path that tells it from all other links of its table, and does not change when rows are added."""
    text: str = ""
    repeats: float = 1.0
    marks: Marks = UNMARKED
    """In its labels `url`, and where they are known `page`, `author`, `licence`, and what else the row says."""
    trouble: str = ""
    """Why there is nothing to fetch."""
    notes: tuple[str, ...] = ()


class Links:
    """The links of a table of URLs, read from the file anew whenever they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        """How many rows there are, counted without a look at what they say."""
        return sum(1 for _ in rows(self.path))

    def __iter__(self) -> Iterator[Link]:
        """One link a row.

        Raises: BespokeError when the file cannot be read at all.
        """
        seen = dict[int, int]()
        for line, cells, trouble in rows(self.path):
            link = _troubled(line, trouble) if trouble else _link(line, cells)
            yield replace(link, name=_numbered(link.name, seen))


def is_table(source: str | Path) -> bool:
    """Whether a source is a file that holds URLs of pictures, by its ending and its columns.

    Raises: BespokeError when it is a table of text without a column of URLs, or cannot be read.
    """
    path = Path(source)
    kind = kind_of(path)
    if not kind or not path.is_file():
        return False
    columns = _columns(path, kind)
    if any(name.strip().lower() in URLS for name in columns):
        return kind != ".parquet" or "image" not in columns
    if kind == ".parquet":
        return False
    hint = "Name a folder with pictures, or a table with a column `url` and, if you like, `text`."
    raise BespokeError(f"{path} is a file, not a folder, and a table without a column of URLs: {columns}.", hint)


def kind_of(path: Path) -> str:
    """The kind of table that a file's name tells: .csv, .tsv, .jsonl, .parquet; empty for other files."""
    name = path.name.lower().removesuffix(".gz").rstrip("0123456789")
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def key_of(url: str) -> str:
    """The name that stands for a URL on disk: 32 hexadecimal digits."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def public(url: str) -> str:
    """The URL without a name and a password in it."""
    parsed = parsed_url(url)
    return str(parsed.copy_with(username=None, password=None)) if parsed.userinfo else url


@functools.lru_cache(64)
def parsed_url(url: str) -> httpx.URL:
    """The URL in its parts: remembered for a moment, for a row asks for them several times."""
    return httpx.URL(url)


def trouble_of(url: str) -> str:
    """Why nothing can be fetched from a URL; empty where something can."""
    if not url:
        return "no URL"
    try:
        parsed = parsed_url(url)
    except (httpx.InvalidURL, ValueError) as error:
        return f"not a URL: {url[:200]!r} ({error})"
    if parsed.scheme not in ("http", "https") or not parsed.host:
        return f"not an address of the web: {url[:200]!r}"
    return ""


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    """The line, the cells by column and the trouble of each row; no more than a few rows are held at once.

    Raises: BespokeError when the file cannot be read.
    """
    readers: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, Any], str]]]] = {
        ".csv": _separated, ".tsv": _separated, ".jsonl": _objects, ".parquet": _parquet,
    }  # fmt: skip
    try:
        yield from readers[kind_of(path)](path)
    except (OSError, EOFError) as error:
        hint = "Check that you may read it, and that it is whole."
        raise BespokeError(f"{path} cannot be read: {error.args[-1] if error.args else error}.", hint) from error


def _link(line: int, cells: Mapping[str, Any]) -> Link:
    """The link of one row."""
    own = dict[str, str]()
    for name in cells:
        own.setdefault(name.strip().lower(), name)
    found = {name: caption_of(cells[own[name]]) for name in own}
    address = next(name for name in URLS if name in own)
    url = found[address]
    trouble = trouble_of(url)
    if trouble:
        return _troubled(line, trouble)
    spoken = next((name for name in SAID if found.get(name)), "")
    told = _origin(found)
    used = {address, spoken, *(name for names in KNOWN.values() for name in names), *NAMES[:1], *TEXTS}
    rest = {name: cells[own[name]] for name in own if name not in used}
    rest = {(name if name in (REPEATS, WEIGHT, SPLIT) else own[name]): value for name, value in rest.items()}
    marks = marks_of(rest)
    marks = replace(marks, labels={"url": public(url)} | told | marks.labels)
    repeats, unused = _amounts(rest, marks)
    damaged = any(_DAMAGED in value for value in found.values())
    notes = (*unused, *(("its row holds bytes that are not UTF-8",) if damaged else ()))
    return Link(url, _name(url, found), found.get(spoken, ""), repeats, marks, notes=notes)


def _origin(found: Mapping[str, str]) -> dict[str, str]:
    """Where the picture is from, by whom and under which licence, as far as the row tells."""
    told = {what: next((found[name] for name in names if found.get(name)), "") for what, names in KNOWN.items()}
    if UNSPLASH in found:
        first, last, user = (found.get(name, "") for name in PHOTOGRAPHER)
        told |= {"author": f"{first} {last}".strip() or user, "licence": told["licence"] or "Unsplash License"}
    return {what: text for what, text in told.items() if text}


def _amounts(cells: Mapping[str, Any], marks: Marks) -> tuple[float, tuple[str, ...]]:
    """How often the picture counts, and notes about cells that say what cannot be."""
    repeats = repeats_of(cells.get(REPEATS))
    heard = {REPEATS: repeats, WEIGHT: marks.weight, SPLIT: marks.split}
    unused = (name for name, value in heard.items() if value is None and cells.get(name) not in (None, ""))
    return repeats or 1.0, tuple(f"its {name} {cells[name]!r} cannot be and is not used" for name in unused)


def _name(url: str, found: Mapping[str, str]) -> str:
    """What tells the link from others - its URL, shortened - and what a person would call the picture."""
    own = next((found[name] for name in NAMES if found.get(name)), "") or unquote(parsed_url(url).path)
    return f"{key_of(url)[:12]}/{printable(PurePosixPath(own.replace(chr(92), '/')).name) or 'picture'}"


def _numbered(name: str, seen: dict[int, int]) -> str:
    """The name, with a number in it where another row of the table has the same URL."""
    key, slash, own = name.partition("/")
    if not slash:
        return name
    number = seen[int(key, 16)] = seen.get(int(key, 16), 0) + 1
    return name if number == 1 else f"{key}-{number}/{own}"


def _troubled(line: int, trouble: str) -> Link:
    return Link("", f"line {line}", trouble=f"line {line}: {trouble}")


def _columns(path: Path, kind: str) -> list[str]:
    """The columns of a table, of JSON those of its first row."""
    if kind == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            return list(parquet.read_schema(path).names)
        except (pyarrow.ArrowException, OSError):
            return []  # what is no Parquet file is explained by those who read pictures from one
    try:
        if kind == ".jsonl":
            return list(next((cells for _, cells, _ in islice(rows(path), 100) if cells), {}))
        with _text(path) as file:
            return next(_records(file, kind), (0, 0, [""], ""))[2]
    except (OSError, EOFError) as error:
        problem = f"{path} cannot be read: {error.args[-1] if error.args else error}."
        raise BespokeError(problem, "Check that you may read it, and that it is whole.") from error


def _text(path: Path) -> io.TextIOWrapper:
    """The lines of a table; bytes that are no UTF-8 become U+FFFD, and are told of later."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _records(file: Iterable[str], kind: str) -> Iterator[tuple[int, int, list[str], str]]:
    """The first line, the last line, the cells and the trouble of each record."""
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield from file
        ended = True

    reader, last = csv.reader(lines(), delimiter="\t" if kind == ".tsv" else ","), 0
    while True:
        try:
            cells, trouble = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            cells, trouble = [], f"not readable: {error}"
        if ended:  # within a record, for otherwise there would be none
            trouble = f"a quotation mark is not closed up to line {reader.line_num}, the last one"
        yield last + 1, reader.line_num, cells, trouble
        last = reader.line_num


def _separated(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    with _text(path) as file:
        records = _records(file, kind_of(path))
        columns = next(records, (0, 0, list[str](), ""))[2]
        for first, last, cells, trouble in records:
            # A quotation mark that nothing closes swallows the lines after it.
            unfit = last > first and len(cells) != len(columns)
            swallowed = f"{len(cells)} cells up to line {last}, not {len(columns)}: is a quotation mark not closed?"
            if trouble or any(cells):
                pairs = list(zip(columns, [*cells, *[""] * len(columns)], strict=False))
                # Of two columns of one name the first counts.
                yield first, dict(pairs) | dict(reversed(pairs)), trouble or (swallowed if unfit else "")


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    with _text(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                cells = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield line, {}, f"not valid JSON: {error}"
                continue
            named = isinstance(cells, dict)
            there = named and any(name.strip().lower() in URLS for name in cells)
            yield line, cells if named else {}, "" if there else "no URL"


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any], str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=1000, columns=plain_columns(file.schema_arrow))
            for line, cells in enumerate((row for batch in batches for row in batch.to_pylist()), start=1):
                yield line, cells, ""
    except pyarrow.ArrowException as error:
        raise OSError(str(error).splitlines()[0]) from error
