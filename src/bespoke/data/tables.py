"""A table of file names and captions, as Hugging Face's ImageFolder reads it, turned into its rows, and written."""

import csv
import io
import json
import math
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from bespoke.errors import BespokeError
from bespoke.records import Picture, Split
from bespoke.workspace import write_text

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE, REPEATS, WEIGHT, SPLIT = "file_name", "repeats", "weight", "split"
TEXTS = ("text", "caption", "prompt")
"""Columns that may hold captions; the first that is there is used."""
UNDERSTOOD = frozenset((FILE, *TEXTS, REPEATS, WEIGHT, SPLIT))
"""Columns with a meaning of their own; all others are labels."""
SIDES: dict[str, Split] = {"train": "train", **dict.fromkeys(("validation", "val", "valid", "test"), "validation")}
"""How people write a side of the split in lower case."""
MOST_REPEATS = 1000
"""More would be a slip of the pen."""


@dataclass(frozen=True)
class Marks:
    """What a table says of a picture besides its caption and how often it counts."""

    weight: float | None = None
    """What its loss counts for."""
    split: Split | None = None
    """The side of the split that it is to be on."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    """What stands in the other columns; empty cells are left out."""

    def over(self, other: "Marks") -> "Marks":
        """Both together; where they differ, this one is heard."""
        weight = other.weight if self.weight is None else self.weight
        return Marks(weight, self.split or other.split, other.labels | self.labels)


UNMARKED = Marks()


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    line: int
    """Its last line in the file or, in Parquet, its number."""
    file: str
    text: str
    repeats: float | None = None
    """How often the picture counts in an epoch, where the table says so."""
    marks: Marks = UNMARKED


def read_table(path: Path) -> list[Row]:
    """The rows of a `metadata.csv`, `.jsonl` or `.parquet`, with captions on one line each.

    Raises: BespokeError when it cannot be read as what its name says, lacks the columns `file_name` and `text` (or
    `caption`, or `prompt`), has `repeats` or a `weight` that is no positive number, or a `split` that is no side.
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
    """The `metadata.csv` of pictures, with the columns that some picture has something in.

    It has one of repeats, for instance, only where some picture counts other than once.
    """
    listed = list(pictures)
    header = [FILE, TEXTS[0], *columns_of(listed)]
    return _csv_of(header, [_row_of(header, picture) for picture in listed])


def fit_table(path: Path, pictures: Sequence[Picture], said: Collection[str] = ()) -> None:
    """Makes a `metadata.csv` say of exactly these pictures what their records say, but for captions that are there.

    Rows of others go, rows and columns that lack are added. Captions and whatever else people wrote are kept, but for
    the captions of the files in `said`, which have new ones.
    """
    if not path.exists():
        write_text(path, table_of(pictures))
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *records = [cells for _, cells in _records(path, file)]
    named, added = {column.strip() for column in header}, len(header)
    header += [column for column in columns_of(pictures) if column not in named]
    columns = [column.strip() for column in header]
    place, wanted = columns.index(FILE), {picture.file: picture for picture in pictures}
    ours = [cells for cells in records if len(cells) > place and cells[place].strip() in wanted]
    rows = [_fitted(cells, columns, added, wanted[cells[place].strip()]) for cells in ours]
    text = columns.index(next(name for name in TEXTS if name in columns))
    for row in rows:
        if (name := row[place].strip()) in said:
            row[text : text + 1] = [wanted[name].text]
    there = {cells[place].strip() for cells in ours}
    rows += [_row_of(columns, picture) for picture in pictures if picture.file not in there]
    if rows != records or len(columns) > added:
        write_text(path, _csv_of(header, rows))


def number(value: float) -> str:
    """The number as a person writes it, to its last digit: 2, 0.5."""
    return repr(float(value)).removesuffix(".0")


def _csv_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([*cells, *[""] * len(header)][: len(header)] for cells in rows)
    return out.getvalue()


def cells_of(picture: Picture) -> dict[str, str]:
    """What a table says of a picture by column, its name and its caption left out."""
    amounts = {REPEATS: number(picture.repeats), WEIGHT: number(picture.weight)}
    return amounts | {SPLIT: picture.asked_split or ""} | picture.labels


def columns_of(pictures: Sequence[Picture]) -> list[str]:
    """The columns in which some picture has something that is not usual; labels in the order in which they are met."""
    usual = {REPEATS: "1", WEIGHT: "1", SPLIT: ""}
    said = {column for p in pictures for column, cell in cells_of(p).items() if cell != usual.get(column)}
    named = dict.fromkeys((*usual, *(label for p in pictures for label in p.labels)))
    return [column for column in named if column in said]


def _row_of(columns: Sequence[str], picture: Picture) -> list[str]:
    text = next(name for name in TEXTS if name in columns)
    cells = cells_of(picture) | {FILE: picture.file, text: picture.text}
    return [cells.get(column, "") for column in columns]


def _fitted(cells: Sequence[str], columns: Sequence[str], added: int, picture: Picture) -> list[str]:
    """A row with those cells changed that say something else than the picture's record, and filled from `added` on."""
    fitted = list(cells)
    for column, wanted in cells_of(picture).items():
        at = columns.index(column) if column in columns else -1
        # A column that is added is filled; in one that is there an empty cell may stay.
        if at >= 0 and (
            at >= added or _meaning(column, (*cells, *[""] * len(columns))[at]) != _meaning(column, wanted)
        ):
            fitted += [""] * (at + 1 - len(fitted))
            fitted[at] = wanted
    return fitted


def _meaning(column: str, cell: str) -> object:
    """What a cell says, however it is written."""
    if column in (REPEATS, WEIGHT):
        return 1.0 if not cell.strip() else repeats_of(cell)
    return SIDES.get(cell.strip().lower()) if column == SPLIT else one_line(cell)


def one_line(text: str) -> str:
    """The caption on one line: control characters, halves of characters and runs of white space become one space.

    One of nothing but characters that cannot be seen is empty.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())  # as nearly all texts are, which is quickly seen
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


def marks_of(cells: Mapping[str, object]) -> Marks:
    """What the cells of one row, by column, say besides the caption; a value that cannot be is left out."""
    labels = {column.strip(): _label(value) for column, value in cells.items() if column not in UNDERSTOOD}
    weight, side = repeats_of(cells.get(WEIGHT)), SIDES.get(str(cells.get(SPLIT) or "").strip().lower())
    return Marks(weight, side, {column: label for column, label in labels.items() if column and label})


def _label(value: object) -> str:
    return number(value) if isinstance(value, float) and math.isfinite(value) else caption_of(value)


def _row(path: Path, line: int, cells: Mapping[str, Any]) -> Row:
    text = next((cells[name] for name in TEXTS if name in cells), "")
    repeats, marks = repeats_of(cells.get(REPEATS)), marks_of(cells)
    for column, value in ((REPEATS, repeats), (WEIGHT, marks.weight), (SPLIT, marks.split)):
        if value is None and cells.get(column) not in (None, ""):
            raise _no_such(path, line, column, cells[column])
    # Only the spaces that stand beside a comma go: a name may begin with others.
    file = "".join(c for c in str(cells[FILE] or "") if unicodedata.category(c) != "Cs").strip(" \t\r\n")
    return Row(line, file, caption_of(text), repeats, marks)


def _no_such(path: Path, line: int, column: str, said: object) -> BespokeError:
    where = f"{path}, line {line}: {column} is {said!r}, which is"
    if column == SPLIT:
        return BespokeError(f"{where} neither train nor validation.", "Write one of them, or leave the cell empty.")
    hint = {
        REPEATS: "Write how often the picture counts in an epoch, such as 2 or 0.5.",
        WEIGHT: "Write what its loss counts for, such as 2 or 0.5. Give a column about another weight another name.",
    }
    return BespokeError(f"{where} no number above 0 and up to {MOST_REPEATS}.", hint[column])


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
                pairs = list(zip(columns, padded, strict=True))
                yield line, dict(pairs) | dict(reversed(pairs))


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
            wanted = plain_columns(file.schema_arrow)
            cells = [row for batch in file.iter_batches(columns=wanted) for row in batch.to_pylist()]
    except pyarrow.ArrowInvalid as error:
        problem = f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}"
        raise BespokeError(problem, "Write or copy it again.") from None
    yield from enumerate(cells, start=1)


def plain_columns(schema: Any) -> list[str]:  # noqa: ANN401 - pyarrow is typed in part only
    """The columns of a Parquet file that are ours or hold texts or numbers."""
    from pyarrow import types

    kinds = (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
    plain = {one.name for one in schema if any(is_kind(one.type) for is_kind in kinds)}
    return [name for name in schema.names if name in UNDERSTOOD or name in plain]


_READERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
