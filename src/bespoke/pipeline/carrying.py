"""Another trainer's settings turned into a project: the pictures they name imported, the recipe settled on them."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from bespoke import data
from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.pipeline.datasets import built
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe import Recipe, peers
from bespoke.recipe.peers import Carried, Source
from bespoke.records import Dataset
from bespoke.workspace import Project, write_text

REGULAR = "regularisation"
"""The folder, in the project, of pictures that are not the subject."""
TERMS, ACCOUNT = "terms.toml", "carried.md"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PATHS = ("model.base", "model.adapter_file")
"""Keys whose paths count from the file's trainer there, and from the recipe here."""
PICTURE = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))


@dataclass(frozen=True)
class Wanted:
    """What a person wants of a project besides the file's settings."""

    file: Path
    images: str | Path | None
    """Their own pictures, in place of those that the file names."""
    base: str | None
    overrides: tuple[str, ...]


def recipe_of(carried: Carried, wanted: Wanted) -> Recipe:
    """The recipe of carried settings, over which a base that is named and `--set` win.

    Raises: BespokeError when an override is wrong.
    """
    content: dict[str, dict[str, Any]] = carried.content
    for name in PATHS:
        section, _, key = name.partition(".")
        said = content.get(section, {}).get(key)
        place = peers.nearby(said, wanted.file) if said else None
        if place is not None:
            content[section][key] = str(place.resolve())
    if wanted.base is not None:
        content.setdefault("model", {})["base"] = wanted.base
    return recipes.parse(recipes.put(content, *wanted.overrides), f"{wanted.file.name}, --set")


def dataset_of(carried: Carried, wanted: Wanted, project: Project, report: Reporter) -> tuple[Carried, Dataset]:
    """The dataset of the pictures that are wanted or that the file names, and the account with what became of them.

    Raises: BespokeError when there are none, or they cannot be used.
    """
    recipe = recipe_of(carried, wanted)
    folder, dataset = project.root / recipe.data.path, Dataset()
    own = [source for source in carried.sources if not source.regularisation]
    seen = set[str]()
    for source, place in _places(own, wanted):
        if str(place) in seen:
            carried = carried.missing(source, "these pictures are there once, in one resolution")
            continue
        seen.add(str(place))
        dataset = built(place, folder, recipe, report, _otherwise(source, place, recipe))
    for source in (source for source in carried.sources if source.regularisation):
        carried = _regular(carried, source, wanted, project, report)
    return carried, dataset


def settled(carried: Carried, wanted: Wanted, dataset: Dataset) -> tuple[Carried, Recipe]:
    """The account and the recipe, with what counts in epochs there counted in steps of these pictures."""
    train = recipe_of(carried, wanted).train
    own = sum(picture.repeats for picture in dataset.pictures if picture.split == "train")
    plain = train.num_class_images or (own if f"data.{REGULAR}" in carried.keys else 0)
    an_epoch = math.ceil((own + plain) / ((train.train_batch_size or 1) * train.gradient_accumulation_steps))
    carried = carried.settled(an_epoch, train.max_train_steps or an_epoch * (train.num_train_epochs or 1))
    recipe = recipe_of(carried, wanted)
    said: dict[str, dict[str, Any]] = {name: getattr(recipe, name).model_dump(mode="json") for name in carried.content}
    final = {f"{section}.{key}": value for section, table in said.items() for key, value in table.items()}
    moved = {name: carried.keys.get(name) for name in PATHS if wanted.base is None or name != "model.base"}
    return carried.overruled(final | {name: value for name, value in moved.items() if value is not None}), recipe


def write(carried: Carried, recipe: Recipe, project: Project) -> Path:
    """The page that accounts for every option, written with the recipe and what is known of new words."""
    said, keys = recipe.model_dump(mode="json"), carried.keys
    same = {key: why for key, why in peers.reasons(carried).items() if _found(said, key) == keys[key]}
    if carried.terms and not (project.root / TERMS).exists():
        write_text(project.root / TERMS, tomlkit.dumps(carried.terms))
    write_text(project.root / ACCOUNT, peers.account(carried))
    write_text(project.recipe, recipes.dump(recipe, same))
    return project.root / ACCOUNT


def _places(own: list[Source], wanted: Wanted) -> list[tuple[Source, str | Path]]:
    """Where pictures are: what the person names or else what the file does, largest first."""
    if wanted.images is not None:
        said = own[0] if own else Source("")
        return [(Source(str(wanted.images), said.repeats, said.caption), wanted.images)]
    if not own:
        raise BespokeError(f"{wanted.file} names no pictures.", "Name their folder with --images.")
    places = [(source, _place(source, wanted)) for source in own]
    return sorted(places, key=lambda pair: -_count(pair[1]))


def _place(source: Source, wanted: Wanted) -> str | Path:
    place = peers.nearby(source.path, wanted.file)
    if place is not None:
        return place
    if HUB_ID.fullmatch(source.path) and "dataset_name" in source.said:
        return source.path
    raise BespokeError(
        f"{wanted.file} names pictures in {source.path}, and there is no such folder here.",
        "Name the pictures' folder with --images.",
    )


def _count(place: str | Path) -> int:
    """How many pictures a folder holds, by their names; 0 where that is not known."""
    folder = Path(place)
    return sum(p.suffix.lower() in PICTURE for p in folder.rglob("*")) if folder.is_dir() else 0


def _otherwise(source: Source, place: str | Path, recipe: Recipe) -> data.Otherwise:
    """What the file says of all pictures of a source; they come as often as the plain ones that the base draws."""
    plain, count = recipe.train.num_class_images or 0, _count(place)
    often = max(1.0, plain / count) if count else 1.0
    return data.Otherwise(source.caption, source.repeats * (1.0 if source.repeats != 1 else often))


def _regular(carried: Carried, source: Source, wanted: Wanted, project: Project, report: Reporter) -> Carried:
    """The account after pictures that are not the subject were imported, or were not there."""
    place = peers.nearby(source.path, wanted.file)
    if place is None or not _count(place):
        return carried.missing(source, "there are no pictures here; the base draws plain ones, if it is to")
    also = data.Otherwise(source.caption, source.repeats)
    if not built(place, project.root / REGULAR, recipe_of(carried, wanted), report, also).pictures:
        return carried.missing(source, "its pictures have no captions, and set-aside/ of regularisation/ holds them")
    why = "the regularisation set is in its place"
    drawn: dict[str, str] = {"train.num_class_images": why, "train.class_prompts": why}
    return carried.without(drawn).naming(source, {f"data.{REGULAR}": REGULAR})


def _found(said: dict[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    return said.get(section, {}).get(key)
