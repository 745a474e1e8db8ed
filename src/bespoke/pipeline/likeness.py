"""The pictures of an exported file, loaded again, compared with the model's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bespoke.errors import BespokeError
from bespoke.models import quiet
from bespoke.pipeline.naming import Named
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.sample import settled
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw

PROMPTS = ("a red apple", "a house by the sea")
"""Drawn where the recipe names no prompts."""
FEW, STEPS = 2, 8
"""So many pictures are drawn, in so many steps."""
MOST = {"fp32": 0.5, "fp16": 1.0, "bf16": 4.0}
"""How far pictures may lie apart on average, of 255 levels. bf16 has three bits less than fp16."""


@dataclass(frozen=True)
class Likeness:
    """How near the pictures of an exported file are to the model's own, in levels of 255."""

    pictures: int
    mean: float
    most: float
    """The largest difference of one pixel."""
    effect: float
    """How far the base's pictures lie from the model's on average; 0 where there is no other base."""
    loader: str
    """What loaded the file."""


def compared(
    source: Named, load: Callable[[], tuple[Any, str]], dtype: str, report: Reporter, *, alone: bool = False
) -> Likeness:
    """The pictures of an exported file, loaded by `load`, against the model's own, by the same seeds and settings.

    `alone` says that the file is an adapter without its base, which has its own bits then.

    Raises: BespokeError when they lie further apart than the rounding explains, or the file cannot be loaded.
    """
    prompts = (source.settings.prompts or PROMPTS)[:FEW]
    known = {"num_inference_steps": min(STEPS, source.settings.num_inference_steps), "prompts": ()}
    settings = settled(source.settings.model_copy(update=known), source.checkpoint)
    requests = [Request(_plain(source, prompt), settings.seed + n) for n, prompt in enumerate(prompts)]
    report("load it again", 0, 3)
    ours = _pictures(source.pipeline(safety_checker=False), requests, settings)
    report("load it again", 1, 3)
    base = _pictures(source.checkpoint.pipeline(safety_checker=False), requests, settings) if source.adapter else ours
    report("load it again", 2, 3)
    with quiet():
        pipeline, loader = load()
    theirs = _pictures(pipeline, requests, settings)
    apart = np.abs(ours - theirs)
    found = Likeness(len(requests), float(apart.mean()), float(apart.max()), float(np.abs(ours - base).mean()), loader)
    report("load it again", 3, 3, f"{found.mean:.2f} of 255 from the model's own pictures")
    if found.mean > most_apart(found.effect, dtype, alone=alone):
        problem = f"Loaded again by {loader}, it draws other pictures: {found.mean:.1f} of 255 levels apart on average."
        raise BespokeError(problem, "Nothing was kept. Try --dtype fp32; if it stays so, it is our fault: report it.")
    return found


def most_apart(effect: float, dtype: str, *, alone: bool) -> float:
    """How far pictures may lie apart: what rounding explains and, of an adapter alone, half of what it does at most.

    A weak adapter that was not read at all would else pass. One that does nothing passes with anything below a
    twentieth of a level.
    """
    return min(MOST[dtype], max(effect / 2, 0.05)) if alone else MOST[dtype]


def _plain(source: Named, prompt: str) -> str:
    """A prompt without the model's new words, which some forms know only from files beside them."""
    words = source.checkpoint.new_words
    for word in words.words if words else ():
        for surface in word.surfaces:
            prompt = prompt.replace(surface, "")
    return prompt


def _pictures(pipeline: Any, requests: list[Request], settings: Sample) -> Any:
    """[n, height, width, 3], levels of 255."""
    from bespoke.hardware import machine

    pipeline.set_progress_bar_config(disable=True)
    drawn = draw(pipeline.to(machine().device), requests, settings)
    return np.stack([np.asarray(one.picture, dtype=np.float32) for one in drawn])
