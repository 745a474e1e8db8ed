"""A recipe's `[words]` turned into the files that words are made from; and what a build of them gave, as records."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, NewWords
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.datasets import settings_of
from bespoke.pipeline.fertility import Coverage, Fertility
from bespoke.pipeline.naming import base_of
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.text import corpus
from bespoke.text import vectors as wordvectors
from bespoke.text.candidates import Candidate
from bespoke.text.lexicon import Lexicon
from bespoke.text.phrases import Phrase
from bespoke.text.terms import Terms, terms
from bespoke.text.vectors import Vectors
from bespoke.words import RowsReport
from bespoke.workspace import Project

FOLDER, LEXICON, REPORT, PAGE = "words", "lexicon.parquet", "report.json", "index.html"
VERSION = 1
"""Of the report."""
OURS = "a small one of pico's world"


@dataclass(frozen=True)
class Sources:
    """The files that words are found and made from, and what the recipe calls them."""

    wiki: Path
    vectors: Path
    terms: Path | None
    names: dict[str, str]

    @staticmethod
    def of(recipe: recipes.Recipe, beside: Path) -> "Sources":
        """The files that `[words]` names, counted from the recipe's folder; small ones of ours where it names none."""
        asked = recipe.words
        wiki = beside / asked.wiki if asked.wiki else corpus.SMALL
        known = beside / asked.vectors if asked.vectors else wordvectors.SMALL
        names = {"wiki": asked.wiki or OURS, "vectors": asked.vectors or OURS, "terms": asked.terms or "none"}
        return Sources(wiki, known, beside / asked.terms if asked.terms else None, names)

    def rules(self) -> Terms:
        """The rules for the field's words."""
        return terms(self.terms) if self.terms else Terms()

    def word_vectors(self, project: Project, report: Reporter = silent) -> Vectors:
        """The word vectors, converted once into the project's cache."""
        return wordvectors.vectors(self.vectors, project.cache / "vectors", report)


@dataclass(frozen=True)
class Asked:
    """What a build or a look at its results is about: the recipe, its folder, the base and the files."""

    recipe: recipes.Recipe
    project: Project
    base: Checkpoint
    sources: Sources

    @staticmethod
    def of(dataset: str | Path, recipe: str | Path | None, overrides: Sequence[str]) -> "Asked":
        """What the named recipe says, or the one beside the dataset. Nothing is downloaded.

        Raises: BespokeError when the recipe cannot be used, or its base is not on this machine.
        """
        named = settings_of(dataset, recipe, overrides)
        # Words are made for the bare base, whatever words an earlier build gave it.
        settings = named.model_copy(update={"words": named.words.model_copy(update={"file": ""})})
        root = Path(recipe).resolve().parent if recipe else Path(dataset).resolve().parent
        try:
            base = base_of(settings, root, download=False)
        except BespokeError as error:
            problem = f"New words are made for a base model, which cannot be had: {error.problem}"
            raise BespokeError(problem, f"{error.hint} Nothing is downloaded for words.") from None
        return Asked(settings, Project(root), base, Sources.of(settings, root))

    def folder(self, out: str | Path | None) -> Path:
        """The folder of the results: `out`, or `words` beside the recipe."""
        return Path(out) if out else self.project.root / FOLDER


@dataclass(frozen=True, eq=False)
class BuiltWords:
    """A lexicon and the new words found in it, perhaps none; all of it is in `folder`."""

    folder: Path
    project: Path
    sources: Sources
    lexicon: Lexicon
    candidates: tuple[Candidate, ...]
    """Those accepted, then those refused, each with its reason."""
    new: NewWords
    rows: RowsReport
    fertility: tuple[Fertility, ...]
    coverage: tuple[Coverage, ...]
    phrases: tuple[Phrase, ...]
    """Words that may be one term, for `multiword` of the terms."""
    removed: bool
    """Whether an earlier build's new words were taken away, because there are none now."""

    @property
    def file(self) -> Path | None:
        """The new words; nothing where there are none."""
        return self.folder / FILE if self.new.words else None

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.folder / PAGE

    @property
    def rows_for(self) -> tuple[str, ...]:
        """The text encoders that have rows for the words, as files call them."""
        return tuple(self.new.rows)

    @property
    def setting(self) -> str:
        """What trains and draws with the new words, behind `--set`; "" where there are none."""
        return f"words.file={Path(os.path.relpath(self.file, self.project)).as_posix()}" if self.file else ""

    def to_json(self) -> dict[str, Any]:
        """The report as a file holds it; what is no number is nothing."""
        content = {
            "version": VERSION, "base": asdict(self.new.base), "sources": self.sources.names,
            "words": [word.surface for word in self.new.words], "rows_for": self.rows_for,
            "facts": asdict(self.lexicon.facts),
            "fertility": [asdict(one) for one in self.fertility], "coverage": [asdict(one) for one in self.coverage],
            "candidates": [asdict(one) for one in self.candidates], "rows": self.rows.to_json(),
            "phrases": [asdict(one) for one in self.phrases],
        }  # fmt: skip
        return _finite(content)


def read_report(folder: Path) -> dict[str, Any]:
    """The report that a build wrote into a folder.

    Raises: BespokeError when there is none, or it is damaged or of a later version.
    """
    path, hint = folder / REPORT, "Build the words first: bespoke words build DATASET"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except FileNotFoundError:
        raise BespokeError(f"There is no report of words at {path}.", hint) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise BespokeError(f"{path} is damaged.", hint) from None
    if version != VERSION:
        raise BespokeError(f"{path} is of version {version}; this bespoke reads {VERSION}.", hint)
    return content


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
