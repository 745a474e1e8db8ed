"""A dataset's pictures in files of many: tars as WebDataset reads them, and Parquet files, the same bytes each time."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast, runtime_checkable

from bespoke.data.intake.samples import HASH, LABELS, SOURCE
from bespoke.data.names import Names
from bespoke.data.tables import REPEATS, SPLIT, TEXTS, WEIGHT, cells_of, columns_of
from bespoke.records import Picture

SHARD_BYTES = 256 << 20
"""Of pictures in one shard, by default: some thousand photographs of a megapixel, and quickly sent again."""
ROWS = 32
"""Pictures held in memory at once for a Parquet file."""
_HUGGING = {"string": "string", "double": "float64"}
"""What Hugging Face calls Arrow's types."""


@runtime_checkable
class Writable(Protocol):
    """What takes bytes in order."""

    def write(self, content: bytes, /) -> object:
        """Takes the next bytes."""
        ...


@dataclass(frozen=True)
class Shard:
    """One file of many pictures, before it is written."""

    name: str
    """Its path in the export, with forward slashes."""
    pictures: Sequence[Picture]
    keys: Sequence[str]
    """What the samples are called, in a tar."""
    labels: Sequence[str]
    """The columns of a Parquet file that are not ours."""

    def write(self, source: Path, out: Writable) -> tuple[int, str]:
        """How many bytes were written to `out`, and their SHA-256; the pictures lie in `source`."""
        measured = Measured(out)
        (_tar if self.name.endswith(".tar") else _parquet)(self, source, measured)
        return measured.size, measured.digest.hexdigest()


class Measured(io.RawIOBase):
    """A file that hands on what is written to it, and knows how much that was."""

    def __init__(self, out: Writable | None = None) -> None:
        self._out, self.size, self.digest = out, 0, hashlib.sha256()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any, /) -> int:  # noqa: ANN401 - anything that holds bytes
        """Takes the next bytes."""
        block = bytes(content)
        if self._out is not None:
            self._out.write(block)
        self.digest.update(block)
        self.size += len(block)
        return len(block)

    def tell(self) -> int:
        """How many bytes were written."""
        return self.size


def shards_of(
    parts: Mapping[str, Sequence[Picture]], layout: str, most: int, size: Callable[[Picture], int]
) -> list[Shard]:
    """The shards of the parts of a split, as `webdataset` or `parquet`; of at most `most` bytes, or one picture."""
    name = _tars if layout == "webdataset" else _tables
    made: list[Shard] = []
    for part, pictures in parts.items():
        groups = list(_groups(pictures, most, size))
        labels = [column for column in columns_of(pictures) if column not in (REPEATS, WEIGHT)]
        names = Names()
        for number, group in enumerate(groups):
            keys = [names.give(_key(picture.file), "") for picture in group]
            made.append(Shard(name(part, number, len(groups)), group, keys, labels))
    return made


def _groups(pictures: Iterable[Picture], most: int, size: Callable[[Picture], int]) -> Iterator[list[Picture]]:
    group, used = list[Picture](), 0
    for picture in pictures:
        used += size(picture)
        if group and used > most:
            yield group
            group, used = [], size(picture)
        group.append(picture)
    if group:
        yield group


def _tars(part: str, number: int, _: int) -> str:
    return f"{part}/{number:06d}.tar"


def _tables(part: str, number: int, count: int) -> str:
    """One file's name as Hugging Face's datasets gives them. Source: datasets, `push_to_hub`."""
    return f"{part}.parquet" if count == 1 else f"{part}-{number:05d}-of-{count:05d}.parquet"


def _key(file: str) -> str:
    """The name of a sample: all of the file's but its ending, and without dots, for the first one ends it."""
    return PurePosixPath(file).stem.replace(".", "_")


def _tar(shard: Shard, source: Path, out: Measured) -> None:
    """Source: WebDataset's README: the members of a sample follow one another, and are equal up to their first dot."""
    with tarfile.open(fileobj=cast(Any, out), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for key, picture in zip(shard.keys, shard.pictures, strict=True):
            path = source / picture.file
            with path.open("rb") as content:
                archive.addfile(_member(f"{key}{path.suffix.lower()}", path.stat().st_size), content)
            said = json.dumps(_said(picture), ensure_ascii=False, indent=1)
            for ending, text in ((".txt", picture.text), (".json", said)):
                raw = text.encode()
                archive.addfile(_member(f"{key}{ending}", len(raw)), io.BytesIO(raw))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A member that is the same whenever, and by whomever, it is written."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


def _said(picture: Picture) -> dict[str, object]:
    """All that a table says of a picture, and where it came from."""
    asked = {SPLIT: picture.asked_split} if picture.asked_split else {}
    own: dict[str, object] = {"caption": picture.text, REPEATS: picture.repeats, WEIGHT: picture.weight, **asked}
    return own | {LABELS: picture.labels, SOURCE: picture.source, HASH: picture.sha256}


def _parquet(shard: Shard, source: Path, out: Measured) -> None:
    """Source: Hugging Face datasets' Image feature: a struct of bytes and path."""
    import pyarrow
    from pyarrow import parquet

    plain = {TEXTS[0]: pyarrow.string(), REPEATS: pyarrow.float64(), WEIGHT: pyarrow.float64()}
    plain |= dict.fromkeys(shard.labels, pyarrow.string())
    features = {column: {"dtype": _HUGGING[str(kind)], "_type": "Value"} for column, kind in plain.items()}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    told = json.dumps({"info": {"features": {"image": {"_type": "Image"}} | features}})
    schema = pyarrow.schema([("image", image), *plain.items()], metadata={"huggingface": told})
    with parquet.ParquetWriter(out, schema) as file:
        for start in range(0, len(shard.pictures), ROWS):
            rows = [_embedded(source, picture, shard.labels) for picture in shard.pictures[start : start + ROWS]]
            file.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))


def _embedded(source: Path, picture: Picture, labels: Sequence[str]) -> dict[str, object]:
    """One row: the picture itself, its caption, what it counts, and what stands in other columns."""
    image = {"bytes": (source / picture.file).read_bytes(), "path": picture.file}
    said = cells_of(picture)
    own: dict[str, object] = {TEXTS[0]: picture.text, REPEATS: picture.repeats, WEIGHT: picture.weight}
    return {"image": image} | own | {label: said.get(label) or None for label in labels}
