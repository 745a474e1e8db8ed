"""A version's frozen prompts and seeds drawn anew each day, and compared with how it drew them first."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.feedback.canaries import Became, Canary, Return, nudge, returned, worst
from bespoke.models import Clip
from bespoke.pipeline.naming import Named
from bespoke.pipeline.pictures import drawn, in_rgb
from bespoke.pipeline.references import references
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.sample import alike, settled
from bespoke.recipe import Recipe
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, choices
from bespoke.seeds import uniform
from bespoke.workspace import Journal, write_json

PROMPTS = 4
"""So many canaries are chosen where the recipe names none."""


@dataclass(frozen=True)
class Flight:
    """What became of the canaries on a day."""

    day: str
    returns: tuple[Return, ...]
    first: tuple[Path, ...] = ()
    now: tuple[Path, ...] = ()
    """The same file as the first one's where the pixels are the same."""

    @property
    def worst(self) -> Became | Literal[""]:
        """The most that became of one; nothing where there are none."""
        return worst(self.returns)


def fly(source: Named, recipe: Recipe, project: Path, folder: Path, clip: Clip, day: str, report: Reporter) -> Flight:
    """Today's canaries, drawn if they were not yet; the first call in `folder` freezes prompts, seeds and settings.

    No prompts, no canaries. Only pictures that differ from the first ones are kept.
    """
    wanted = _frozen(source, recipe, project, folder)
    if wanted is None:
        return Flight(day, ())
    canaries, settings = wanted
    requests = [Request(canary.prompt, canary.seed) for canary in canaries]
    first = drawn(source, requests, folder / "first", settings, report, "draw canaries first")
    journal = Journal(folder / "days.jsonl")
    at = folder / day
    if not any(line["day"] == day for line in journal):
        now = drawn(source, requests, at, settings, report, "draw canaries")
        found = _compared(canaries, first, now, clip)
        journal.append({"day": day, "returns": [asdict(one) for one in found]})
        if worst(found) == "same":
            shutil.rmtree(at)
    line = next(line for line in journal if line["day"] == day)
    returns = tuple(Return(Canary(**one["canary"]), one["became"], one["distance"], one["rounding"])
                    for one in line["returns"])  # fmt: skip
    return Flight(day, returns, tuple(first), tuple(at / file.name if at.is_dir() else file for file in first))


def _frozen(source: Named, recipe: Recipe, project: Path, folder: Path) -> tuple[list[Canary], Sample] | None:
    """The canaries and the settings as they were frozen, which is now where they were not yet."""
    file = folder / "canaries.json"
    if not file.is_file():
        prompts = _prompts(recipe, project)
        if not prompts:
            return None
        settings = settled(alike(source.settings), source.checkpoint)
        seeds = range(recipe.drift.canary_seeds)
        frozen = [asdict(Canary(prompt, settings.seed + seed)) for prompt in prompts for seed in seeds]
        write_json(file, {"canaries": frozen, "settings": dict(choices(settings))})
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    settings = recipes.parse({"sample": {"dtype": "fp32", **content["settings"]}}, str(file)).sample
    return [Canary(**one) for one in content["canaries"]], settled(settings, source.checkpoint)


def _prompts(recipe: Recipe, project: Path) -> Sequence[str]:
    """The recipe's canaries, or a few of its objective's prompts, or of the captions."""
    if recipe.drift.canaries:
        return recipe.drift.canaries
    asked = (*recipe.objective.change_prompts, *recipe.objective.keep_prompts)
    said = dict.fromkeys(asked or _captions(recipe, project))
    return sorted(said, key=lambda text: (uniform("canaries", text), text))[:PROMPTS]


def _captions(recipe: Recipe, project: Path) -> Sequence[str]:
    try:
        return references(recipe, project, None).captions
    except BespokeError:
        return ()


def _compared(canaries: Sequence[Canary], first: Sequence[Path], now: Sequence[Path], clip: Clip) -> tuple[Return, ...]:
    before, after = ([in_rgb(file) for file in files] for files in (first, now))
    nudged = [Image.fromarray(nudge(np.asarray(one), canary)) for one, canary in zip(before, canaries, strict=True)]
    same = np.array([_pixels(a) == _pixels(b) for a, b in zip(before, after, strict=True)])
    return returned(canaries, same, clip.pictures(before), clip.pictures(after), clip.pictures(nudged))


def _pixels(picture: Image.Image) -> tuple[tuple[int, int], bytes]:
    return picture.size, picture.tobytes()
