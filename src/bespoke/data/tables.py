"""A table of file names and captions, as Hugging Face's ImageFolder reads it, turned into its rows."""

import csv
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE, REPEATS = "file_name", "repeats"
TEXTS = ("text", "caption", "prompt")
"""Columns that may hold captions; the first that is there is used."""
MOST_REPEATS = 1000
"""More would be a slip of the pen."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    line: int
    """Its last line in the file or, in Parquet, its number."""
    file: str
    text: str
    repeats: float | None = None
    """How often the picture counts in an epoch, where the table says so."""


def read_table(path: Path) -> list[Row]:
    """The rows of a `metadata.csv`, `.jsonl` or `.parquet`, with captions on one line each.

    Raises: BespokeError when it cannot be read as what its name says, lacks the columns `file_name` and `text` (or
    `caption`, or `prompt`), or has a `repeats` that is no positive number.
    """
    try:
        return [_row(path, line, cells) for line, cells in _READERS[path.suffix.lower()](path)]
    except UnicodeDecodeError:
        hint = 'Save it as "CSV UTF-8" in your spreadsheet program.' if path.suffix == ".csv" else "Save it as UTF-8."
        raise BespokeError(f"{path} is not UTF-8 text.", hint) from None
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}."
        raise BespokeError(problem, "Check that you may read it, and that it is whole.") from error


def one_line(text: str) -> str:
    """The caption on one line: control characters, halves of characters and runs of white space become one space."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())


def repeats_of(value: object) -> float | None:
    """How often a picture counts, read from what a file says; nothing where that is no number above 0, up to 1000."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if 0 < number <= MOST_REPEATS else None


def _row(path: Path, line: int, cells: Mapping[str, Any]) -> Row:
    text = next((cells[name] for name in TEXTS if name in cells), "")
    said, repeats = cells.get(REPEATS), None
    if said not in (None, ""):
        repeats = repeats_of(said)
        if repeats is None:
            problem = (
                f"{path}, line {line}: {REPEATS} is {said!r}, which is no number above 0 and up to {MOST_REPEATS}."
            )
            raise BespokeError(problem, "Write how often the picture counts in an epoch, such as 2 or 0.5.")
    # Only the spaces that stand beside a comma go: a name may begin with others.
    file = "".join(c for c in str(cells[FILE] or "") if unicodedata.category(c) != "Cs").strip(" \t\r\n")
    return Row(line, file, one_line("" if text is None else str(text)), repeats)


def _check_columns(path: Path, columns: Iterable[str], hint: str) -> None:
    found = [column for column in columns if column]
    if FILE not in found or not set(TEXTS) & set(found):
        problem = f"{path} needs the columns {FILE} and {TEXTS[0]}; found: {', '.join(found) or 'nothing'}."
        raise BespokeError(problem, hint)


def _csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = _records(path, file)
        columns = [column.strip() for column in next(records, (0, [""]))[1]]
        _check_columns(path, columns, "Its first line must read: file_name,text - with commas between the columns.")
        for line, cells in records:
            if any(cells):
                # The first of two columns of one name counts, as in a spreadsheet's search.
                padded = [*cells, *[""] * len(columns)][: len(columns)]
                yield line, dict(reversed(list(zip(columns, padded, strict=True))))


def _records(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record with the number of its last line."""
    reader = csv.reader(lines, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        hint = "Put a caption with commas or quotation marks in it between quotation marks, and double those inside it."
        raise BespokeError(f"{path} is not valid CSV in line {reader.line_num}: {error}.", hint) from None


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    hint = 'Each line must read like {"file_name": "cat.png", "text": "a cat"}.'
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                cells = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BespokeError(f"{path} is not valid JSON in line {line}: {error}.", hint) from None
            if not isinstance(cells, dict):
                raise BespokeError(f"{path} has no object in line {line}.", hint)
            _check_columns(path, map(str, cells), hint)
            yield line, cells


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, "Write it with these columns.")
            wanted = [name for name in (FILE, *TEXTS, REPEATS) if name in file.schema_arrow.names]
            cells = [row for batch in file.iter_batches(columns=wanted) for row in batch.to_pylist()]
    except pyarrow.ArrowInvalid as error:
        problem = f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}"
        raise BespokeError(problem, "Write or copy it again.") from None
    yield from enumerate(cells, start=1)


_READERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
