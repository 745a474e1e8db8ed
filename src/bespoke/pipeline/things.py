"""Pictures turned into rows about which things a detector finds in them, beside those in the person's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from bespoke.evaluation import Row
from bespoke.evaluation.objects import objects as compared
from bespoke.evaluation.rows import mean_row
from bespoke.evaluation.significance import Values
from bespoke.evaluation.things import Crops, Divergence, Divergences, Mode, Objects, Things
from bespoke.hardware import machine
from bespoke.models import Clip, Detector, crops
from bespoke.pipeline.pictures import opened
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe import Recipe
from bespoke.records import Score

Files = Mapping[str, Sequence[Path]]
"""What each model drew; the control comes first."""
SMALLEST, PART = 32, 5
"""Things with a side of fewer pixels, or of less than this part of a smaller picture's, tell nothing."""
MODES: tuple[Mode, ...] = ("pooled", "matched")
WORDS = {
    "pooled": "by clusters of all sets together",
    "matched": "by clusters of each set, matched",
}


@dataclass
class _Found:
    """The things of one set, class by class, as they are found."""

    features: dict[str, list[np.ndarray]] = field(default_factory=dict[str, list[np.ndarray]])
    pictures: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    confidences: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    counts: list[int] = field(default_factory=list[int])
    """How many things each picture has."""

    def things(self) -> Things:
        """All of them."""
        made = {
            name: Crops(np.concatenate(rows), np.array(self.pictures[name]), np.array(self.confidences[name]))
            for name, rows in self.features.items()
        }
        return Things(made, len(self.counts))


def detector_for(recipe: Recipe) -> str:
    """The detector that the recipe names, or pico's own for pico; empty where none is to be asked."""
    named = recipe.evaluate.detector
    return ("pico-YOLOS" if recipe.model.base == "pico" else "") if named is None else named


def objects(
    recipe: Recipe, clip: Clip, files: Files, own: Sequence[Path], groups: Sequence[int] | None, report: Reporter
) -> list[Row]:
    """The rows of what is in pictures: which classes, how many things, and how those of each class look to a CLIP.

    Raises: BespokeError when the detector cannot be had, or knows none of the classes.
    """
    detector = Detector(detector_for(recipe), machine().device, recipe.evaluate.classes)
    yours = _found(detector, clip, own, report, "things in your pictures")
    drawn = {model: _found(detector, clip, those, report, f"things by {model}") for model, those in files.items()}
    original, seen, control = yours.things(), {model: one.things() for model, one in drawn.items()}, next(iter(drawn))
    found = {
        mode: {
            model: compared(original=original, base=seen[control], tuned=things, groups=groups, mode=mode)
            for model, things in seen.items()
            if model != control
        }
        for mode in MODES
    }
    counts = {model: np.array(one.counts, np.float64) for model, one in drawn.items()}
    rows = [_classes(found["pooled"], control), _facts(counts, np.array(yours.counts, np.float64), groups)]
    return rows + [row for mode in MODES for row in _looks(found[mode], control, mode)]


def _classes(found: Mapping[str, Objects], control: str) -> Row:
    """How far the classes of a model's things are from those of the person's."""
    words = "Which things there are, and how often: KL of the classes' histograms, your pictures ‖ the model's."
    parts = {model: one.histogram for model, one in found.items()}
    return Row(
        "objects", "objects_classes", "Classes of things", words, _scores("objects_classes", parts, found, control)
    )


def _looks(found: Mapping[str, Objects], control: str, mode: Mode) -> list[Row]:
    """How far a model's things look from the person's, class by class, and how much of the way was gone."""
    parts = {model: one.mean for model, one in found.items() if one.mean is not None}
    if len(parts) < len(found):
        return []
    name, label = f"objects_{mode}", f"Looks of things, {WORDS[mode]}"
    words = "KL of how things of one class look, your pictures ‖ the model's; over classes, by how many you have."
    drift = {model: _score(f"{name}_drift", part.drift, _count(found[model], "tuned")) for model, part in parts.items()}
    gains = {
        model: Score(f"{name}_gain", *one.domain_gain, _count(one, "tuned"), "higher", one.note)
        for model, one in found.items()
        if np.isfinite(one.domain_gain).all()
    }
    rows = [Row("objects", name, label, words, _scores(name, parts, found, control))]
    what = "KL of the first model's things ‖ the tuned one's: what tuning changed."
    rows.append(Row("objects", f"{name}_drift", f"Drift of things, {WORDS[mode]}", what, drift))
    what = "The part of the way from the first model's things to yours that was gone; 1 is all of it."
    return rows + ([Row("objects", f"{name}_gain", f"Gain of things, {WORDS[mode]}", what, gains)] if gains else [])


def _facts(counts: Mapping[str, Values], own: Values, groups: Sequence[int] | None) -> Row:
    """How many things the detector finds in a picture; where it does not know the style, it finds few in yours."""
    words = f"How many things the detector finds in a picture; in yours it finds {own.mean():.2f}."
    row = mean_row("objects", "things_per_picture", "Things in a picture", words, counts, groups)
    target = float(own.mean())
    scores = {model: replace(score, better="nearer", target=target) for model, score in row.scores.items()}
    return replace(row, scores=scores)


def _scores(
    name: str, parts: Mapping[str, Divergences], found: Mapping[str, Objects], control: str
) -> dict[str, Score]:
    """Each model's divergence from the person's pictures; the control's is the same whoever is compared with it."""
    first = next(iter(parts))
    scores = {control: _score(name, parts[first].base, _count(found[first], "base"))}
    return scores | {model: _score(name, part.tuned, _count(found[model], "tuned")) for model, part in parts.items()}


def _score(name: str, part: Divergence, count: int) -> Score:
    note = "" if part.told else f"is no more than chance gives: {part.kl:.3g} as measured, {part.floor:.3g} by chance"
    return Score(name, part.corrected, part.low, part.high, count, "lower", note)


def _count(one: Objects, which: str) -> int:
    return one.facts[which].pictures


def _found(detector: Detector, clip: Clip, files: Sequence[Path], report: Reporter, stage: str) -> _Found:
    found = _Found()
    report(stage, 0, len(files))
    for part in opened(files):
        _add(found, detector, clip, part)
        report(stage, len(found.counts), len(files))
    return found


def _add(found: _Found, detector: Detector, clip: Clip, shown: Sequence[Image.Image]) -> None:
    """Takes in the things of some more pictures."""
    cut = [
        crops(picture, things, min(SMALLEST, min(picture.size) // PART))
        for picture, things in zip(shown, detector.things(shown), strict=True)
    ]
    pictures = [one for each in cut for one in each.pictures]
    features = iter(clip.pictures(pictures) if pictures else ())
    for each in cut:
        for detection in each.detections:
            found.features.setdefault(detection.name, []).append(next(features)[None])
            found.pictures.setdefault(detection.name, []).append(len(found.counts))
            found.confidences.setdefault(detection.name, []).append(detection.score)
        found.counts.append(len(each.detections))
