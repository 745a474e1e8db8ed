"""A source turned into a dataset with a recipe's settings, and a dataset into other trainers' layouts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke import data
from bespoke import recipe as recipes
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.recipe import Recipe
from bespoke.records import Dataset
from bespoke.workspace import Project


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    pictures: dict[str, int]
    """How many, by part of the split."""


def import_data(
    source: str | Path,
    dataset: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Dataset:
    """The dataset made in a folder from a source: a folder, an archive, a Parquet file or a URL.

    The settings are those of `recipe` or, where none is named, of the `recipe.toml` beside the dataset.

    Raises: BespokeError when the source or the recipe cannot be used, or the folder holds something else.
    """
    folder = Path(dataset)
    path = Project(folder.resolve().parent).recipe if recipe is None else Path(recipe)
    settings = recipes.load(path, overrides) if recipe is not None else recipe_at(path, overrides, {})
    return built(source, folder, settings, report)


def export_data(dataset: str | Path, out: str | Path, layout: str = "imagefolder") -> Exported:
    """A dataset's pictures and captions in another trainer's layout, in a new folder.

    `layout` is imagefolder, kohya, everydream2 or parquet.

    Raises: BespokeError when `dataset` is none, `out` is there already, or the layout cannot hold it.
    """
    return Exported(Path(out), data.export(Path(dataset), Path(out), layout))


def built(source: str | Path, folder: Path, recipe: Recipe, report: Reporter) -> Dataset:
    """The dataset made in a folder with a recipe's settings."""
    return data.build(
        source,
        folder,
        validation_fraction=recipe.data.validation_fraction,
        seed=recipe.validation.seed,
        file_names=recipe.data.file_name_captions,
        progress=lambda done, total: report("check pictures", done, total),
    )


def recipe_at(path: Path, overrides: Sequence[str], content: Mapping[str, Mapping[str, object]]) -> Recipe:
    """The recipe in a file or, where there is none yet, the one that `content` makes; both with the overrides.

    Raises: BespokeError when the file or an override is not as it should be.
    """
    if path.exists():
        return recipes.load(path, overrides)
    for override in overrides:
        content = recipes.put(content, override)
    return recipes.parse(content, "--set")
