"""A recipe's file turned into all that is known before anything is encoded: dataset, model, every setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bespoke import data
from bespoke import recipe as recipes
from bespoke.data import Size
from bespoke.diffusion import schedule_of
from bespoke.encoding import windows
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import Checkpoint
from bespoke.models.families import T5_TOKENS
from bespoke.models.rows import words_of
from bespoke.pipeline.naming import Named, start_of
from bespoke.pipeline.versions import Versions
from bespoke.records import Dataset, Picture
from bespoke.sampling import ways
from bespoke.text import common_trigger, escaped, read
from bespoke.training import masking, objective
from bespoke.training.rehearsal import Shapes
from bespoke.workspace import Project

LONGEST = 5000
"""Captions that are looked at for how many windows they have."""


@dataclass(frozen=True)
class Prepared:
    """A recipe in which nothing is left open, with what it trains and what it trains on."""

    project: Project
    dataset: Dataset
    start: Named
    recipe: recipes.Recipe
    reasons: Mapping[str, str]
    """Why each derived `section.key` is what it is."""
    asked: recipes.Recipe
    """The recipe as the person has it."""
    regularisation: tuple[Picture, ...] = ()
    """The pictures of `data.regularisation`."""

    @property
    def shown(self) -> Dataset:
        """All that the network is shown: the dataset, and the pictures of the regularisation set."""
        return replace(self.dataset, pictures=(*self.dataset.pictures, *self.regularisation))

    @property
    def train(self) -> Sequence[Picture]:
        """The pictures to learn from."""
        return self.dataset.part("train")

    @property
    def validation(self) -> Sequence[Picture]:
        """The pictures to measure on."""
        return self.dataset.part("validation")


def _pinned(recipe: recipes.Recipe, start: Named) -> recipes.Recipe:
    """The recipe with a version's number in the place of its alias, which may be given to another at any time."""
    if not start.registered:
        return recipe
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": start.name})})


def prepare(recipe: str | Path, overrides: Sequence[str] = (), home: Path | None = None) -> Prepared:
    """What the recipe in a file asks for, checked and derived; writes nothing.

    `home` is the project's folder, by default the one that the file is in.

    Raises: BespokeError when the recipe, the dataset or the model is not as it should be.
    """
    path = Path(recipe)
    asked = recipes.load(path, overrides)
    project = Project((home or path.parent).resolve())
    folder = project.root / asked.data.path
    dataset = with_brackets(data.load(folder), asked)
    data.check_enough(str(folder), dataset)
    start = start_of(asked, project.root)
    asked = _pinned(asked, start)
    whole, reasons = resolved(asked, dataset, start.checkpoint)
    if whole.trains_words:
        words_of(start.checkpoint, whole)
    return Prepared(project, dataset, start, whole, reasons, asked, regularisation(whole, project)[1])


def regularisation(recipe: recipes.Recipe, project: Project) -> tuple[Path, tuple[Picture, ...]]:
    """The folder of the regularisation set and its pictures, all to be trained on, and whole; none where none is named.

    Raises: BespokeError when it is no dataset or is damaged.
    """
    folder = project.root / recipe.data.regularisation
    if not recipe.data.regularisation:
        return folder, ()
    pictures = with_brackets(data.load(folder), recipe).pictures
    return folder, tuple(replace(picture, split="train", mask="") for picture in pictures)


def with_brackets(dataset: Dataset, recipe: recipes.Recipe) -> Dataset:
    """The dataset with captions whose brackets are read as the recipe says: where they are letters, escaped ones."""
    if recipe.text.brackets == "weights":
        return dataset
    return replace(dataset, pictures=tuple(replace(each, text=escaped(each.text)) for each in dataset.pictures))


def resolved(
    asked: recipes.Recipe, dataset: Dataset, checkpoint: Checkpoint
) -> tuple[recipes.Recipe, Mapping[str, str]]:
    """A recipe with nothing left open, as training a checkpoint on a dataset has it, and why each value is what it is.

    Raises: BespokeError when there are too few pictures to learn from, or the recipe's parts contradict each other,
    want masks that are not there, or pictures drawn as the model cannot draw them.
    """
    objective.check(asked.train, schedule_of(checkpoint.scheduler_config))
    masking.check(asked)
    ways.check(asked.sample, checkpoint.scheduler_config, checkpoint.config(checkpoint.family.denoiser))
    if asked.train.masked_training and not any(picture.mask for picture in dataset.part("train")):
        hint = "Put masks beside your pictures, such as cat-masklabel.png for cat.png, and import again."
        raise BespokeError("train.masked_training is set, and no training picture has a mask.", hint)
    return recipes.derive(asked, _facts(dataset, checkpoint))


def _facts(dataset: Dataset, checkpoint: Checkpoint) -> recipes.Facts:
    train = dataset.part("train")
    if len(train) < 2:
        raise BespokeError(f"The dataset has {len(train)} training pictures.", "Add pictures and import again.")
    here = machine()
    trigger = common_trigger([picture.text for picture in dataset.pictures])
    not_square = sum(picture.width != picture.height for picture in train)
    visits = sum(picture.repeats for picture in train)
    return recipes.Facts(
        len(train), checkpoint.resolution, trigger, here.device, here.bf16, not_square, visits, checkpoint.flows
    )


def largest(dataset: Dataset, checkpoint: Checkpoint, recipe: recipes.Recipe) -> Size:
    """The largest shape that a batch of a resolved recipe may have, in pixels: width and height."""
    versions = Versions(recipe, checkpoint.step)
    sizes = {versions.of(picture)[0].size for picture in dataset.pictures}
    if recipe.train.num_class_images:
        sizes.add((checkpoint.resolution, checkpoint.resolution))  # what the base draws is of its own size
    return max(sizes, key=lambda size: (size[0] * size[1], size))


def shapes(dataset: Dataset, checkpoint: Checkpoint, recipe: recipes.Recipe) -> Shapes:
    """What the largest picture and a caption are to the network."""
    size, (tokens, width) = largest(dataset, checkpoint, recipe), checkpoint.text_shape
    captions = [read(picture.text) for picture in dataset.pictures]
    # A caption that one window may not hold has more letters than that has tokens; asking for all takes long.
    longer, tokenizer = [s for s in captions if len(s.text) > tokens - 2 or len(s.parts) > 1], checkpoint.tokenizer()
    counts = {len(windows(tokenizer, said)) for said in longer[:LONGEST] if checkpoint.windowed}
    tokens *= math.lcm(*counts)  # in a batch, all are repeated to the least common multiple
    weights = any(part.spans for said in captions for part in said.parts)
    count = len(checkpoint.rows_for)
    text = (tokens + checkpoint.summarised, width)  # a row more is the caption's summary
    if recipe.trains_text and checkpoint.windowed:
        text = (tokens, 2 * count + 1 if weights else count)
    elif recipe.trains_text:
        below, wide = (0, 0) if checkpoint.lacked else (T5_TOKENS, 0 if recipe.trains_t5 else width)
        text = (tokens - T5_TOKENS + below, max(2 * count + 1, wide))
    return Shapes(checkpoint.moments_shape(size), text)
