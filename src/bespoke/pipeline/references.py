"""A recipe and a folder turned into a person's pictures in a comparison: learnt from, held back, the goal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke import data
from bespoke.data.intake.folders import find
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.records import Picture

FEW = 2
"""A distance needs so many pictures."""


@dataclass(frozen=True)
class Own:
    """One picture of a person's, and what is said of it."""

    file: Path
    text: str


@dataclass(frozen=True)
class References:
    """The person's pictures in a comparison."""

    goal: tuple[Own, ...]
    """What the tuned model should come near to."""
    training: tuple[Own, ...]
    """What it learnt from; empty where that is not known."""
    held_back: tuple[Own, ...]
    """What it did not learn from: copies are told by these."""
    note: str = ""
    """What weakens the comparison, if something does."""

    @property
    def captions(self) -> list[str]:
        """What is said of the goal, or where nothing is, of the training pictures; each once."""
        return list(dict.fromkeys(own.text for own in self.goal if own.text)) or self.learnt

    @property
    def learnt(self) -> list[str]:
        """What is said of the training pictures, each once."""
        return list(dict.fromkeys(own.text for own in self.training if own.text))

    @property
    def fresh(self) -> list[Own]:
        """The pictures that were held back and of which something is said that no training was told."""
        told = set(self.learnt)
        return [own for own in self.held_back if own.text and own.text not in told]


def references(recipe: Recipe, project: Path | None, folder: Path | None) -> References:
    """The pictures of a recipe's dataset in `project`, and those in `folder`, which no training saw.

    Without a folder the recipe's `evaluate.reference` is taken, else the validation pictures, else those of training.

    Raises: BespokeError when there are fewer than two pictures to come near to, or a folder cannot be read.
    """
    dataset = _dataset(recipe, project)
    training, validation = (_owned(dataset, project, recipe, part) for part in ("train", "validation"))
    named = folder or (_beside(project, recipe.evaluate.reference) if recipe.evaluate.reference else None)
    if named is not None:
        apart, note = _in(named)
        return References(apart, training, (*apart, *validation), note)
    if len(validation) >= FEW:
        note = "The pictures to come near to are the validation pictures, which also chose the weights."
        return References(validation, training, validation, note)
    if len(training) >= FEW:
        note = (
            "The pictures to come near to are the training pictures: a model that copies them would do best. "
            "Give others with --reference."
        )
        return References(training, training, (), note)
    hint = "Give a folder of pictures that no training saw: --reference FOLDER."
    raise BespokeError("There are no pictures to compare with.", hint)


def _dataset(recipe: Recipe, project: Path | None) -> Sequence[Picture]:
    folder = project / recipe.data.path if project else None
    return data.load(folder).pictures if folder and (folder / "dataset.json").is_file() else ()


def _owned(pictures: Sequence[Picture], project: Path | None, recipe: Recipe, part: str) -> tuple[Own, ...]:
    folder = (project or Path()) / recipe.data.path / data.TRAIN
    return tuple(Own(folder / one.file, one.text) for one in pictures if one.split == part)


def _beside(project: Path | None, folder: str) -> Path:
    return project / folder if project else Path(folder)


def _in(folder: Path) -> tuple[tuple[Own, ...], str]:
    """The pictures in a dataset or any folder, and how many files are none."""
    if not folder.is_dir():
        raise BespokeError(f"{folder} is no folder.", "Name a folder of pictures.")
    place = folder / data.TRAIN if (folder / "dataset.json").is_file() else folder
    found, broken = [], 0
    for one in find(place):
        try:
            if one.path is None:
                raise data.Unreadable("missing file", one.name)
            data.read(one.path)
        except data.Unreadable:
            broken += 1
            continue
        found.append(Own(one.path, one.text))
    if len(found) < FEW:
        raise BespokeError(f"{folder} holds {len(found)} pictures, and at least {FEW} are needed.", "Add some.")
    return tuple(found), f"{broken} files in {folder} are no pictures and were left out." if broken else ""
