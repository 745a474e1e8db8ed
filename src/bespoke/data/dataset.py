"""A checked dataset in its folder: its record, its table of captions, and its files, each where the record says."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from bespoke.data import masks
from bespoke.data.intake.folders import litter
from bespoke.data.tables import TABLES, Row, fit_table, read_table
from bespoke.errors import BespokeError
from bespoke.records import Dataset, Picture
from bespoke.workspace import sha256, write_lines

RECORD = "dataset.json"
TABLE = TABLES[0]
TRAIN = "train"
ASIDE = "set-aside"


def load(folder: Path) -> Dataset:
    """The dataset in `folder`, with the captions that stand in its `train/metadata.csv`.

    Raises: BespokeError when `folder` is no dataset, a picture or a mask is missing or changed, or one has no
    caption.
    """
    dataset = captioned(folder, record(folder))
    for picture in dataset.pictures:
        _check_intact(folder / TRAIN / picture.file, picture.sha256, picture)
        if picture.mask:
            _check_intact(masks.place(folder, picture.file), picture.mask, picture)
    return dataset


def record(folder: Path) -> Dataset:
    """What `dataset.json` says, after a change of the dataset that was killed has been brought to its end.

    Raises: BespokeError when there is none, or it is damaged.
    """
    dataset = _recorded(folder)
    if not dataset.settled:
        dataset = save(folder, dataset)
    return dataset


def save(folder: Path, dataset: Dataset, said: Collection[str] = ()) -> Dataset:
    """The dataset, written: the record, each file moved to where that says, and the table of captions made to fit.

    The table keeps the captions that are there, but for those of the files in `said`.

    A kill in between costs nothing: the record says that files may lie elsewhere, and `record` goes on from there.
    """
    write_lines(folder / RECORD, replace(dataset, settled=False).to_json())
    moves = [(p.file, ASIDE, TRAIN) for p in dataset.pictures] + [(s.file, TRAIN, ASIDE) for s in dataset.set_aside]
    for file, before, after in moves:
        if file and not (folder / after / file).exists() and (folder / before / file).exists():
            (folder / after).mkdir(parents=True, exist_ok=True)
            os.replace(folder / before / file, folder / after / file)
    fit_table(folder / TRAIN / TABLE, dataset.pictures, said)
    dataset = replace(dataset, settled=True)
    write_lines(folder / RECORD, dataset.to_json())
    for leftover in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        leftover.unlink()
    return dataset


def captioned(folder: Path, dataset: Dataset) -> Dataset:
    """The dataset with the captions of `train/metadata.csv`, where people edit them.

    Raises: BespokeError when the table is gone, names another picture or gives no caption for one.
    """
    path = folder / TRAIN / TABLE
    if not path.exists():
        raise BespokeError(f"{path} is gone.", "Import the same pictures again: that writes it anew.")
    rows = {row.file: row for row in read_table(path)}
    unknown = sorted(rows.keys() - {p.file for p in dataset.pictures})
    if unknown:
        hint = "Add pictures to the folder they come from and import that again, or remove the row."
        raise BespokeError(f"{path} names {unknown[0]}, which is not in the dataset.", hint)
    bare = [p.file for p in dataset.pictures if p.file not in rows or not rows[p.file].text]
    if bare:
        raise BespokeError(f"{path} gives no caption for {bare[0]}.", f"Add the row: {bare[0]},its caption")
    return replace(dataset, pictures=tuple(_as_edited(p, rows[p.file]) for p in dataset.pictures))


def strangers(folder: Path, files: Sequence[str]) -> list[str]:
    """The names of what lies in `train/` and is not among `files`."""
    known = {*files, TABLE}
    return sorted(f"{TRAIN}/{p.name}" for p in (folder / TRAIN).glob("*") if not litter(p.name) and p.name not in known)


def _recorded(folder: Path) -> Dataset:
    path = folder / RECORD
    try:
        version, dataset = Dataset.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        hint = "Make one with: bespoke new DIR --images SOURCE"
        raise BespokeError(f"{folder} is no dataset: it holds no {RECORD}.", hint) from None
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from error
    except (KeyError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from error
    if version != 1:
        raise BespokeError(
            f"{path} has version {version}, and this bespoke reads version 1.", "Install a newer bespoke."
        )
    aside = [item.file for item in dataset.set_aside if item.file]
    for file in (*(p.file for p in dataset.pictures), *aside):
        # A dataset may come from somebody else: its names must not lead out of its folder.
        if file in ("", ".", "..") or "/" in file or "\\" in file:
            raise _damaged(path, f"{file!r} is no file name")
    return dataset


def _damaged(path: Path, detail: str) -> BespokeError:
    hint = f"Remove {path} and import the same pictures again; captions in {TRAIN}/{TABLE} that you edited, copy first."
    return BespokeError(f"{path} is damaged: {detail}.", hint)


def _as_edited(picture: Picture, row: Row) -> Picture:
    repeats = picture.repeats if row.repeats is None else row.repeats
    weight = picture.weight if row.marks.weight is None else row.marks.weight
    edited = {"text": row.text, "repeats": repeats, "weight": weight}
    return replace(picture, **edited, labels=row.marks.labels, asked_split=row.marks.split)


def _check_intact(path: Path, digest: str, picture: Picture) -> None:
    if path.is_file() and sha256(path) == digest:
        return
    what = "has changed since it was imported" if path.is_file() else "is gone"
    hint = f"Import the same pictures again to restore it; it came from {picture.source}."
    raise BespokeError(f"{path} {what}.", hint)
