"""A source turned into a dataset with a recipe's settings, a dataset into a better one or into others' layouts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bespoke import data
from bespoke import recipe as recipes
from bespoke.hardware import memory_size
from bespoke.pipeline.reporting import Reporter, counting, silent
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.workspace import Project, alone

LOOK = "look at pictures"
FEEDBACK = "feedback:"
"""Before the path or URL of a store of feedback, whose accepted pictures are a source."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path | str
    """Or the URL, without passwords."""
    pictures: dict[str, int]
    """How many, by part of the split."""
    unsaid: tuple[str, ...] = ()
    """What the layout cannot say of them: "weight", the names of columns."""


@dataclass(frozen=True)
class Divided:
    """A dataset whose split has been applied, and what changed."""

    dataset: Dataset
    moved: tuple[Picture, ...]
    """The pictures that changed sides, as they are now."""
    unwritten: dict[str, object]
    """Settings of this split that the recipe in force does not have: the next import would draw by the recipe."""


@dataclass(frozen=True)
class Shrinking:
    """What shrinking a source gave, and how that suits the recipe."""

    made: data.Shrunk
    too_short: int
    """Copies whose shorter side fell below the training resolution."""
    resolution: int | None
    """That resolution, where the recipe or the base model tells."""


def import_data(
    source: str | Path,
    dataset: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Dataset:
    """The dataset made in a folder from a source: a folder, archive, Parquet file, shards, links, a URL or hub id.

    `feedback:PATH` or `feedback:URL` are the accepted pictures of a store of feedback.

    The settings are those of `recipe` or, where none is named, of the `recipe.toml` beside the dataset.

    Raises: BespokeError when the source or the recipe cannot be used, or the folder holds something else.
    """
    return built(source, Path(dataset), settings_of(dataset, recipe, overrides), report)


def restore_data(
    dataset: str | Path, wanted: Sequence[str], *, recipe: str | Path | None = None, overrides: Sequence[str] = ()
) -> Dataset:
    """A dataset with files brought back from `set-aside/`, by their names or by the reasons they are there for.

    No rule sets them aside again. They go to the side of the split where pictures that look the same are.

    Raises: BespokeError when nothing is there for a name, or it gives no picture or has no caption.
    """
    settings = settings_of(dataset, recipe, overrides)
    with alone(Path(dataset)):
        return data.restore(Path(dataset), wanted, settings)


def split_data(
    dataset: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Divided:
    """A dataset whose pictures are on the sides that the recipe's split gives them, each with its reason.

    Under unchanged settings no picture changes sides, but to keep groups whole or because a person wants it.

    Raises: BespokeError when `dataset` is none or is damaged, the recipe cannot be used, or people contradict
    themselves.
    """
    settings = settings_of(dataset, recipe, overrides)
    with alone(Path(dataset)):
        made, moved = data.split_up(Path(dataset), settings, counting(report, LOOK))
    written = settings_of(dataset, recipe, ())
    own, now = (
        {"data.validation_fraction": s.data.validation_fraction, "data.split_by": s.data.split_by,
         "validation.seed": s.validation.seed}
        for s in (written, settings)
    )  # fmt: skip
    return Divided(made, moved, {key: value for key, value in now.items() if own[key] != value})


def balance_data(
    dataset: str | Path,
    *,
    apply: bool = False,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> data.Balanced:
    """The shares of a dataset's training pictures, now and as the recipe's `[balance]` proposes; written with `apply`.

    Raises: BespokeError when `dataset` is none or is damaged, or the recipe cannot be used or names what is not there.
    """
    settings = settings_of(dataset, recipe, overrides)
    with alone(Path(dataset)):
        return data.balance(Path(dataset), settings, counting(report, LOOK), apply=apply)


def unbalance_data(dataset: str | Path) -> tuple[Dataset, int]:
    """A dataset with repeats and weights as they were before balancing, and how many pictures that changed.

    Raises: BespokeError when `dataset` is none or is damaged.
    """
    with alone(Path(dataset)):
        return data.unbalance(Path(dataset))


def shrink_data(
    source: str | Path,
    out: str | Path,
    *,
    side: int = 1024,
    format: str = "webp",  # noqa: A002 - what everybody calls it
    quality: int = 90,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Shrinking:
    """Smaller working copies, in a new folder and with captions, of all pictures of a source or kept by a dataset.

    `side` is the longest one in pixels, `quality` that of JPEG and WebP. The source is never changed, and nothing is
    enlarged. After a kill the same call goes on.

    Raises: BespokeError when the source or the settings cannot be used, or `out` holds something else.
    """
    settings = settings_of(out, recipe, overrides)
    copies = data.Copies(side, format, quality)
    named, tell = settings.data.file_name_captions, counting(report, "make copies")
    workers = settings.data.workers()
    made = data.shrink(source, Path(out), copies, file_names=named, workers=workers, progress=tell)
    from bespoke.pipeline.naming import base_at_hand  # models take seconds to load

    base = base_at_hand(settings, Path(out).resolve().parent)
    resolution = settings.data.resolution or (base.resolution if base else None)
    return Shrinking(made, sum(short < (resolution or 0) for short in made.shorter), resolution)


def export_data(
    dataset: str | Path,
    out: str | Path,
    layout: str = "imagefolder",
    *,
    shard_size: str | None = None,
    report: Reporter = silent,
) -> Exported:
    """A dataset's pictures and captions in another trainer's layout, in a new folder or, as shards, behind a URL.

    `layout` is imagefolder, kohya, everydream2, parquet or webdataset. The last two are shards of at most `shard_size`
    of pictures each, such as "1GB", by default 256MB; sent to a URL, a call that was killed goes on.

    Raises: BespokeError when `dataset` is none, `out` is there already, or the layout cannot hold it.
    """
    most = memory_size(shard_size) if shard_size else data.SHARD_BYTES
    counts, unsaid = data.export(Path(dataset), out, layout, most=most, progress=counting(report, "send shards"))
    return Exported(data.here(out) or data.shown(out), counts, unsaid)


def built(
    source: str | Path, folder: Path, recipe: Recipe, report: Reporter, otherwise: data.Otherwise | None = None
) -> Dataset:
    """The dataset made in a folder with a recipe's settings; `otherwise` is what holds for all its pictures."""
    if str(source).startswith(FEEDBACK):
        from bespoke.pipeline.heard import accepted  # SQL takes a while to load

        with accepted(str(source)) as (pictures, name):
            return built(pictures, folder, recipe, report, replace(otherwise or data.Otherwise(), source=name))
    arriving = counting(report, "fetch pictures" if data.is_table(source) else "read sources")
    with alone(folder):
        return data.build(source, folder, recipe, counting(report, "check pictures"), arriving, otherwise)


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
    return recipes.parse(recipes.put(content, *overrides), "--set")
