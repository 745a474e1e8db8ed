"""Pictures that lie in the rows of Parquet and Arrow files, brought into files of their own, with their captions."""

import io
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from bespoke.data.intake.folders import Found, printable
from bespoke.data.intake.landing import Landing
from bespoke.data.intake.remote import CHUNK, Blob, Local
from bespoke.data.names import safe_suffix
from bespoke.data.tables import REPEATS, TEXTS, marks_of, one_line, plain_columns, repeats_of
from bespoke.errors import BespokeError

PARQUET, ARROW = (".parquet",), (".arrow",)
ROWS = 32
"""Rows of a table that are in memory at once."""


def parquet(blob: Blob, landing: Landing) -> Iterator[Found]:
    """The pictures embedded in a Parquet file, as Hugging Face's datasets stores them, with their captions.

    Only the columns that are used are read, page by page.

    Raises: BespokeError when it holds none; ValueError or OSError when it is damaged.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with blob.open(random=True) as stream, ParquetFile(stream, buffer_size=CHUNK, pre_buffer=False) as file:
            wanted, text = _columns(blob.name, file.schema_arrow)
            yield from _rows(file.iter_batches(batch_size=ROWS, columns=wanted), text, landing)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def arrow(blob: Blob, landing: Landing) -> Iterator[Found]:
    """The same of a table that Hugging Face's `save_to_disk` wrote: Arrow's stream format."""
    import pyarrow

    try:
        with _mapped(blob) as source, pyarrow.ipc.open_stream(source) as stream:
            wanted, text = _columns(blob.name, stream.schema)
            parts = (
                batch.select(wanted).slice(start, ROWS) for batch in stream for start in range(0, len(batch), ROWS)
            )
            yield from _rows(parts, text, landing)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _mapped(blob: Blob) -> Any:  # noqa: ANN401 - pyarrow is typed in part only
    """The file as Arrow reads it with least memory."""
    import pyarrow

    return pyarrow.memory_map(str(blob.path)) if isinstance(blob, Local) else blob.open()


def _rows(batches: Iterable[Any], text: str, landing: Landing) -> Iterator[Found]:
    """The pictures of a table's rows, each now in a file."""
    rows = (row for batch in batches for row in batch.to_pylist())
    for number, row in enumerate(rows):
        yield _embedded(row, text, f"{number:06d}", landing)


def _columns(name: str, schema: Any) -> tuple[list[str], str]:  # noqa: ANN401 - pyarrow is typed in part only
    """The columns to read, and which of them holds the caption."""
    import pyarrow

    names: list[str] = schema.names
    text = next((name for name in TEXTS if name in names), "")
    words = (pyarrow.string(), pyarrow.large_string())
    image = schema.field("image").type if "image" in names else None
    embedded = image is not None and pyarrow.types.is_struct(image) and image.get_field_index("bytes") >= 0
    if not embedded or not text or schema.field(text).type not in words:
        problem = f"{name} holds no pictures with captions; its columns: {', '.join(names)}."
        raise BespokeError(problem, "It needs a column `image` of structs with `bytes`, and a column `text` of texts.")
    return ["image", *plain_columns(schema)], text


def _embedded(row: dict[str, Any], text: str, name: str, landing: Landing) -> Found:
    """One row, its picture now in a file of this name (with the picture's own ending)."""
    image = row["image"] or {}
    own = PurePosixPath(str(image.get("path") or "").replace("\\", "/")).name
    path = landing.folder / f"{name}{safe_suffix(own)}"
    content: bytes = image.get("bytes") or b""
    if not landing.keeps(path, len(content)):
        landing.write(path, io.BytesIO(content))
    said = row.get(REPEATS)
    repeats = 1.0 if said is None else repeats_of(said)
    notes = () if repeats else (f"its repeats are {said!r} and not used",)
    name = f"{name}/{printable(own)}" if own else name
    return Found(name, path, one_line(row[text] or ""), repeats or 1.0, notes=notes, marks=marks_of(row))
