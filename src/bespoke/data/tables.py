"""A table of file names and captions, as Hugging Face's ImageFolder reads it, turned into its rows, and written."""

import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bespoke.errors import BespokeError
from bespoke.records import Picture
from bespoke.workspace import write_text

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


def table_of(pictures: Iterable[Picture]) -> str:
    """The `metadata.csv` of pictures; it has a column of repeats only where some picture counts other than once."""
    return _written([(FILE, TEXTS[0])], pictures)


def fit_table(path: Path, pictures: Sequence[Picture]) -> None:
    """Makes a `metadata.csv` name exactly these pictures: rows of others go, rows that lack are added, the rest stays.

    Captions and columns that people wrote into it are kept.
    """
    if not path.exists():
        write_text(path, table_of(pictures))
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *records = [cells for _, cells in _records(path, file)]
    place = [column.strip() for column in header].index(FILE)
    files = {picture.file for picture in pictures}
    known = {cells[place].strip() for cells in records if len(cells) > place}
    kept = [cells for cells in records if len(cells) > place and cells[place].strip() in files]
    if len(kept) < len(records) or not files <= known:
        write_text(path, _written([header, *kept], [p for p in pictures if p.file not in known]))


def number(value: float) -> str:
    """The number as a person writes it, to its last digit: 2, 0.5."""
    return repr(float(value)).removesuffix(".0")


def _written(records: Sequence[Sequence[str]], pictures: Iterable[Picture]) -> str:
    """CSV of a header with rows, and of pictures whose cells are put under its columns."""
    added = list(pictures)
    header = list(records[0])
    if REPEATS not in header and any(p.repeats != 1 for p in added):
        header.append(REPEATS)
    columns = [column.strip() for column in header]
    text = next(name for name in TEXTS if name in columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([*cells, *[""] * len(header)][: len(header)] for cells in records[1:])
    for picture in added:
        cells = {FILE: picture.file, text: picture.text, REPEATS: number(picture.repeats)}
        writer.writerow([cells.get(column, "") for column in columns])
    return out.getvalue()


def one_line(text: str) -> str:
    """The caption on one line: control characters, halves of characters and runs of white space become one space.

    One of nothing but characters that cannot be seen is empty.
    """
    line = " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text).split())
    return line if any(unicodedata.category(c) not in ("Cf", "Zs") for c in line) else ""


def caption_of(value: object) -> str:
    """The caption in a value of any kind: a text, a number, or the first text of a list; empty for anything else."""
    if isinstance(value, list):
        value = next((part for part in cast(list[object], value) if isinstance(part, str)), None)
    return one_line(str(value)) if is_text(value) else ""


def is_text(value: object) -> bool:
    """Whether this is a text, or a number that a person would write: JSON also has true and NaN."""
    if isinstance(value, int | float):
        return not isinstance(value, bool) and abs(value) < math.inf
    return isinstance(value, str)


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
    return Row(line, file, caption_of(text), repeats)


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
