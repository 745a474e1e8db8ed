"""What is deleted of a store: the oldest pictures by age and size, and on request all of a person or of a picture.

Files go before the rows that name them, so a call that was killed can be made again and finds what is left to do.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select, text

from bespoke.errors import BespokeError
from bespoke.feedback.records import moment, now
from bespoke.feedback.store import PAGE, Store
from bespoke.feedback.tables import deletions, opinions, reviews, samples, tallies

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Deleted:
    """What is gone, by the names that datasets may still have it under; the store itself keeps none of them."""

    samples: tuple[str, ...] = ()
    opinions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """The SHA-256 of the pictures' files."""
    bytes: int = 0

    def __add__(self, other: "Deleted") -> "Deleted":
        """Both together."""
        return Deleted(
            self.samples + other.samples, self.opinions + other.opinions, self.files + other.files,
            self.bytes + other.bytes,
        )  # fmt: skip


def keep(store: Store, *, days: float | None = None, megabytes: float | None = None) -> Deleted:
    """Deletes pictures older than so many days, then the oldest until the files take so many MB at most.

    Figures of them stay by version, and opinions as votes without words.

    Raises: BespokeError when a limit is below 0, or the store cannot be written.
    """
    if any(limit is not None and limit < 0 for limit in (days, megabytes)):
        raise BespokeError("Less than nothing cannot be kept.", "Give days and megabytes from 0 on.")
    gone = Deleted()
    if days is not None:
        before = moment(datetime.now(UTC) - timedelta(days=days))
        while found := _removed(store, "age", samples.c.at < before):
            gone += found
    while megabytes is not None and (found := _removed(store, "size", most=int(megabytes * MEGABYTE))):
        gone += found
    scrub(store)
    return gone


def forget(store: Store, *, rater: str = "", sample: str = "", owner: str = "") -> Deleted:
    """Deletes all that a rater said, or one picture, or all that were drawn for a key, with what was said of them.

    Nothing of it stays in the store's files: what is kept is that something was deleted, when and how much.

    Raises: BespokeError when not exactly one is named, there is nothing of it, or the store cannot be written.
    """
    named = [name for name in (rater, sample, owner) if name]
    if len(named) != 1:
        raise BespokeError("Name a rater, a picture or a key, one at a time.", "bespoke feedback forget --rater NAME")
    gone = Deleted()
    if rater:
        gone += _silenced(store, rater)
    while not rater and (found := _removed(store, "asked", _whose(sample, owner), forgotten=True)):
        gone += found
    if sample:
        gone += _unsaid(store, sample)
    scrub(store)
    if not gone.samples and not gone.opinions:
        raise BespokeError(f"There is nothing of {named[0]}.", "See what there is: bespoke feedback list")
    return gone


def scrub(store: Store) -> None:
    """Takes away files that no record names, and what the database still holds of deleted rows.

    Raises: BespokeError when another program reads for longer than the store is patient: the rows are gone even so.
    """
    _sweep(store)
    with store.explained():
        if store.local:
            _rewrite(store)
            return
        with store.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"SET lock_timeout = {int(store.patience * 1000)}"))
            for table in (samples, opinions, reviews):
                connection.execute(text(f"VACUUM (FULL, ANALYZE) {table.name}"))


def _whose(sample: str, owner: str) -> ColumnElement[bool]:
    return samples.c.id == sample if sample else samples.c.owner == owner


def _removed(
    store: Store, why: str, *which: ColumnElement[bool], most: int | None = None, forgotten: bool = False
) -> Deleted | None:
    """Some of the oldest pictures that are meant, deleted; nothing where there are none. `most` is in bytes."""
    with store.writing() as connection:
        oldest = select(samples.c.id, samples.c.sha256, samples.c.bytes).where(*which)
        rows = connection.execute(oldest.order_by(samples.c.at, samples.c.id).limit(PAGE)).all()
        uses = _uses(connection, {row.sha256 for row in rows})
        excess = None if most is None else _total(connection) - most
        ids, freed = list[str](), dict[str, int]()
        for row in rows:
            if excess is not None and sum(freed.values()) >= excess:
                break
            ids.append(row.id)
            uses[row.sha256] -= 1
            if not uses[row.sha256]:
                freed[row.sha256] = row.bytes
        if not ids:
            return None
        said = _unsaid_of(connection, ids) if forgotten else _numbered(connection, ids)
        for digest in freed:
            store.shelf.remove(digest)
        connection.execute(samples.delete().where(samples.c.id.in_(ids)))
        connection.execute(reviews.delete().where(reviews.c.sample.in_(ids)))
        gone = Deleted(tuple(ids), tuple(said), tuple(freed), sum(freed.values()))
        _record(connection, why, gone)
    return gone


def _numbered(connection: Connection, ids: Sequence[str]) -> Sequence[str]:
    """Adds pictures to their versions' figures, and takes the words from what was said of them: no opinion goes."""
    complaint = select(opinions.c.sample).where(
        opinions.c.kind == "flag", opinions.c.withdrawn == "", opinions.c.sample.in_(ids)
    )
    served = select(
        samples.c.model,
        func.count(),
        func.sum(case((samples.c.flagged, 1), else_=0)),
        func.sum(case((samples.c.id.in_(complaint), 1), else_=0)),
        func.sum(samples.c.seconds),
    ).where(samples.c.id.in_(ids), ~samples.c.canary)
    for model, *figures in connection.execute(served.group_by(samples.c.model)).all():
        names = [column.name for column in tallies.c if column.name != "model"]
        more: dict[str, Any] = dict(zip(names, figures, strict=True))
        added = {name: tallies.c[name] + figure for name, figure in more.items()}
        if not connection.execute(tallies.update().where(tallies.c.model == model).values(added)).rowcount:
            connection.execute(tallies.insert().values(model=model, **more))
    about = opinions.c.sample.in_(ids) | opinions.c.other.in_(ids)
    connection.execute(opinions.update().where(about).values(words=""))
    return ()


def _unsaid_of(connection: Connection, ids: Sequence[str]) -> Sequence[str]:
    """Deletes what was said of pictures, and gives the names of it."""
    about = opinions.c.sample.in_(ids) | opinions.c.other.in_(ids)
    said = connection.execute(select(opinions.c.id).where(about)).scalars().all()
    connection.execute(opinions.delete().where(about))
    return said


def _unsaid(store: Store, sample: str) -> Deleted:
    """What was said of a picture that was never kept, or is gone already, deleted."""
    with store.writing() as connection:
        gone = Deleted(opinions=tuple(_unsaid_of(connection, [sample])))
        if gone.opinions:
            _record(connection, "asked", gone)
    return gone


def _silenced(store: Store, rater: str) -> Deleted:
    """All that a rater said or decided, deleted."""
    with store.writing() as connection:
        theirs = select(opinions.c.id).where(opinions.c.rater == rater)
        gone = Deleted(opinions=tuple(connection.execute(theirs).scalars().all()))
        connection.execute(reviews.delete().where(reviews.c.opinion.in_(theirs)))
        connection.execute(reviews.update().where(reviews.c.by == rater).values(by=""))
        connection.execute(opinions.delete().where(opinions.c.rater == rater))
        if gone.opinions:
            _record(connection, "asked", gone)
    return gone


def _record(connection: Connection, why: str, gone: Deleted) -> None:
    counts = {"samples": len(gone.samples), "opinions": len(gone.opinions), "bytes": gone.bytes}
    connection.execute(deletions.insert().values(at=now(), why=why, **counts))


def _uses(connection: Connection, digests: set[str]) -> dict[str, int]:
    """How many pictures have each file."""
    counted = select(samples.c.sha256, func.count()).where(samples.c.sha256.in_(digests)).group_by(samples.c.sha256)
    return {row[0]: row[1] for row in connection.execute(counted)}


def _total(connection: Connection) -> int:
    files = select(samples.c.sha256, samples.c.bytes).distinct().subquery()
    return int(connection.execute(select(func.coalesce(func.sum(files.c.bytes), 0))).scalar_one())


def _sweep(store: Store) -> None:
    """Deletes files that no record names: a kill may have left them, whole or in part."""
    for folder in sorted(store.shelf.root.glob("blobs/*")):
        with store.writing() as connection:
            there = {file.name: file for file in folder.iterdir()}
            named = select(samples.c.sha256).distinct().where(samples.c.sha256.startswith(folder.name))
            for name in there.keys() - set(connection.execute(named).scalars()):
                there[name].unlink()


def _rewrite(store: Store) -> None:
    """Writes an SQLite file anew without what is deleted, and empties its journal."""
    with store.engine().connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("VACUUM")
        ends = time.monotonic() + store.patience
        while driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > ends:
                problem = "The records are deleted, but another program reads the store, whose journal may hold them."
                raise BespokeError(problem, "End what reads it, and run the same command again.")
            time.sleep(0.05)
