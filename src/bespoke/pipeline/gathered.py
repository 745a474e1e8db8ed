"""A project looked over: its champion, what people and drift say of it, what is new, what a training costs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bespoke import recipe as recipes
from bespoke.data import dataset as datasets
from bespoke.errors import BespokeError
from bespoke.feedback import Place, Store
from bespoke.feedback import place as place_of_feedback
from bespoke.feedback.drift import BY_NAME
from bespoke.feedback.proposals import Facts, Heard
from bespoke.feedback.rated import Standing as Rated
from bespoke.feedback.rated import rated
from bespoke.feedback.reviewed import candidates, withdrawn
from bespoke.pipeline.updates import Updates, days_since
from bespoke.recipe import Recipe
from bespoke.records import Dataset
from bespoke.registry import CHAMPION, Catalogue, Standing, Version, place
from bespoke.workspace import Project, Run

HOUR = 3600


@dataclass(frozen=True)
class Scene:
    """Where an update happens, and what it starts from."""

    project: Project
    catalogue: Catalogue
    name: str
    champion: Version
    standing: Standing
    recipe: Recipe
    """The champion's, as it was trained by."""
    settings: Recipe
    """The project's own, now."""
    feedback: Place | None
    """Nothing where no feedback is kept."""
    ledger: Updates

    @property
    def folder(self) -> Path:
        """The dataset's."""
        return self.project.root / self.recipe.data.path

    @property
    def learnt(self) -> Dataset:
        """The dataset as it was when the champion was trained."""
        run = Run(self.catalogue.folder(self.champion))
        if not run.begun_dataset.is_file():
            hint = "Train a version anew by hand, and promote it."
            raise BespokeError(f"It is not known what {self.champion.title} was trained on.", hint)
        return Dataset.from_json(run.begun_dataset.read_text(encoding="utf-8"))[1]

    @property
    def there(self) -> Dataset:
        """The project's dataset as it is now."""
        return datasets.captioned(self.folder, datasets.record(self.folder))

    @property
    def accepted(self) -> frozenset[str]:
        """The hashes of the pictures that are accepted from feedback."""
        if self.feedback is None:
            return frozenset()
        with Store(self.feedback) as store:
            return frozenset(one.sample.sha256 for one in candidates(store, "accepted"))

    @property
    def withdrawn(self) -> list[str]:
        """The dataset's pictures that rest on opinions which were taken back."""
        if self.feedback is None:
            return []
        with Store(self.feedback) as store:
            gone = withdrawn(store)
        return [one.file for one in self.there.pictures if one.labels.get("opinion") in gone]

    def reigned(self, version: int | None) -> bool:
        """Whether a version is or was the champion: one that a person took back is not brought back by itself."""
        records = self.catalogue.standing(self.name).records
        return any(one.version == version and one.alias == CHAMPION for one in records)

    def heard(self, title: str) -> Heard:
        """What people say of a version."""
        return self._heard.get(title, Heard(title))

    @cached_property
    def _heard(self) -> Mapping[str, Heard]:
        if self.feedback is None:
            return {}
        with Store(self.feedback) as store:
            return {one.model: _heard(one) for one in rated(store).versions}


def scene(root: Path, name: str, feedback: str) -> Scene:
    """The project in a folder and the champion of a model, by default of the only one that has a champion.

    Raises: BespokeError when there is no registry, no such model, or it has no champion.
    """
    project = Project(root.resolve())
    catalogue = Catalogue(place(start=project.root))
    called = name or _only(catalogue)
    standing, champion = catalogue.standing(called), catalogue.meant(f"{called}@{CHAMPION}")
    recipe = recipes.load(Run(catalogue.folder(champion)).recipe)
    own = recipes.load(project.recipe) if project.recipe.is_file() else recipe
    return Scene(
        project, catalogue, called, champion, standing, recipe, own, _feedback(project, feedback, own.serve.feedback),
        Updates(project, called),
    )  # fmt: skip


def gather(here: Scene) -> Facts:
    """What speaks for or against training the champion anew.

    Raises: BespokeError when the dataset, the store of feedback or the champion's files cannot be read.
    """
    took_over = next(
        one.at
        for one in reversed(here.standing.records)
        if one.alias == CHAMPION and one.version == here.champion.number and one.kind in ("promoted", "rolled back")
    )
    predecessor = here.standing.previous(CHAMPION)
    return replace(
        difference(here.learnt, here.there, here.accepted),
        heard=here.heard(here.champion.title),
        days=days_since(took_over),
        before=here.heard(f"{here.name}@{predecessor}") if predecessor else None,
        alarms=_alarms(here.project, here.champion.title, took_over[:10]),
        withdrawn=len(here.withdrawn),
        steps=0 if here.recipe.stage else here.recipe.train.max_train_steps or 0,
        hours=_hours(here),
        spent=here.ledger.spent(here.settings.update.budget_days),
        idle=here.ledger.idle(),
    )


def difference(learnt: Dataset, there: Dataset, accepted: frozenset[str] = frozenset()) -> Facts:
    """How a dataset differs from the one that a champion learnt, by what the files hold; nothing else of the facts.

    `accepted` are the hashes of pictures that are accepted from feedback: those that were set aside count no more.
    """
    before, now = ({one.sha256: one for one in dataset.pictures} for dataset in (learnt, there))
    waiting = accepted - now.keys() - before.keys() - {one.sha256 for one in there.set_aside}
    return Facts(
        heard=Heard(""),
        days=0.0,
        pictures=len(before),
        fresh=len(now.keys() - before.keys()) + len(waiting),
        accepted=len(waiting),
        gone=len(before.keys() - now.keys()),
        reworded=sum(now[digest].text != before[digest].text for digest in now.keys() & before.keys()),
    )


def _only(catalogue: Catalogue) -> str:
    """The one model that has a champion."""
    found = [name for name in catalogue.names() if CHAMPION in catalogue.standing(name).aliases]
    if len(found) == 1:
        return found[0]
    if found:
        raise BespokeError(f"Several models have a champion: {', '.join(found)}.", "Name the one to look at.")
    hint = "Promote a version: bespoke models promote NAME VERSION"
    raise BespokeError("No model here has a champion, so there is nothing to bring up to date.", hint)


def _feedback(project: Project, given: str, served: str) -> Place | None:
    """The store of feedback that is named, or the one that the service writes; nothing where there is none yet."""
    try:
        return place_of_feedback(given or served, project.root)
    except BespokeError:
        if given:
            raise
        return None


def _heard(one: Rated) -> Heard:
    return Heard(one.model, one.liked.hits, one.liked.count, one.raters, one.complained.hits, one.complained.count)


def _alarms(project: Project, title: str, since: str) -> dict[str, tuple[str, ...]]:
    """The figures that rang of a version, by day; how long pictures take is none that training helps."""
    rang = dict[str, set[str]]()
    for file in sorted((project.root / "drift" / quote(title, safe="@")).glob("*/newest.json")):
        for day, figure in _rang(file):
            if day >= since and BY_NAME[figure].of != "service":
                rang.setdefault(day, set()).add(figure)
    return {day: tuple(sorted(figures)) for day, figures in sorted(rang.items())}


def _rang(file: Path) -> Iterator[tuple[str, str]]:
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        yield from ((day, figure) for day, figures in content["alarms_before"].items() for figure in figures)
        yield from ((content["day"], alarm["figure"]) for alarm in content["alarms"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "Remove it; bespoke feedback drift writes it anew."
        raise BespokeError(f"{file} is not what bespoke feedback drift writes.", hint) from error


def _hours(here: Scene) -> float | None:
    """How long training and measuring took last time; nothing where the champion's run is not here."""
    run = Run(here.project.runs / str(here.catalogue.manifest(here.champion).origin["run"]))
    try:
        content: Mapping[str, Any] = json.loads(run.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return (sum(content["seconds"].values()) + (here.ledger.seconds("evaluate") or 0.0)) / HOUR
