"""The tables of a store of feedback, and how a store that an older version made comes to have them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    inspect,
    select,
    text,
    update,
)

from bespoke.errors import BespokeError

VERSION = 1
"""Of the tables. Whoever changes them adds one, and a step below."""
STEPS: Mapping[int, Sequence[str]] = {}
"""The SQL, for SQLite and PostgreSQL alike, that brings a store from the version before to each version."""
LOCK = 0x62657370
"""The number of the lock by which PostgreSQL lets one program at a time make the tables, or delete."""

metadata = MetaData()
version = Table("feedback_version", metadata, Column("version", Integer, nullable=False))
samples = Table(
    "feedback_sample",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", String, nullable=False),
    Column("model", String, nullable=False),
    Column("name", String, nullable=False),
    Column("prompt", String, nullable=False),
    Column("negative_prompt", String, nullable=False),
    Column("seed", String, nullable=False),  # one of 64 bits without a sign has no column of its own
    Column("settings", String, nullable=False),
    Column("owner", String, nullable=False, index=True),
    Column("flagged", Boolean, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("canary", Boolean, nullable=False),
    Column("source", String, nullable=False),
    Column("sha256", String, nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Index("feedback_sample_order", "at", "id"),
)
opinions = Table(
    "feedback_opinion",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("sample", String, nullable=False, index=True),
    Column("other", String, nullable=False, index=True),
    Column("rater", String, nullable=False, index=True),
    Column("value", String, nullable=False),
    Column("words", String, nullable=False),
    Column("consent", Boolean, nullable=False),
    Column("licence", String, nullable=False),
    Column("model", String, nullable=False),
    Column("other_model", String, nullable=False),
    Column("asked", String, nullable=False),
    Column("withdrawn", String, nullable=False),
    Index("feedback_opinion_order", "at", "id"),
)
reviews = Table(
    "feedback_review",
    metadata,
    Column("sample", String, primary_key=True),
    Column("at", String, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("by", String, nullable=False),
    Column("opinion", String, nullable=False),
)
tallies = Table(
    "feedback_tally",
    metadata,
    Column("model", String, primary_key=True),
    Column("samples", BigInteger, nullable=False),
    Column("unsafe", BigInteger, nullable=False),
    Column("complained", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
)
deletions = Table(
    "feedback_deletion",
    metadata,
    Column("at", String, nullable=False),
    Column("why", String, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("opinions", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)


def prepare(connection: Connection) -> None:
    """Makes the tables in a store that has none, or brings them to this version; nobody else may do so meanwhile.

    Raises: BespokeError when a newer version wrote them.
    """
    if not inspect(connection).has_table(version.name):
        metadata.create_all(connection)
        connection.execute(version.insert().values(version=VERSION))
        return
    there = connection.execute(select(version.c.version)).scalar_one()
    if there > VERSION:
        problem = f"The store of feedback has version {there}, and this bespoke reads up to {VERSION}."
        raise BespokeError(problem, "Install a newer bespoke.")
    for number in range(there + 1, VERSION + 1):
        for statement in STEPS[number]:
            connection.execute(text(statement))
    if there < VERSION:
        connection.execute(update(version).values(version=VERSION))
