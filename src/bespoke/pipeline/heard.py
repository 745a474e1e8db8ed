"""Accepted pictures of a service as a source of datasets, and what must leave those when people think otherwise."""

import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.feedback.keeping import Deleted
from bespoke.feedback.keeping import forget as delete
from bespoke.feedback.places import place
from bespoke.feedback.reviewed import lay_out, withdrawn
from bespoke.feedback.store import Store
from bespoke.pipeline.datasets import FEEDBACK
from bespoke.records import Dataset, Picture
from bespoke.registry import shown

RECORD = "dataset.json"


@dataclass(frozen=True)
class Left:
    """A picture of a dataset, or of the record of a run that learnt from it, that should not be there any more."""

    record: Path
    """The dataset's record, or the one that the run began with."""
    file: str
    """The picture's name; empty where the record cannot be read, so that a person must look."""


@dataclass(frozen=True)
class Forgotten:
    """What was deleted on request, and what of it is elsewhere still."""

    deleted: Deleted
    left: tuple[Left, ...]


@contextmanager
def accepted(source: str) -> Generator[tuple[Path, str], None, None]:
    """A folder of the accepted pictures of the store that a source names, there for the block, and its name for people.

    Raises: BespokeError when there is no such store, or no picture in it is accepted.
    """
    given = source.removeprefix(FEEDBACK)
    with Store(place(given)) as store, tempfile.TemporaryDirectory(prefix="bespoke-") as folder:
        if not lay_out(store, Path(folder)):
            hint = "See which may be learnt from, and accept some: bespoke feedback review"
            raise BespokeError(f"No picture is accepted in {store.place.shown}.", hint)
        yield Path(folder), FEEDBACK + (shown(given) if given else "feedback.db")


def forget(
    store: Store, *, rater: str = "", sample: str = "", owner: str = "", datasets: Iterable[Path] = ()
) -> Forgotten:
    """What was deleted of a store on request, and which pictures of datasets and runs rest on it.

    It looks through the datasets that are named, those in the store's project, and what the project's runs began with.

    Raises: BespokeError as `feedback.keeping.forget` does.
    """
    gone = delete(store, rater=rater, sample=sample, owner=owner)
    return Forgotten(gone, left_over(store, gone, datasets))


def left_over(store: Store, gone: Deleted, datasets: Iterable[Path] = ()) -> tuple[Left, ...]:
    """Pictures of datasets and runs that rest on what is deleted, or on opinions that were taken back."""
    opinions = frozenset(gone.opinions) | withdrawn(store)
    samples, files = frozenset(gone.samples), frozenset(gone.files)
    found = list[Left]()
    for record in _records(store.place.project, datasets):
        try:
            _, dataset = Dataset.from_json(record.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            found.append(Left(record, ""))
            continue
        for one in _pictures(dataset):
            labels = one.labels
            if one.sha256 in files or labels.get("sample") in samples or labels.get("opinion") in opinions:
                found.append(Left(record, one.file))
    return tuple(found)


def _records(project: Path, datasets: Iterable[Path]) -> list[Path]:
    named = [folder / RECORD for folder in datasets]
    beside = (*project.glob(f"*/{RECORD}"), *project.glob(f"runs/*/begun/{RECORD}"))
    return list({path.resolve(): path for path in (*named, *sorted(beside))}.values())


def _pictures(dataset: Dataset) -> Iterator[Picture]:
    yield from dataset.pictures
    yield from (item.picture for item in dataset.set_aside if item.picture is not None)
