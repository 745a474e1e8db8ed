"""A folder of pictures turned into a project: a checked dataset and a recipe with its defaults."""

from dataclasses import dataclass
from pathlib import Path

from bespoke import data
from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.pipeline import carrying
from bespoke.pipeline.caption import caption_data
from bespoke.pipeline.datasets import built, recipe_at
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.recipe import peers
from bespoke.recipe.peers import Carried
from bespoke.records import Dataset
from bespoke.workspace import Project, write_text


@dataclass(frozen=True)
class Made:
    """A new project."""

    project: Path
    recipe: Path
    dataset: Dataset
    carried: Carried | None = None
    """What became of another trainer's settings, where it was made from such."""


def new(
    folder: str | Path,
    images: str | Path | None = None,
    *,
    base: str | None = None,
    caption: bool = False,
    settings_from: str | Path | None = None,
    overrides: tuple[str, ...] = (),
    report: Reporter = silent,
) -> Made:
    """A project in `folder` with the pictures of `images`; what is there already is kept.

    With `caption` a model puts into words what has no caption, as `[caption]` of the recipe says. With `settings_from`
    the recipe is made of a file of another trainer's settings, over which `base` and `overrides` win; without `images`
    the pictures are those that it names. What became of each option is in `carried` and the project's `carried.md`.

    Raises: BespokeError when the pictures or the settings cannot be used, or `folder` holds another project.
    """
    project = Project(Path(folder))
    if project.root.is_file():
        raise BespokeError(f"{folder} is a file.", "Name a folder for the project; it need not exist.")
    if settings_from is not None:
        wanted = carrying.Wanted(Path(settings_from), images, base, overrides)
        return _carried(project, wanted, caption=caption, report=report)
    if images is None:
        raise BespokeError("Name the pictures of the project.", f"bespoke new {folder} --images FOLDER_OF_PICTURES")
    recipe = recipe_at(project.recipe, overrides, {"model": {"base": base or "pico"}})
    dataset = built(images, project.root / recipe.data.path, recipe, report)
    if not caption:
        data.check_enough(data.shown(images), dataset)
    if not project.recipe.exists():
        write_text(project.recipe, recipes.dump(recipe))
    if caption:
        dataset = caption_data(project.root / recipe.data.path, recipe=project.recipe, report=report).dataset
    return Made(project.root, project.recipe, dataset)


def _carried(project: Project, wanted: carrying.Wanted, *, caption: bool, report: Reporter) -> Made:
    """A project from another trainer's settings."""
    if project.recipe.exists():
        hint = "Name another folder, or take its recipe.toml away."
        raise BespokeError(f"{project.root} has a recipe already, which is not overwritten.", hint)
    carried, dataset = carrying.dataset_of(peers.read_settings(wanted.file), wanted, project, report)
    if not caption:
        data.check_enough(str(project.root), dataset)
    carried, recipe = carrying.settled(carried, wanted, dataset)
    carrying.write(carried, recipe, project)
    if caption:
        dataset = caption_data(project.root / recipe.data.path, recipe=project.recipe, report=report).dataset
    return Made(project.root, project.recipe, dataset, carried)
