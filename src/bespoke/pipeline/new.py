"""A folder of pictures turned into a project: a checked dataset and a recipe with its defaults."""

from dataclasses import dataclass
from pathlib import Path

from bespoke import data
from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.pipeline.caption import caption_data
from bespoke.pipeline.datasets import built, recipe_at
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.records import Dataset
from bespoke.workspace import Project, write_text


@dataclass(frozen=True)
class Made:
    """A new project."""

    project: Path
    recipe: Path
    dataset: Dataset


def new(
    folder: str | Path,
    images: str | Path,
    *,
    base: str = "pico",
    caption: bool = False,
    overrides: tuple[str, ...] = (),
    report: Reporter = silent,
) -> Made:
    """A project in `folder` with the pictures of `images`; what is there already is kept.

    With `caption` a model puts into words what has no caption, as `[caption]` of the recipe says.

    Raises: BespokeError when the pictures cannot be used, or `folder` holds another project.
    """
    project = Project(Path(folder))
    recipe = recipe_at(project.recipe, overrides, {"model": {"base": base}})
    if project.root.is_file():
        raise BespokeError(f"{folder} is a file.", "Name a folder for the project; it need not exist.")
    dataset = built(images, project.root / recipe.data.path, recipe, report)
    if not caption:
        data.check_enough(data.shown(images), dataset)
    if not project.recipe.exists():
        write_text(project.recipe, recipes.dump(recipe))
    if caption:
        dataset = caption_data(project.root / recipe.data.path, recipe=project.recipe, report=report).dataset
    return Made(project.root, project.recipe, dataset)
