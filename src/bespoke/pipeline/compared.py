"""What a comparison of models rests on, and what came out of it, as records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bespoke import page
from bespoke.evaluation import Judgement, Scorecard
from bespoke.pipeline.naming import Named
from bespoke.pipeline.prompts import Prompts
from bespoke.pipeline.references import References
from bespoke.recipe import Recipe
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request
from bespoke.workspace import Run


@dataclass(frozen=True)
class Compared:
    """What a comparison rests on: the models, the same requests for all of them, and the person's pictures."""

    models: Mapping[str, Named]
    """By the name that the scorecard calls them; the control first."""
    recipe: Recipe
    settings: Sample
    prompts: Prompts
    references: References
    out: Path
    run: Run | None = None
    """The run of the first tuned model, if it is one."""
    hero: str = ""
    """What is shown large; empty: the first of the domain's prompts."""

    @property
    def requests(self) -> dict[str, list[Request]]:
        """What every model draws, by kind of prompt."""
        return {kind: self.prompts.requests(kind) for kind in self.prompts.kinds}


@dataclass(frozen=True)
class Shown:
    """A comparison with all that its page shows."""

    compared: Compared
    scorecard: Scorecard
    verdicts: Mapping[str, tuple[Judgement, ...]]
    drawings: Mapping[str, Mapping[str, tuple[Path, ...]]]
    """By model and kind of prompt."""
    hero: tuple[Path, str]
    """The picture at the top, and its prompt."""
    sheets: tuple[page.Sheet, ...]
