"""Ratings kept in an SQLite file: each is on the disk when it was given, and nothing else is changed by it."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.schema import CreateTable

from bespoke.errors import BespokeError
from bespoke.feedback.trials import Comparison, Trial

FILE = "ratings.db"
VERSION = 1
"""Of the tables; another one is not read."""
PATIENCE = 30.0
"""Seconds to wait for another process that writes."""
Choice = Literal["left", "right", "tie"]
CHOICES: tuple[str, ...] = get_args(Choice)

_metadata = MetaData()
_comparisons = Table(
    "comparison",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("content", String, nullable=False),
)
_ratings = Table(
    "rating",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("rater", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("item", Integer, nullable=False),
    Column("left", String, nullable=False),
    Column("right", String, nullable=False),
    Column("repeated", Boolean, nullable=False),
    Column("choice", String, nullable=False),
    Column("rated_at", String, nullable=False),
    UniqueConstraint("rater", "position"),
)
_told = Table("told", _metadata, Column("rater", String, primary_key=True))


@dataclass(frozen=True)
class Rating:
    """One answer: which of two pictures a rater preferred."""

    rater: str
    position: int
    """Its place in the rater's sequence."""
    item: int
    left: str
    right: str
    """The models that drew the pictures."""
    repeated: bool
    choice: Choice
    rated_at: str
    """The time in UTC, as ISO 8601 writes it."""

    @property
    def trial(self) -> Trial:
        """What the rater was shown."""
        return Trial(self.position, self.item, self.left, self.right, self.repeated)

    @property
    def chosen(self) -> str:
        """The model that was preferred, or nothing for a tie."""
        return {"left": self.left, "right": self.right, "tie": ""}[self.choice]


class Ratings:
    """The ratings of one comparison in one file. Threads and processes may share it."""

    def __init__(self, file: Path) -> None:
        """Opens the file, and makes it where there is none.

        Raises:
            BespokeError: it cannot be written, or holds something else.
        """
        self.file = file
        with self._explained():
            file.parent.mkdir(parents=True, exist_ok=True)
            url = URL.create("sqlite", database=str(file))
            self._engine = create_engine(url, connect_args={"timeout": PATIENCE})
            with self._engine.begin() as connection:
                self._prepare(connection)

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()

    def comparison(self) -> Comparison | None:
        """What the ratings are about, or nothing before that was said."""
        with self._explained(), self._engine.connect() as connection:
            content = connection.execute(select(_comparisons.c.content)).scalar()
        return None if content is None else Comparison.from_json(json.loads(content))

    def begin(self, comparison: Comparison) -> None:
        """Says what the ratings are about; saying the same again changes nothing.

        Raises:
            BespokeError: they are about something else.
        """
        with self._explained(), self._engine.begin() as connection:
            row = insert(_comparisons).prefix_with("OR IGNORE")
            connection.execute(row.values(id=1, content=json.dumps(comparison.to_json(), ensure_ascii=False)))
        self.check(comparison)

    def check(self, comparison: Comparison) -> None:
        """Nothing, where the ratings are about this or about nothing yet; items may lack their pixels.

        Raises:
            BespokeError: they are about something else.
        """
        known = self.comparison()
        said = "" if known is None else _differing(known, comparison)
        if said:
            hint = "Give another folder with --out, or the models, prompts, --seed and --repeat of before."
            raise BespokeError(f"{self.file} holds ratings of another comparison: {said}.", hint)

    def add(self, rater: str, trial: Trial, choice: Choice) -> bool:
        """Writes one rating; False, and nothing is changed, where the rater has rated this trial."""
        shown = {name: value for name, value in asdict(trial).items() if name in _ratings.c}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._explained():
            try:
                with self._engine.begin() as connection:
                    connection.execute(insert(_ratings).values(rater=rater, **shown, choice=choice, rated_at=now))
            except IntegrityError:
                return False
        return True

    def undo(self, rater: str) -> bool:
        """Takes the rater's last rating away; False where there is none.

        Raises:
            BespokeError: the rater was told which model is which.
        """
        last = select(func.max(_ratings.c.id)).where(_ratings.c.rater == rater).scalar_subquery()
        with self._explained(), self._engine.begin() as connection:
            knows = connection.execute(select(_told).where(_told.c.rater == rater)).first()
            if knows is None:
                return connection.execute(delete(_ratings).where(_ratings.c.id == last)).rowcount > 0
        raise BespokeError(f"{rater} has seen which model is which.", "Ratings cannot be taken back after that.")

    def tell(self, rater: str) -> None:
        """Keeps that the rater was told which model is which."""
        with self._explained(), self._engine.begin() as connection:
            connection.execute(insert(_told).prefix_with("OR IGNORE").values(rater=rater))

    def all(self, rater: str | None = None) -> tuple[Rating, ...]:
        """All ratings, or one rater's, as they were given."""
        wanted = select(*(column for column in _ratings.c if column.name != "id")).order_by(_ratings.c.id)
        if rater is not None:
            wanted = wanted.where(_ratings.c.rater == rater)
        with self._explained(), self._engine.connect() as connection:
            return tuple(Rating(**row) for row in connection.execute(wanted).mappings())

    @staticmethod
    def _prepare(connection: Connection) -> None:
        version = connection.execute(text("PRAGMA user_version")).scalar()
        tables = connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar()
        if version != VERSION and (version or tables):
            hint = "Give another folder with --out."
            raise BespokeError("A file is in the way of the ratings: it was written by something else.", hint)
        # The version first: another process that comes between must not take the tables for somebody else's.
        connection.execute(text(f"PRAGMA user_version = {VERSION}"))
        for table in (_comparisons, _ratings, _told):
            connection.execute(CreateTable(table, if_not_exists=True))

    @contextmanager
    def _explained(self) -> Generator[None, None, None]:
        try:
            yield
        except (DBAPIError, OSError) as error:
            said = str(error.orig if isinstance(error, DBAPIError) else error)
            hint = "Look at the file and the space on its disk, or give another folder with --out."
            raise BespokeError(f"The ratings in {self.file} cannot be read or written: {said}.", hint) from error


def _differing(known: Comparison, other: Comparison) -> str:
    """What two comparisons do not share, or nothing."""
    if known.models != other.models:
        return f"its models are {', '.join(known.models)}"
    if [(item.name, item.prompt) for item in known.items] != [(item.name, item.prompt) for item in other.items]:
        return "its prompts or files are others"
    if (known.seed, known.repeated) != (other.seed, other.repeated):
        return f"its seed is {known.seed}, and the part shown twice {known.repeated}"
    if any(two.pixels and one.pixels != two.pixels for one, two in zip(known.items, other.items, strict=True)):
        return "its pictures are others, though they are called the same"
    return ""
