"""A folder of pictures and captions turned into a checked dataset on disk, and such a dataset read back."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bespoke.data import split
from bespoke.data.clean import Judged, Verdict, examine, judge
from bespoke.data.containers import Opened, opened
from bespoke.data.names import Names, safe_suffix
from bespoke.data.sources import Found, find, litter
from bespoke.data.tables import FILE, REPEATS, TABLES, TEXTS, Row, read_table
from bespoke.errors import BespokeError
from bespoke.records import Dataset, Picture, SetAside
from bespoke.workspace import atomic_file, sha256, write_json, write_text

RECORD = "dataset.json"
TABLE = TABLES[0]
TRAIN = "train"
ASIDE = "set-aside"
FEWEST = 2
"""One picture to learn from and one to measure by."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Copy:
    """A file to copy: from where, to where below the dataset's folder, and its hash where it is known."""

    origin: Path
    target: str
    sha256: str = ""


def build(
    source: str | Path,
    folder: Path,
    *,
    validation_fraction: float,
    seed: int,
    file_names: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """The dataset imported from `source` - a folder, an archive, a Parquet file, a URL - into `folder`.

    `source` itself is never changed. Running it again on the same source gives the same files, mends any that were
    damaged or lost, and keeps captions that were edited in `train/metadata.csv`. After a kill it goes on where it was.
    With `file_names`, a picture without a caption takes it from its name. `progress` is called with (files done, files
    in all).

    Raises: BespokeError when the source is unusable, fewer than 2 pictures remain, or `folder` holds something else.
    """
    split.validation((), validation_fraction, seed)  # a wrong fraction is refused before the pictures are read
    with opened(source) as inside:
        _check_apart(inside.origin, folder)
        found = (*inside.found, *(find(inside.folder, file_names=file_names) if inside.walk else ()))
        dataset, copies = _planned(inside, list(judge(_examined(found, progress))))
        _check_enough(inside.name, dataset)
        held_out = split.validation((p.pixels for p in dataset.pictures), validation_fraction, seed)
        pictures = (replace(p, split="validation") if p.pixels in held_out else p for p in dataset.pictures)
        dataset = replace(dataset, pictures=tuple(pictures))
        _check_same(folder, dataset, copies)
        try:
            return _write(folder, dataset, copies)
        except OSError as error:
            hint = "Check that you may write there and that the pictures are still where they were, then import again."
            raise BespokeError(f"The dataset {folder} could not be written: {error}.", hint) from error


def load(folder: Path) -> Dataset:
    """The dataset in `folder`, with the captions that stand in its `train/metadata.csv`.

    Raises: BespokeError when `folder` is no dataset, a picture is missing or changed, or one has no caption.
    """
    dataset = _record(folder)
    captioned = _captioned(folder, dataset)
    for picture in dataset.pictures:
        _check_intact(folder / TRAIN / picture.file, picture)
    return captioned


def _examined(found: Sequence[Found], progress: Progress | None) -> Iterator[Judged]:
    for done, item in enumerate(found, start=1):
        yield item, examine(item)
        if progress is not None:
            progress(done, len(found))


def _planned(source: Opened, judged: Iterable[Judged]) -> tuple[Dataset, list[_Copy]]:
    """The dataset to be, all of it still in training, and the files to copy for it."""
    pictures: list[Picture] = []
    aside: list[SetAside] = []
    copies: list[_Copy] = []
    train_names, aside_names = Names(TABLE), Names()
    for found, facts in judged:
        origin = f"{source.name}/{found.name}"
        if isinstance(facts, Verdict):
            name = aside_names.give(found.name, safe_suffix(found.name)) if _copyable(found) else ""
            aside.append(SetAside(origin, name, facts.reason, facts.detail))
            target, digest = f"{ASIDE}/{name}", ""
        else:
            name, digest = train_names.give(found.name, facts.suffix), facts.sha256
            notes = (*found.notes, *facts.notes)
            size = facts.width, facts.height
            pictures.append(
                Picture(name, found.text, digest, facts.pixels, *size, origin, repeats=found.repeats, notes=notes)
            )
            target = f"{TRAIN}/{name}"
        if name and found.path is not None:
            copies.append(_Copy(found.path, target, digest))
    return Dataset(tuple(pictures), tuple(aside)), copies


def _copyable(found: Found) -> bool:
    return found.path is not None and found.path.is_file() and os.access(found.path, os.R_OK)


def _check_apart(source: Path | None, folder: Path) -> None:
    if source is None:
        return
    inner, outer = folder.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        problem = f"The dataset {folder} and the pictures {source} lie within one another."
        raise BespokeError(problem, "Put the project beside the folder of pictures, not in it.")


def _check_enough(source: str, dataset: Dataset) -> None:
    count = len(dataset.pictures)
    if count >= FEWEST:
        return
    reasons = dataset.reasons()
    came = f"{dataset.files} file{'s' if dataset.files != 1 else ''} came in"
    counts = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
    lost = f"; set aside: {counts}" if counts else ""
    if set(reasons) <= {"not a picture", "missing file"} and not count:
        raise BespokeError(f"{source} holds no pictures: {came}{lost}.", "Name a folder with pictures in it.")
    problem = f"{count or 'No'} picture{'s' if count != 1 else ''} of {source} can be used, and {FEWEST} are needed: "
    raise BespokeError(f"{problem}{came}{lost}.", _advice(reasons, dataset.set_aside))


def _advice(reasons: dict[str, int], aside: Sequence[SetAside]) -> str:
    """What to do about the reason that cost most pictures."""
    costly = next((reason for reason in reasons if reason not in ("not a picture", "missing file")), "")
    if costly == "no caption":
        return (
            "Write captions: a metadata.csv with the columns file_name,text beside the pictures, "
            "or for each picture such as cat.png a text file cat.txt."
        )
    first = next((f" For one, {item.source}: {item.detail}." for item in aside if item.reason == costly), "")
    return f"Add more pictures with captions.{first}"


def _check_same(folder: Path, dataset: Dataset, copies: Iterable[_Copy]) -> None:
    """Refuses a folder that holds other pictures, rather than mixing two datasets."""
    hint = f"Import into another folder, or remove {folder} if nobody needs it."
    known = (folder / RECORD).exists()
    if known and _identity(_record(folder)) != _identity(dataset):
        raise BespokeError(f"{folder} already holds a dataset of other pictures or captions.", hint)
    planned = {copy.target for copy in copies} | {f"{TRAIN}/{TABLE}"}
    strangers = [name for name in _listed(folder, TRAIN) if name not in planned]
    if not known:
        strangers += [copy.target for copy in copies if (folder / copy.target).exists() and not _done(folder, copy)]
        table = folder / TRAIN / TABLE
        if table.exists() and table.read_bytes() != table_of(dataset.pictures).encode():
            strangers.append(f"{TRAIN}/{TABLE}")
    if strangers:
        raise BespokeError(f"{folder} holds files that are not from this import, such as {strangers[0]}.", hint)


def _listed(folder: Path, part: str) -> list[str]:
    return sorted(f"{part}/{path.name}" for path in (folder / part).glob("*") if not litter(path.name))


def _identity(dataset: Dataset) -> list[tuple[str, str, str, float]]:
    pictures = [(p.file, p.sha256, p.text, p.repeats) for p in dataset.pictures]
    return sorted(pictures + [(item.file, item.reason, "", 0.0) for item in dataset.set_aside])


def _write(folder: Path, dataset: Dataset, copies: Iterable[_Copy]) -> Dataset:
    for copy in copies:
        if not _done(folder, copy):
            _copy(folder, copy)
    if not (folder / TRAIN / TABLE).exists():
        write_text(folder / TRAIN / TABLE, table_of(dataset.pictures))
    captioned = _captioned(folder, dataset)
    # Written last: a folder without it is an import that has not ended.
    write_json(folder / RECORD, dataset.to_json())
    for leftover in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        leftover.unlink()
    return captioned


def _done(folder: Path, copy: _Copy) -> bool:
    target = folder / copy.target
    return target.is_file() and sha256(target) == (copy.sha256 or sha256(copy.origin))


def _copy(folder: Path, copy: _Copy) -> None:
    with atomic_file(folder / copy.target) as temporary:
        shutil.copyfile(copy.origin, temporary)
        if copy.sha256 and sha256(temporary) != copy.sha256:
            raise BespokeError(
                f"{copy.origin} changed while it was imported.", "Wait until it is complete, then import again."
            )


def table_of(pictures: Sequence[Picture]) -> str:
    """The `metadata.csv` of pictures; it has a column of repeats only where some picture counts other than once."""
    counted = any(p.repeats != 1 for p in pictures)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((FILE, TEXTS[0], REPEATS) if counted else (FILE, TEXTS[0]))
    writer.writerows((p.file, p.text, number(p.repeats)) if counted else (p.file, p.text) for p in pictures)
    return text.getvalue()


def number(value: float) -> str:
    """The number as a person writes it, to its last digit: 2, 0.5."""
    return repr(float(value)).removesuffix(".0")


def _record(folder: Path) -> Dataset:
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        hint = "Make one with: bespoke new DIR --images SOURCE"
        raise BespokeError(f"{folder} is no dataset: it holds no {RECORD}.", hint) from None
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from error
    try:
        version = content["version"]
        dataset = Dataset.from_json(content)
    except (KeyError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from error
    if version != 1:
        raise BespokeError(
            f"{path} has version {version}, and this bespoke reads version 1.", "Install a newer bespoke."
        )
    for picture in dataset.pictures:
        # A dataset may come from somebody else: its names must not lead out of its folder.
        if picture.file in ("", ".", "..") or "/" in picture.file or "\\" in picture.file:
            raise _damaged(path, f"{picture.file!r} is no file name")
    return dataset


def _damaged(path: Path, detail: str) -> BespokeError:
    hint = f"Remove {path} and import the same pictures again; captions in {TRAIN}/{TABLE} that you edited, copy first."
    return BespokeError(f"{path} is damaged: {detail}.", hint)


def _captioned(folder: Path, dataset: Dataset) -> Dataset:
    """The dataset with the captions of `train/metadata.csv`, where people edit them."""
    path = folder / TRAIN / TABLE
    if not path.exists():
        raise BespokeError(f"{path} is gone.", "Import the same pictures again: that writes it anew.")
    rows = {row.file: row for row in read_table(path)}
    texts = {file: row.text for file, row in rows.items()}
    unknown = sorted(texts.keys() - {p.file for p in dataset.pictures})
    if unknown:
        hint = "Add pictures to the folder they come from and import that into a new dataset, or remove the row."
        raise BespokeError(f"{path} names {unknown[0]}, which is not in the dataset.", hint)
    bare = [p.file for p in dataset.pictures if not texts.get(p.file)]
    if bare:
        raise BespokeError(f"{path} gives no caption for {bare[0]}.", f"Add the row: {bare[0]},its caption")
    return replace(dataset, pictures=tuple(_as_edited(p, rows[p.file]) for p in dataset.pictures))


def _as_edited(picture: Picture, row: Row) -> Picture:
    return replace(picture, text=row.text, repeats=picture.repeats if row.repeats is None else row.repeats)


def _check_intact(path: Path, picture: Picture) -> None:
    if path.is_file() and sha256(path) == picture.sha256:
        return
    what = "has changed since it was imported" if path.is_file() else "is gone"
    hint = f"Import the same pictures again to restore it; it came from {picture.source}."
    raise BespokeError(f"{path} {what}.", hint)
