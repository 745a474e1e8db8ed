"""A dataset as its models and its rules see it. What needs no model is in `datasets`, which loads none of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke import data
from bespoke.pipeline.datasets import LOOK, settings_of
from bespoke.pipeline.naming import base_at_hand
from bespoke.pipeline.reporting import Reporter, counting, silent
from bespoke.pipeline.seeing import Asked, ask_models
from bespoke.recipe import Recipe
from bespoke.records import Dataset
from bespoke.workspace import alone


@dataclass(frozen=True)
class Inspection:
    """What the rules say about a dataset, which is as it was."""

    dataset: Dataset
    pictures: tuple[data.Inspected, ...]
    asked: Asked
    """The models that looked."""

    @property
    def findings(self) -> dict[str, int]:
        """How many pictures each rule found fault with, most frequent first."""
        counts = Counter(rule for item in self.pictures for rule in item.rules)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


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
    with alone(Path(dataset)):
        asked = asked_of(Path(dataset), settings, recipe, report)
        found, pictures = data.inspect(Path(dataset), settings, counting(report, LOOK))
    return Inspection(found, tuple(pictures), asked)


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
    with alone(Path(dataset)):
        asked_of(Path(dataset), settings, recipe, report)
        return data.clean(Path(dataset), settings, counting(report, LOOK))


def asked_of(folder: Path, settings: Recipe, recipe: str | Path | None, report: Reporter) -> Asked:
    """Which models looked at a dataset, by its settings and where their recipe lies; what they said is kept.

    Raises: BespokeError when a model that is named cannot be had, or `folder` is no dataset or is damaged.
    """
    beside = Path(recipe).parent if recipe else folder.resolve().parent
    return ask_models(folder, settings, beside, base_at_hand(settings, beside), report)
