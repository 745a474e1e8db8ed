"""A source turned into a dataset with a recipe's settings, a dataset into a better one or into others' layouts."""

from collections import Counter
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
class Inspection:
    """What the rules say about a dataset, which is as it was."""

    dataset: Dataset
    pictures: tuple[data.Inspected, ...]

    @property
    def findings(self) -> dict[str, int]:
        """How many pictures each rule found fault with, most frequent first."""
        counts = Counter(rule for item in self.pictures for rule in item.rules)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


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
    return built(source, Path(dataset), settings_of(dataset, recipe, overrides), report)


def inspect_data(
    dataset: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Inspection:
    """What is known about each picture of a dataset and what the rules say of it; nothing is moved.

    Raises: BespokeError when `dataset` is none or is damaged, or the recipe cannot be used.
    """
    settings = settings_of(dataset, recipe, overrides)
    found, pictures = data.inspect(Path(dataset), settings, lambda done, total: report("look at pictures", done, total))
    return Inspection(found, tuple(pictures))


def clean_data(
    dataset: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Dataset:
    """A dataset after the recipe's rules were applied to all that it holds; what they set aside no more comes back.

    Raises: BespokeError when `dataset` is none or is damaged, the recipe cannot be used, or too little would remain.
    """
    settings = settings_of(dataset, recipe, overrides)
    return data.clean(Path(dataset), settings, lambda done, total: report("look at pictures", done, total))


def restore_data(
    dataset: str | Path, wanted: Sequence[str], *, recipe: str | Path | None = None, overrides: Sequence[str] = ()
) -> Dataset:
    """A dataset with files brought back from `set-aside/`, by their names or by the reasons they are there for.

    No rule sets them aside again. They go to the side of the split where pictures that look the same are.

    Raises: BespokeError when nothing is there for a name, or it gives no picture or has no caption.
    """
    return data.restore(Path(dataset), wanted, settings_of(dataset, recipe, overrides))


def export_data(dataset: str | Path, out: str | Path, layout: str = "imagefolder") -> Exported:
    """A dataset's pictures and captions in another trainer's layout, in a new folder.

    `layout` is imagefolder, kohya, everydream2 or parquet.

    Raises: BespokeError when `dataset` is none, `out` is there already, or the layout cannot hold it.
    """
    return Exported(Path(out), data.export(Path(dataset), Path(out), layout))


def built(source: str | Path, folder: Path, recipe: Recipe, report: Reporter) -> Dataset:
    """The dataset made in a folder with a recipe's settings."""
    return data.build(source, folder, recipe, progress=lambda done, total: report("check pictures", done, total))


def settings_of(dataset: str | Path, recipe: str | Path | None, overrides: Sequence[str]) -> Recipe:
    """The named recipe or, where none is named, that beside the dataset or the defaults."""
    if recipe is not None:
        return recipes.load(Path(recipe), overrides)
    return recipe_at(Project(Path(dataset).resolve().parent).recipe, overrides, {})


def recipe_at(path: Path, overrides: Sequence[str], content: Mapping[str, Mapping[str, object]]) -> Recipe:
    """The recipe in a file or, where there is none yet, the one that `content` makes; both with the overrides.

    Raises: BespokeError when the file or an override is not as it should be.
    """
    if path.exists():
        return recipes.load(path, overrides)
    for override in overrides:
        content = recipes.put(content, override)
    return recipes.parse(content, "--set")
