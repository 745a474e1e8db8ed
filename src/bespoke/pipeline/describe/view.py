"""Everything that is known about a dataset, in one record that the report and its advice read."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bespoke.data import Group, Inspected, Share, grouped
from bespoke.data.balance import shares, ways
from bespoke.pipeline.describe.captions import Lengths
from bespoke.pipeline.seeing import Asked
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.text import common_trigger

LOOK_ALIKE = ("duplicate", "near-duplicate", "mirrored", "similar")
"""The rules that compare pictures with each other."""


@dataclass(frozen=True)
class View:
    """A dataset with its recipe, and what was found out about its pictures and captions."""

    folder: Path
    recipe: Recipe
    dataset: Dataset
    pictures: tuple[Inspected, ...]
    """Those kept first, then those set aside, as an inspection gives them."""
    lengths: Lengths
    resolution: int | None
    """The side that is trained at; nothing where neither the recipe nor the base model tells."""
    asked: Asked
    """The models that looked at the pictures."""

    @property
    def kept(self) -> tuple[Inspected, ...]:
        """The pictures that are kept."""
        return self.pictures[: len(self.dataset.pictures)]

    @property
    def aside(self) -> tuple[Inspected, ...]:
        """The pictures that are set aside."""
        return self.pictures[len(self.dataset.pictures) :]

    @cached_property
    def shares(self) -> dict[str, tuple[Share, ...]]:
        """The shares of the training pictures by everything that groups them."""
        return {way: shares(self.kept, self.dataset.pictures, way) for way in ways(self.kept)}

    @cached_property
    def groups(self) -> list[Group]:
        """The kept pictures in groups that must be on one side of the split."""
        return grouped(self.dataset, self.pictures, self.recipe)

    @cached_property
    def kept_names(self) -> frozenset[str]:
        """Where the kept pictures came from, by which rules name them."""
        return frozenset(picture.source for picture in self.dataset.pictures)

    @property
    def captions(self) -> list[str]:
        """The captions of the kept pictures."""
        return [picture.text for picture in self.dataset.pictures]

    @cached_property
    def trigger(self) -> str:
        """The words that call the style: the recipe's, or those that all captions begin with."""
        asked = self.recipe.text.trigger
        return common_trigger(self.captions) if asked is None else asked

    @cached_property
    def doubtful(self) -> dict[str, list[tuple[Picture, str]]]:
        """For each rule the kept pictures that it finds fault with, each with the detail; most frequent rule first."""
        found: dict[str, list[tuple[Picture, str]]] = {}
        for item in self.kept:
            verdict = item.judgement.verdict
            told = [(verdict.reason, verdict.detail)] if verdict else []
            told += [(rule, detail) for rule, _, detail in (doubt.partition(": ") for doubt in item.judgement.doubts)]
            for rule, detail in told:
                found.setdefault(rule, []).append((item.picture, detail))
        return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))

    @cached_property
    def found(self) -> Counter[str]:
        """How many pictures each rule finds fault with, those set aside among them."""
        return Counter(rule for item in self.pictures for rule in item.rules)
