"""What people say of each version that drew pictures, as shares with intervals, and how often one beats another."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, case, func, select

from bespoke.evaluation.preference import Strength, Vote, WinRate, strengths, unbounded, wilson, win_rate
from bespoke.feedback.results import finite
from bespoke.feedback.store import Store
from bespoke.feedback.tables import opinions, samples, tallies

ONE_VOICE = 0.5
"""From this part of the thumbs on, one rater is most of what is heard; the interval takes all for independent."""
SCORES = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class Share:
    """A part of some things, from 0 to 1, with Wilson's 95 % interval; not a number where there are none."""

    hits: int
    count: int
    value: float
    low: float
    high: float

    @staticmethod
    def of(hits: int, count: int) -> "Share":
        """So many of so many."""
        return Share(hits, count, hits / count if count else float("nan"), *wilson(hits, count))


@dataclass(frozen=True)
class Standing:
    """What is said of one version."""

    model: str
    liked: Share
    """Thumbs that are up; of each rater's thumbs for one picture the last counts."""
    raters: int
    """Who gave thumbs."""
    loudest: float
    """The part of the thumbs that came from one rater."""
    complained: Share
    """Pictures that somebody flagged, of those that were kept at any time."""
    unsafe: Share
    """Pictures in which the safety checker found fault, of the same."""
    flags: dict[str, int]
    """How often each reason was given."""
    captions: int
    """Better captions that were written."""
    seconds: float
    """How long a picture took on average; not a number where none was kept."""


@dataclass(frozen=True)
class Rated:
    """What is said of all versions, and what choices between their pictures say."""

    versions: tuple[Standing, ...]
    win_rates: tuple[WinRate, ...]
    """Of each two versions between which somebody chose."""
    strengths: tuple[Strength, ...]
    """Of more than two versions, strongest first."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The ratings as JSON holds them; what cannot be told is null."""
        return finite(asdict(self))


def rated(store: Store) -> Rated:
    """What the opinions in a store say, without those that were taken back. Raises: BespokeError."""
    with store.reading() as connection:
        votes = _votes(connection)
        standings = _standings(connection)
    models = sorted({model for vote in votes for model in (vote.first, vote.second)})
    met = {frozenset((vote.first, vote.second)) for vote in votes}
    several = len(models) > 2
    found = strengths(votes, models) if several else ()
    return Rated(
        versions=standings,
        win_rates=tuple(win_rate(votes, *pair) for pair in combinations(models, 2) if frozenset(pair) in met),
        strengths=tuple(sorted(found, key=lambda strength: -strength.value)),
        notes=(*_one_voiced(standings), *(unbounded(votes, models) if several else ())),
    )


def _standings(connection: Connection) -> tuple[Standing, ...]:
    thumbs, said, drawn = _thumbs(connection), _said(connection), _drawn(connection)
    found = list[Standing]()
    for model in sorted(thumbs.keys() | said.keys() | drawn.keys()):
        ups, most, count, raters = thumbs.get(model, (0, 0, 0, 0))
        shown, unsafe, complained, seconds = drawn.get(model, (0, 0, 0, 0.0))
        told = said.get(model, {})
        found.append(
            Standing(
                model=model,
                liked=Share.of(ups, count),
                raters=raters,
                loudest=most / count if count else 0.0,
                complained=Share.of(complained, shown),
                unsafe=Share.of(unsafe, shown),
                flags={value: times for (kind, value), times in sorted(told.items()) if kind == "flag"},
                captions=told.get(("caption", ""), 0),
                seconds=seconds / shown if shown else float("nan"),
            )
        )
    return tuple(found)


def _thumbs(connection: Connection) -> dict[str, tuple[int, int, int, int]]:
    """Of each version its thumbs that are up, those of its loudest rater, all of them, and how many raters."""
    last = func.row_number().over(
        partition_by=(opinions.c.rater, opinions.c.sample), order_by=(opinions.c.at.desc(), opinions.c.id.desc())
    )
    valid = (opinions.c.kind == "thumb", opinions.c.withdrawn == "", opinions.c.model != "")
    thumbs = select(opinions.c.model, opinions.c.rater, opinions.c.value, last.label("last")).where(*valid).subquery()
    ups = func.sum(case((thumbs.c.value == "up", 1), else_=0)).label("ups")
    by_rater = select(thumbs.c.model, ups, func.count().label("count")).where(thumbs.c.last == 1)
    each = by_rater.group_by(thumbs.c.model, thumbs.c.rater).subquery()
    sums = select(each.c.model, func.sum(each.c.ups), func.max(each.c.count), func.sum(each.c.count), func.count())
    rows = connection.execute(sums.group_by(each.c.model)).all()
    return {model: (int(up), int(most), int(count), int(raters)) for model, up, most, count, raters in rows}


def _said(connection: Connection) -> dict[str, dict[tuple[str, str], int]]:
    """How often each flag and how many captions were given to each version."""
    valid = (opinions.c.kind.in_(("flag", "caption")), opinions.c.withdrawn == "", opinions.c.model != "")
    by = (opinions.c.model, opinions.c.kind, opinions.c.value)
    told = defaultdict[str, dict[tuple[str, str], int]](dict)
    for model, kind, value, count in connection.execute(select(*by, func.count()).where(*valid).group_by(*by)):
        told[model][kind, value] = count
    return told


def _drawn(connection: Connection) -> dict[str, tuple[int, int, int, float]]:
    """Pictures of each version that were kept at any time: how many, unsafe ones, flagged ones, and their seconds."""
    flags = select(opinions.c.sample).distinct().where(opinions.c.kind == "flag", opinions.c.withdrawn == "")
    unsafe, flagged = (
        func.sum(case((condition, 1), else_=0)) for condition in (samples.c.flagged, samples.c.id.in_(flags))
    )
    there = select(samples.c.model, func.count(), unsafe, flagged, func.sum(samples.c.seconds))
    gone = select(tallies.c.model, tallies.c.samples, tallies.c.unsafe, tallies.c.complained, tallies.c.seconds)
    sums = defaultdict[str, list[float]](lambda: [0, 0, 0, 0.0])
    for query in (there.where(~samples.c.canary).group_by(samples.c.model), gone):
        for model, *figures in connection.execute(query):
            sums[model] = [one + float(more) for one, more in zip(sums[model], figures, strict=True)]
    return {model: (int(count), int(bad), int(told), took) for model, (count, bad, told, took) in sums.items()}


def _votes(connection: Connection) -> list[Vote]:
    """The choices between pictures of different versions; of a rater's answers to one pair the last counts."""
    valid = (opinions.c.kind == "choice", opinions.c.withdrawn == "", opinions.c.model != opinions.c.other_model)
    named = (opinions.c.model != "", opinions.c.other_model != "")
    rows = connection.execute(select(opinions).where(*valid, *named).order_by(opinions.c.at, opinions.c.id))
    last = dict[tuple[str, str], Vote]()
    for row in rows:
        pair = " ".join(sorted((row.sample, row.other)))
        asked = row.asked or pair
        last[row.rater, pair] = Vote(row.rater, asked, pair, row.model, row.other_model, SCORES[row.value])
    return list(last.values())


def _one_voiced(standings: Sequence[Standing]) -> tuple[str, ...]:
    return tuple(
        f"{one.model}: {one.loudest:.0%} of its {one.liked.count} thumbs came from one rater; the interval takes all "
        "of them for independent."
        for one in standings
        if one.liked.count > 1 and one.loudest >= ONE_VOICE
    )
