"""Served pictures of a version turned into what has changed since: readings day by day, alarms, and what to do."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.feedback.cusum import Sums
from bespoke.feedback.drift import Budget, Reading, Watch, Window, advice
from bespoke.feedback.places import place
from bespoke.feedback.store import Store
from bespoke.feedback.windows import Sampled, day_of, first_part, last_part, spans
from bespoke.hardware import machine
from bespoke.models import Clip
from bespoke.pipeline import driftpage, versioned
from bespoke.pipeline.canaries import Flight, fly
from bespoke.pipeline.measuring import clip_for
from bespoke.pipeline.naming import Named, named
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.served import FileOf, Instruments, goal_of, keep, kept, measured
from bespoke.recipe import Recipe
from bespoke.workspace import Journal, Project, alone, write_json

OWN = "reference"
"""Compares a version with its own first pictures."""


@dataclass(frozen=True)
class Source:
    """Samples of served pictures, and where their files lie."""

    samples: Sequence[Sampled]
    file: FileOf


@dataclass(frozen=True)
class Day:
    """The readings of one window."""

    day: str
    readings: tuple[Reading, ...]

    @property
    def alarms(self) -> tuple[Reading, ...]:
        """Those that rang."""
        return tuple(one for one in self.readings if one.rang)


@dataclass(frozen=True)
class Drifted:
    """What became of a version's pictures since its reference."""

    version: str
    against: str
    page: Path
    content: Path
    """The newest day as JSON."""
    folder: Path
    level: float
    """The p at which a figure rings at once; 0 where there is no reference yet."""
    budget: Budget
    pictures: int = 0
    """How many the reference has."""
    days: tuple[Day, ...] = ()
    new: int = 0
    """So many of the days were not known before."""
    flight: Flight = field(default_factory=lambda: Flight("", ()))
    note: str = ""
    """Why nothing is compared yet."""

    @property
    def alarms(self) -> tuple[Reading, ...]:
        """What rang on the newest day."""
        return self.days[-1].alarms if self.days else ()

    @property
    def advice(self) -> list[str]:
        """What to do now."""
        return list(advice(self.alarms, self.flight.worst))


def drift(
    project: str | Path = ".", version: str = "", against: str = OWN, *, source: Source | None = None,
    feedback: str = "", overrides: Sequence[str] = (), now: date | None = None, canaries: bool = True,
    report: Reporter = silent,
) -> Drifted:  # fmt: skip
    """What has changed in a version's served pictures: since its first ones, or against another version's last ones.

    `version` is a title such as `my-style@7`, by default that of the newest sample; `source` is by default what the
    store `feedback` holds, or the nearest one. Days before `now`, by default today in UTC, are measured once, read and
    kept; canaries are drawn once a day. What is kept of a reference are numbers, no picture and no prompt.

    Raises: BespokeError when there is no such version, no sample at all, or no CLIP to measure with.
    """
    root = Path(project)
    recipe = _recipe(root, overrides)
    found = source or _in_store(feedback, root)
    title, usual = _title(version, root) or _newest(found.samples), _title(against, root)
    clip, model = Clip(clip_for(recipe), machine().device), named(title, root)
    day = now or datetime.now(UTC).date()
    folder = root / "drift" / _called(title)
    with alone(folder):
        flight = Flight("", ())
        if canaries:
            flight = fly(model, recipe, root, folder / "canaries", clip, day.isoformat(), report)
        place = folder / f"{_called(usual)}-{_mark(recipe, clip)}"
        done = _watched(_Asked(root, recipe, title, usual, place, clip, model, day), found, flight, report)
        driftpage.write(done)
        write_json(done.content, to_json(done))
    return done


def to_json(done: Drifted) -> dict[str, Any]:
    """The newest day, as a program reads it."""
    return {
        "version": done.version, "against": done.against, "reference_pictures": done.pictures, "days": len(done.days),
        "day": done.days[-1].day if done.days else "", "level": done.level, "budget": asdict(done.budget),
        "alarms": [{"figure": one.figure, "rang": one.rang, "words": one.words} for one in done.alarms],
        "alarms_before": {day.day: [one.figure for one in day.alarms] for day in done.days[:-1] if day.alarms},
        "canaries": done.flight.worst, "advice": done.advice, "note": done.note,
        "readings": [asdict(one) for one in (done.days[-1].readings if done.days else ())],
    }  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """What is compared with what, and where that is kept."""

    project: Path
    recipe: Recipe
    title: str
    against: str
    place: Path
    clip: Clip
    model: Named
    before: date
    """Days before this one are over."""

    @property
    def budget(self) -> Budget:
        return Budget(self.recipe.drift.false_alarms, self.recipe.drift.days)


def _watched(asked: _Asked, found: Source, flight: Flight, report: Reporter) -> Drifted:
    """The days that were kept and the new ones, which are kept now."""
    nothing = Drifted(
        asked.title, asked.against, asked.place / "index.html", asked.place / "newest.json", asked.place, 0.0,
        asked.budget, flight=flight,
    )  # fmt: skip
    try:
        reference, by = _reference(asked, found, report)
    except BespokeError as error:
        return replace(nothing, note=f"{error.problem} {error.hint}")
    journal = Journal(asked.place / "days.jsonl")
    days = list(_read(journal))
    sums = {one.figure: Sums() if one.sums.beyond(one.h) else one.sums for day in days for one in day.readings}
    watch = Watch(reference, asked.budget, sums)
    own = asked.against == OWN
    after = days[-1].day if days else reference.day if own else ""
    settings = asked.recipe.drift
    fresh = (sample for sample in found.samples if day_of(sample) > after)
    new = spans(fresh, asked.title, asked.before, least=settings.least, most=settings.most)
    for span in new:
        day = Day(span.day, watch.read(measured(span, found.file, by, report, f"look at {span.day}")))
        journal.append({"day": day.day, "readings": [asdict(one) for one in day.readings]})
        days.append(day)
    count = max(len(rows) for rows in reference.values.values())
    return replace(nothing, level=watch.level, pictures=count, days=tuple(days), new=len(new))


def _reference(asked: _Asked, found: Source, report: Reporter) -> tuple[Window, Instruments]:
    """The reference's figures as they were kept, which is now where they were not yet, and what measures others so."""
    file, settings = asked.place / "reference.safetensors", asked.recipe.drift
    goal = asked.place / "goal.safetensors"
    tokenizer = asked.model.checkpoint.tokenizer()
    if file.is_file():
        return kept(file), Instruments(asked.clip, tokenizer, kept(goal).values.get("goal"))
    own = asked.against == OWN
    there = spans(
        found.samples, asked.title if own else asked.against, asked.before, least=settings.least, most=settings.most
    )
    wanted = settings.reference_pictures
    span = first_part(there, wanted)[0] if own else last_part(there, wanted, asked.against)
    by = Instruments(asked.clip, tokenizer, goal_of(asked.clip, asked.recipe, asked.project))
    window = measured(span, found.file, by, report, "look at the reference")
    keep(Window(span.day, {}, {} if by.goal is None else {"goal": by.goal}), goal)
    keep(window, file)
    return window, by


def _read(journal: Iterable[Any]) -> Iterator[Day]:
    """The days that were kept, oldest first."""
    for line in journal:
        yield Day(line["day"], tuple(_reading(one) for one in line["readings"]))


def _reading(content: dict[str, Any]) -> Reading:
    rest = {name: value for name, value in content.items() if name != "sums"}
    return Reading(sums=Sums(*content["sums"]), **rest)


def _in_store(feedback: str, root: Path) -> Source:
    """What a service was allowed to keep, in the store that is named or the project's nearest."""
    with Store(place(feedback, root)) as store:
        samples = list(store.samples(canary=False))
        files = {sample.id: store.shelf.path(sample.sha256) for sample in samples}
    return Source(samples, lambda sample: files[sample.id])


def _recipe(root: Path, overrides: Sequence[str]) -> Recipe:
    file = Project(root).recipe
    return recipes.load(file, overrides) if file.is_file() else recipes.parse(recipes.put({}, *overrides), "--set")


def _title(name: str, root: Path) -> str:
    """What samples call the version that a name means: an alias means another one tomorrow."""
    alias = name.rpartition("@")[2]
    return versioned.found(name, root).title if versioned.is_registered(name) and not alias.isdecimal() else name


def _newest(samples: Sequence[Sampled]) -> str:
    served = [sample for sample in samples if not sample.canary]
    if not served:
        hint = "Let the service keep some, or name a version: bespoke feedback drift --version my-style@7."
        raise BespokeError("No served picture is kept here.", hint)
    return max(served, key=lambda sample: datetime.fromisoformat(sample.at)).model


def _mark(recipe: Recipe, clip: Clip) -> str:
    """Of what makes readings comparable: with other settings, or another CLIP, watching begins anew."""
    settings = recipe.drift.model_dump(exclude={"canaries", "canary_seeds"})
    told = json.dumps([clip.name, clip.mark, clip.resizer, settings], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _called(title: str) -> str:
    """A folder's name for a version: other titles have others."""
    return quote(title, safe="@")
