"""Samples of served pictures turned into the figures that are watched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.evaluation import agreement
from bespoke.evaluation.burnt import Look, looks
from bespoke.evaluation.features import directions
from bespoke.evaluation.significance import Values
from bespoke.feedback.drift import Window
from bespoke.feedback.windows import Sampled, Span
from bespoke.models import Clip
from bespoke.pipeline.pictures import opened
from bespoke.pipeline.references import references
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe import Recipe
from bespoke.text import normal, unweighed, words
from bespoke.workspace import atomic_file

FileOf = Callable[[Sampled], Path]
"""Where a sample's picture lies."""
LOOKS = ("saturation", "clipped", "high_frequency")


@dataclass(frozen=True)
class Instruments:
    """What pictures and prompts are measured by."""

    clip: Clip
    tokenizer: Any
    """The base's."""
    goal: Values | None
    """The mean direction of the person's references; nothing where there are none."""


def goal_of(clip: Clip, recipe: Recipe, project: Path) -> Values | None:
    """The mean direction of the pictures that a model should come near to; nothing where there are none."""
    try:
        own = references(recipe, project, None).goal
    except BespokeError:
        return None
    seen = np.concatenate([clip.pictures(part) for part in opened([one.file for one in own])])
    return directions(seen, "references").mean(axis=0) / seen.shape[1]


def measured(span: Span, file: FileOf, by: Instruments, report: Reporter, stage: str) -> Window:
    """The figures of a window's samples, without those that were deleted meanwhile.

    Pictures that the safety checker made black say nothing of the model but how many there are.

    Raises: BespokeError when there are none left.
    """
    there = [sample for sample in span.samples if file(sample).is_file()]
    if not there:
        raise BespokeError(f"The pictures of {span.day} are gone.", "Was the store cleared meanwhile? Try again.")
    shown = [sample for sample in there if not sample.flagged]
    prompts = [unweighed(sample.prompt) for sample in there]
    texts = by.clip.texts(prompts)
    values = {"flagged": _column(float(sample.flagged) for sample in there), **_of_prompts(prompts, by.tokenizer)}
    if timed := [sample.seconds for sample in there if sample.seconds > 0]:
        values["seconds"] = _column(timed)
    if not shown:
        return Window(span.day, {"prompts": _straight(texts)}, values)
    pictures, seen = _seen([file(sample) for sample in shown], by.clip, report, stage)
    answered = texts[[not sample.flagged for sample in there]]
    values |= {name: _column(getattr(look, name) for look in seen) for name in LOOKS}
    values["agreement"] = agreement(pictures, answered)
    if by.goal is not None:
        values["likeness"] = directions(pictures, "pictures") @ by.goal
    return Window(span.day, {"pictures": _straight(pictures), "prompts": _straight(texts)}, values)


def keep(window: Window, path: Path) -> None:
    """The figures written to a file: numbers only, no picture and no prompt."""
    parts = {f"features.{name}": rows for name, rows in window.features.items()}
    parts |= {f"values.{name}": column for name, column in window.values.items()}
    arrays = {name: np.ascontiguousarray(part, dtype=np.float64) for name, part in parts.items()}
    with atomic_file(path) as temporary:
        save_file(arrays, temporary, {"day": window.day})


def kept(path: Path) -> Window:
    """The figures in a file that `keep` wrote."""
    from safetensors import safe_open

    arrays = load_file(path)
    with safe_open(path, "numpy") as file:  # pyright: ignore[reportUnknownVariableType]
        day = (file.metadata() or {})["day"]
    features, values = (
        {name.removeprefix(kind): part for name, part in arrays.items() if name.startswith(kind)}
        for kind in ("features.", "values.")
    )
    return Window(day, features, values)


def _of_prompts(prompts: Sequence[str], tokenizer: Any) -> dict[str, Values]:
    lengths = _column(len(tokenizer.tokenize(prompt)) for prompt in prompts)
    return {"prompt_length": lengths, "unknown_words": _column(_unknown(prompt, tokenizer) for prompt in prompts)}


def _unknown(prompt: str, tokenizer: Any) -> float:
    """The share of a prompt's words that the tokenizer has no single token for."""
    said = words(normal(prompt))
    return sum(len(tokenizer.tokenize(word)) > 1 for word in said) / len(said) if said else 0.0


def _seen(files: Sequence[Path], clip: Clip, report: Reporter, stage: str) -> tuple[np.ndarray, list[Look]]:
    rows, seen = list[np.ndarray](), list[Look]()
    report(stage, 0, len(files))
    for part in opened(files):
        rows.append(clip.pictures(part))
        seen += [looks(np.asarray(picture)) for picture in part]
        report(stage, len(seen), len(files))
    return np.concatenate(rows), seen


def _straight(features: np.ndarray) -> np.ndarray:
    """Features as directions: their length means nothing (decision 5)."""
    return directions(features, "pictures")


def _column(values: Any) -> Values:
    return np.array(list(values), dtype=np.float64)
