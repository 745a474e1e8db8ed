"""Served pictures and opinions about them, kept in SQL; the pictures' files lie beside it by the hash of their content.

Every change is one transaction that nobody else's comes between, files included: what deletes a file knows that no
picture that is being added needs it.
"""

import hashlib
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import filelock
from sqlalchemy import ColumnElement, Connection, Engine, Table, create_engine, event, func, select, text, tuple_
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from bespoke.errors import BespokeError
from bespoke.feedback.places import Place, place
from bespoke.feedback.records import Opinion, Sample, now
from bespoke.feedback.tables import LOCK, deletions, opinions, prepare, reviews, samples, tallies
from bespoke.registry.blobs import Shelf

PATIENCE = 30.0
"""Seconds to wait for another process that writes."""
PAGE = 500
"""Records that are read at once."""
AGAIN = "Pictures that are gone cannot be had again: delete their record with bespoke feedback forget --sample."


@dataclass(frozen=True)
class Counts:
    """How much there is."""

    samples: int
    canaries: int
    bytes: int
    """Of the pictures' files, each once."""
    opinions: dict[str, int]
    """Of each kind, without those taken back."""
    accepted: int
    declined: int
    gone: int
    """Pictures that were kept once, and of which only figures are left."""
    deletions: tuple[dict[str, Any], ...]
    """When something was deleted, why and how much, oldest first."""


class Store:
    """Samples and opinions. Threads and processes may share it."""

    def __init__(self, where: str | Path | Place = "", *, patience: float = PATIENCE) -> None:
        """Opens the store at a file, a project's folder or a database's URL, and makes it where there is none.

        Raises: BespokeError when it cannot be reached or written, or was written by something else.
        """
        self.place = where if isinstance(where, Place) else place(str(where), must_be=False)
        self.shelf = Shelf(self.place.samples, AGAIN)
        self.patience = patience
        with self.explained():
            self._engine = self._made()
            try:
                with self._alone(), self.writing() as connection:
                    prepare(connection)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def local(self) -> bool:
        """Whether it is a file."""
        return self.place.file is not None

    def add(self, sample: Sample, picture: bytes) -> Sample:
        """A picture kept with its file, as it is on record now; one whose id is there already is left as it was.

        Raises: BespokeError when it cannot be kept.
        """
        digest = hashlib.sha256(picture).hexdigest()
        kept = replace(sample.checked(), sha256=digest, bytes=len(picture))
        with self.writing() as connection:
            there = connection.execute(select(samples).where(samples.c.id == kept.id)).mappings().first()
            if there is not None:
                return _sample(there)
            self.shelf.put_bytes(picture)
            row = {**asdict(kept), "seed": str(kept.seed), "settings": json.dumps(dict(kept.settings), sort_keys=True)}
            connection.execute(samples.insert().values(row))
        return kept

    def say(self, opinion: Opinion) -> Opinion:
        """An opinion kept, as it is on record now, with what is known of its pictures; the same id is kept once.

        Raises: BespokeError when it says nothing that can be said, or cannot be kept.
        """
        given = opinion.checked()
        with self.writing() as connection:
            there = connection.execute(select(opinions).where(opinions.c.id == given.id)).mappings().first()
            if there is not None:
                return Opinion(**there)
            kept = _about(connection, given)
            connection.execute(opinions.insert().values(asdict(kept)))
        return kept

    def withdraw(self, opinion: str, rater: str) -> bool:
        """Takes back what a rater said: it counts no more, and nothing is learnt by it. False where there is none."""
        mine = (opinions.c.id == opinion, opinions.c.rater == rater, opinions.c.withdrawn == "")
        with self.writing() as connection:
            taken = opinions.update().where(*mine).values(withdrawn=now(), consent=False, words="")
            return connection.execute(taken).rowcount > 0

    def review(self, sample: str, *, accepted: bool, by: str = "", opinion: str = "") -> None:
        """Keeps what a person decided on learning from a picture; `opinion` is the one that it rests on."""
        with self.writing() as connection:
            connection.execute(reviews.delete().where(reviews.c.sample == sample))
            row = {"sample": sample, "at": now(), "accepted": accepted, "by": by, "opinion": opinion}
            connection.execute(reviews.insert().values(row))

    def samples(self, *, model: str = "", since: str = "", canary: bool | None = None) -> Iterator[Sample]:
        """The pictures that are kept, oldest first, read as they are asked for; of one version, or from a moment on."""
        wanted = [samples.c.model == model] if model else []
        wanted += [] if canary is None else [samples.c.canary == canary]
        return (_sample(row) for row in self._pages(samples, since, *wanted))

    def has(self, sample: str) -> bool:
        """Whether a picture is kept."""
        with self.reading() as connection:
            return connection.execute(select(samples.c.id).where(samples.c.id == sample)).first() is not None

    def newest(self, count: int) -> list[Sample]:
        """So many of the pictures that are kept, newest first."""
        wanted = select(samples).order_by(samples.c.at.desc(), samples.c.id.desc()).limit(count)
        with self.reading() as connection:
            return [_sample(row) for row in connection.execute(wanted).mappings()]

    def opinions(self, *, kind: str = "", sample: str = "", rater: str = "", since: str = "") -> Iterator[Opinion]:
        """The opinions, oldest first, those taken back too; of one kind, person, or picture, or from a moment on."""
        wanted = [opinions.c.kind == kind] if kind else []
        wanted += [opinions.c.rater == rater] if rater else []
        wanted += [(opinions.c.sample == sample) | (opinions.c.other == sample)] if sample else []
        return (Opinion(**row) for row in self._pages(opinions, since, *wanted))

    def counts(self) -> Counts:
        """How much there is."""
        files = select(samples.c.sha256, samples.c.bytes).distinct().subquery()
        with self.reading() as connection:
            told = connection.execute(
                select(opinions.c.kind, func.count()).where(opinions.c.withdrawn == "").group_by(opinions.c.kind)
            )
            decided = connection.execute(select(reviews.c.accepted, func.count()).group_by(reviews.c.accepted))
            said = {row[0]: row[1] for row in told}
            judged = {bool(accepted): count for accepted, count in decided}
            return Counts(
                samples=_one(connection, select(func.count()).select_from(samples)),
                canaries=_one(connection, select(func.count()).select_from(samples).where(samples.c.canary)),
                bytes=_one(connection, select(func.coalesce(func.sum(files.c.bytes), 0))),
                opinions=dict(sorted(said.items())),
                accepted=judged.get(True, 0),
                declined=judged.get(False, 0),
                gone=_one(connection, select(func.coalesce(func.sum(tallies.c.samples), 0))),
                deletions=tuple(
                    dict(row) for row in connection.execute(select(deletions).order_by(deletions.c.at)).mappings()
                ),
            )

    @contextmanager
    def reading(self) -> Generator[Connection, None, None]:
        """A connection that sees one state of the store throughout."""
        one_state = {} if self.local else {"isolation_level": "REPEATABLE READ"}
        with self.explained(), self._engine.connect() as plain:
            connection = plain.execution_options(**one_state)
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Generator[Connection, None, None]:
        """A connection whose changes come all or not at all; nobody else's come between."""
        with self.explained(), self._engine.connect() as plain:
            connection = plain.execution_options(begin="IMMEDIATE")
            with connection.begin():
                if not self.local:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
                yield connection

    @contextmanager
    def explained(self) -> Generator[None, None, None]:
        """A block whose errors tell where the store is and what can be done. Raises: BespokeError."""
        try:
            yield
        except (SQLAlchemyError, OSError, filelock.Timeout) as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines()
            hint = "Look at the space on its disk, whether another program holds it, and at its address."
            problem = f"The feedback at {self.place.shown} cannot be read or written: {said[0] if said else error}."
            raise BespokeError(problem, hint) from error

    def engine(self) -> Engine:
        """SQLAlchemy's engine, for what is no transaction."""
        return self._engine

    def _pages(self, table: Table, since: str, *wanted: ColumnElement[bool]) -> Iterator[Any]:
        """Rows in the order of their moments; no lock is held between pages, and what is added meanwhile may come."""
        order, last = (table.c.at, table.c.id), (since, "")
        while True:
            rows = select(table).where(*wanted, tuple_(*order) > tuple_(*last)).order_by(*order).limit(PAGE)
            with self.reading() as connection:
                found = connection.execute(rows).mappings().all()
            yield from found
            if len(found) < PAGE:
                return
            last = found[-1]["at"], found[-1]["id"]

    def _made(self) -> Engine:
        file = self.place.file
        if file is None:
            try:
                return create_engine(make_url(self.place.address), pool_pre_ping=True)
            except ModuleNotFoundError as error:
                raise BespokeError(f"{error.name} is not installed.", 'pip install "bespoke[postgres]"') from error
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(URL.create("sqlite", database=str(file)), connect_args={"timeout": self.patience})
        event.listen(engine, "connect", _connected)
        event.listen(engine, "begin", _begun)
        return engine

    @contextmanager
    def _alone(self) -> Generator[None, None, None]:
        """A block that one process enters at a time: two cannot bring one SQLite file to write ahead at once."""
        if self.place.file is None:
            yield
            return
        lock = self.place.file.with_name(f".{self.place.file.name}.lock")
        with filelock.FileLock(lock, timeout=self.patience):
            with self._engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.execute("PRAGMA journal_mode=WAL")
            yield


def _connected(connection: Any, _: object) -> None:  # noqa: ANN401 - sqlite3's own
    """Leaves transactions to us, and overwrites what is deleted; what was said is on the disk when it is said."""
    connection.isolation_level = None
    for pragma in ("secure_delete=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


def _about(connection: Connection, opinion: Opinion) -> Opinion:
    """The opinion with what the store knows of its pictures."""
    known = {
        row.id: row
        for row in connection.execute(
            select(samples.c.id, samples.c.model, samples.c.prompt).where(
                samples.c.id.in_([opinion.sample, opinion.other])
            )
        )
    }
    first, second = known.get(opinion.sample), known.get(opinion.other)
    return replace(
        opinion,
        model=first.model if first else opinion.model,
        other_model=second.model if second else opinion.other_model,
        asked=hashlib.sha256(first.prompt.encode()).hexdigest()[:16] if first else opinion.asked,
    )


def _sample(row: Any) -> Sample:  # noqa: ANN401 - a row of the table
    told: dict[str, Any] = {**row, "seed": int(row["seed"]), "settings": json.loads(row["settings"])}
    return Sample(**told)


def _one(connection: Connection, query: Any) -> int:  # noqa: ANN401 - a query of one number
    return int(connection.execute(query).scalar_one())
