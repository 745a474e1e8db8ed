"""A registry looked into: which models it has, where a version comes from, and what two versions differ in."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bespoke import recipe as recipes
from bespoke.pipeline import origin
from bespoke.records import Dataset, Score
from bespoke.registry import Blob, Catalogue, Measured, Record, Version, measured, place
from bespoke.workspace import Run


@dataclass(frozen=True)
class Listed:
    """A model in a registry."""

    name: str
    versions: tuple[Version, ...]
    aliases: Mapping[str, int]
    retired: frozenset[int]
    records: tuple[Record, ...]
    """What happened to its versions, oldest first."""
    elsewhere: Mapping[str, int | None]
    """Aliases that MLflow itself holds otherwise, by the version that it means."""


@dataclass(frozen=True)
class Kept:
    """One picture that a version comes from."""

    file: str
    sha256: str
    split: str
    text: str
    licence: str


@dataclass(frozen=True)
class Looked:
    """A version, and all that it came from."""

    version: Version
    aliases: tuple[str, ...]
    retired: bool
    origin: Mapping[str, Any]
    files: Mapping[str, Blob]
    pictures: tuple[Kept, ...]
    recipe: Mapping[str, Any]
    """Every setting by its dotted name."""
    measured: Measured | None
    judgements: tuple[Mapping[str, Any], ...]
    """What its scorecard says of what was asked for."""
    records: tuple[Record, ...]
    """What happened to this version."""


@dataclass(frozen=True)
class Differing:
    """What two versions differ in."""

    first: Version
    second: Version
    recipe: Mapping[str, tuple[Any, Any]]
    """By setting: what it is in each."""
    origin: Mapping[str, tuple[Any, Any]]
    """Base, code and licences, where they are not the same."""
    added: tuple[Kept, ...]
    """Pictures that only the second has, by what the files hold."""
    removed: tuple[Kept, ...]
    reworded: tuple[tuple[Kept, Kept], ...]
    """Pictures that both have, with other captions or on another side of the split."""
    scores: Mapping[str, tuple[Score | None, Score | None]]
    incomparable: tuple[str, ...]
    """What the two were measured with that is not the same: scores are then no comparison."""


def list_models(*, store: str = "") -> list[Listed]:
    """The models of a registry, by default of the nearest one. Raises: BespokeError when there is none."""
    catalogue = Catalogue(place(store))
    return [_listed(catalogue, name) for name in catalogue.names()]


def show_model(name: str, *, store: str = "") -> Listed | Looked:
    """A model, or one version of it, `NAME@champion` or `NAME@7`, back to the hash of every picture.

    Raises: BespokeError when there is none, or files of the version are missing or were changed.
    """
    catalogue = Catalogue(place(store))
    return looked(catalogue, catalogue.meant(name)) if "@" in name else _listed(catalogue, name)


def diff_models(first: str, second: str, *, store: str = "") -> Differing:
    """What two versions differ in: recipes, data, scores. Raises: BespokeError as `show_model`."""
    catalogue = Catalogue(place(store))
    one, other = (looked(catalogue, catalogue.meant(name)) for name in (first, second))
    told = {key: (one.origin.get(key), other.origin.get(key)) for key in _ORIGIN}
    mine, theirs = ({picture.sha256: picture for picture in each.pictures} for each in (one, other))
    both = [(mine[digest], theirs[digest]) for digest in mine.keys() & theirs.keys()]
    return Differing(
        one.version, other.version,
        {key: pair for key, pair in _pairs(one.recipe, other.recipe) if pair[0] != pair[1]},
        {key: pair for key, pair in told.items() if pair[0] != pair[1]},
        tuple(theirs[digest] for digest in theirs if digest not in mine),
        tuple(mine[digest] for digest in mine if digest not in theirs),
        tuple(sorted((pair for pair in both if _said(pair[0]) != _said(pair[1])), key=lambda pair: pair[0].file)),
        dict(_pairs(_scores(one), _scores(other))),
        _incomparable(one, other),
    )  # fmt: skip


_ORIGIN = ("base", "base_hash", "base_commit", "base_licence", "dataset_hash", "licences", "version", "commit")


def looked(catalogue: Catalogue, version: Version) -> Looked:
    """All that is known of a version, its files checked."""
    standing, manifest = catalogue.standing(version.name), catalogue.manifest(version)
    run = Run(catalogue.folder(version))
    card = catalogue.scorecard(version, standing)
    content: Mapping[str, Any] = json.loads(catalogue.text(version, card)) if card else {}
    model = next((name for name, marks in content.get("marks", {}).items() if marks == manifest.marks), "")
    return Looked(
        version, tuple(standing.holders(version.number)), version.number in standing.retired, manifest.origin,
        manifest.files, tuple(_pictures(run)), origin.parameters(recipes.load(run.recipe)),
        measured(content, manifest.marks) if content else None,
        tuple(content.get("verdicts", {}).get(model, ())),
        tuple(record for record in standing.records if record.version == version.number),
    )  # fmt: skip


def _listed(catalogue: Catalogue, name: str) -> Listed:
    versions, standing = catalogue.versions(name), catalogue.standing(name)
    return Listed(
        name, tuple(versions), standing.aliases, standing.retired, standing.records, catalogue.elsewhere(name, standing)
    )


def _pictures(run: Run) -> Iterator[Kept]:
    """The pictures of the dataset as it was, and those of the regularisation set, by their hashes."""
    if run.begun_dataset.is_file():
        for one in Dataset.from_json(run.begun_dataset.read_text(encoding="utf-8"))[1].pictures:
            yield Kept(one.file, one.sha256, one.split, one.text, one.labels.get("licence", ""))
    if run.origin.is_file():
        more: Mapping[str, str] = json.loads(run.origin.read_text(encoding="utf-8"))["regularisation"]
        yield from (Kept(file, digest, "regularisation", "", "") for file, digest in more.items())


def _said(picture: Kept) -> tuple[str, str]:
    return (picture.text, picture.split)


def _scores(one: Looked) -> Mapping[str, Score]:
    return one.measured.scores if one.measured else {}


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    return ((key, (one.get(key), other.get(key))) for key in dict.fromkeys((*one, *other)))


def _incomparable(one: Looked, other: Looked) -> tuple[str, ...]:
    if one.measured is None or other.measured is None:
        return ("no scorecard",)
    return tuple(key for key, pair in _pairs(one.measured.protocol, other.measured.protocol) if pair[0] != pair[1])
