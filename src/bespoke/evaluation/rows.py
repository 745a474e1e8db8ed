"""Features of several models' pictures turned into the rows of a scorecard, each model against the control."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bespoke.evaluation.alignment import agreement
from bespoke.evaluation.distances import DISTANCES, Distance
from bespoke.evaluation.diversity import inception_score
from bespoke.evaluation.features import FeatureSet, directions
from bespoke.evaluation.membership import Membership
from bespoke.evaluation.memorisation import Memorisation
from bespoke.evaluation.rates import difference
from bespoke.evaluation.scorecard import Instrument, Row
from bespoke.evaluation.significance import (
    Change,
    Estimate,
    Values,
    mean_interval,
    paired_difference,
    ratio_interval,
)
from bespoke.records import Better, Score

DISTANCE, AGREEMENT, LIKENESS, COPYING = "distance", "agreement", "likeness", "copying"
UNKNOWN = (float("nan"), float("-inf"), float("inf"))


@dataclass(frozen=True)
class Pictures:
    """Features of one kind of prompt's pictures by every model: row i of each has the same prompt and seed."""

    features: Mapping[str, FeatureSet]
    """By model, the control first."""
    groups: Sequence[int] | None
    """The number of its prompt for each row; none where every prompt was drawn once."""

    @property
    def control(self) -> str:
        """The model that the others are compared with."""
        return next(iter(self.features))

    @property
    def others(self) -> list[str]:
        """The models that are compared with it."""
        return list(self.features)[1:]


def distance_rows(
    pictures: Pictures,
    reference: FeatureSet,
    instrument: Instrument,
    *,
    cosine: bool,
    chosen: Sequence[Distance] = DISTANCES,
    main: str = "",
    seed: int = 0,
) -> Iterator[Row]:
    """Every distance to the references on one instrument's features; with `cosine` lengths of features count nothing.

    `main` names the one that the verdict rests on.
    """
    made = {model: _turned(features, cosine=cosine) for model, features in pictures.features.items()}
    goal = _turned(reference, cosine=cosine)
    count = min(len(goal), len(made[pictures.control]))
    for distance in chosen:
        name = f"{distance.name}_{instrument.slug}_reference"
        scores: dict[str, Score] = {}
        changes: dict[str, Change] = {}
        for model in pictures.others:
            found = distance.comparison(made[pictures.control], made[model], goal, pictures.groups, seed)
            scores.setdefault(pictures.control, _score(name, found.base, count, distance.better))
            scores[model] = _score(name, found.tuned, count, distance.better)
            changes[model] = found.change
        label = distance.label(instrument.name, is_fid=instrument.is_fid)
        yield Row(DISTANCE, name, label, distance.explanation, scores, changes, main=distance.name == main)


def agreement_row(pictures: Pictures, texts: FeatureSet, name: str, label: str, explanation: str) -> Row:
    """How well each model's pictures show what their prompts say, 0 to 100."""
    values = {model: agreement(features, texts) for model, features in pictures.features.items()}
    return mean_row(AGREEMENT, name, label, explanation, values, pictures.groups, main=True)


def preference_row(pictures: Pictures, texts: FeatureSet, scale: float, instrument: Instrument) -> Row:
    """How a network that learnt people's choices likes each model's pictures for their prompts.

    Source: Kirstain et al. 2023, "Pick-a-Pic", equation 1: exp(logit scale) · cos.
    """
    texts = directions(texts, "texts")
    values = {
        model: scale * (directions(features, "pictures") * texts).mean(axis=1)
        for model, features in pictures.features.items()
    }
    words = "What people would choose, as a network guesses that learnt from their choices. The difference counts."
    name = f"preference_{instrument.slug}"
    return mean_row(AGREEMENT, name, f"Preference ({instrument.name})", words, values, pictures.groups)


def likeness_row(pictures: Pictures, reference: FeatureSet, instrument: Instrument, short: str) -> Row:
    """How alike each picture is to the references: the mean cosine to all of them, −1 to 1.

    Source: Ruiz et al. 2023, "DreamBooth", section 4.1 (CLIP-I and DINO).
    """
    goal = directions(reference, "references").mean(axis=0) / reference.shape[1]
    values = {model: directions(features, "pictures") @ goal for model, features in pictures.features.items()}
    words = "The mean likeness of each picture to each of yours. Copies raise it, too."
    name, label = f"{short.replace('-', '_').lower()}_{instrument.slug}", f"{short} ({instrument.name})"
    return mean_row(LIKENESS, name, label, words, values, pictures.groups)


def posterior_row(posteriors: Mapping[str, FeatureSet], groups: Sequence[int] | None, instrument: Instrument) -> Row:
    """The Inception Score of each model."""
    name = "inception_score"
    scores = {
        model: _score(name, inception_score(rows, groups), len(rows), "higher") for model, rows in posteriors.items()
    }
    words = "How surely a classifier of photographs names the pictures, and how variously; of a style it says little."
    return Row(DISTANCE, name, f"Inception Score ({instrument.name})", words, scores)


def copying_rows(found: Mapping[str, Memorisation], control: str, count: int) -> Iterator[Row]:
    """The rows of copying, from what was found of each model beside the control, of `count` pictures of each."""
    first = next(iter(found.values()))
    shares = {control: first.copies.base, **{model: one.copies.tuned for model, one in found.items()}}
    rates = {model: _score("copy_rate", one, count, "lower") for model, one in shares.items()}
    rates |= {model: replace(rates[model], note=one.copies.note) for model, one in found.items()}
    changes = {m: _changed(one.copies.change, one.copies.tuned, one.copies.base) for m, one in found.items()}
    words = "The share of pictures nearer to a training picture than pictures that were held back come to be."
    yield Row(COPYING, "copy_rate", "Copies of training pictures", words, rates, changes)
    others = {control: first.base_authenticity, **{model: one.authenticity for model, one in found.items()}}
    words = (
        "The share that is further from its nearest training picture than that one is from the others; "
        f"pictures that were held back come to {first.held_out_authenticity.value:.2f}."
    )
    yield _copying_row("authenticity", "Authentic pictures (AuthPct)", words, others, count)
    others = {control: first.base_copying_z, **{model: one.copying_z for model, one in found.items()}}
    words = (
        "Whether pictures are nearer to training pictures than held back ones are, in standard deviations of chance; "
        "below −3 it copies."
    )
    yield _copying_row("copying_z", "Data copying (C_T)", words, others, count)


def membership_row(found: Mapping[str, Membership], control: str) -> Row:
    """The row of training captions told from unseen ones, from what was found of each model."""
    scores = {m: _score("membership_auc", one.auc, len(one.nearest), "lower") for m, one in found.items()}
    changes = {
        model: _changed(difference(one.auc, found[control].auc), one.auc, found[control].auc)
        for model, one in found.items()
        if model != control
    }
    words = (
        "How often a training caption leads nearer to its picture than a caption of a picture that no training saw to "
        "its: 50 % where nothing was learnt by heart, 100 % where training pictures are redrawn."
    )
    return Row(COPYING, "membership_auc", "Training pictures redrawn when asked for", words, scores, changes)


def _copying_row(name: str, label: str, explanation: str, found: Mapping[str, Estimate], count: int) -> Row:
    scores = {model: _score(name, one, count, "higher") for model, one in found.items()}
    return Row(COPYING, name, label, explanation, scores)


def mean_row(
    part: str,
    name: str,
    label: str,
    explanation: str,
    values: Mapping[str, Values],
    groups: Sequence[int] | None,
    *,
    main: bool = False,
) -> Row:
    """The mean of one number per picture by each model, and what changed over pairs."""
    control = next(iter(values))
    scores = {
        model: Score(name, float(found.mean()), *mean_interval(found, groups), len(found))
        for model, found in values.items()
    }
    others = {model: found for model, found in values.items() if model != control}
    changes = {model: mean_change(values[control], found, groups) for model, found in others.items()}
    return Row(part, name, label, explanation, scores, changes, main)


def mean_change(base: Values, tuned: Values, groups: Sequence[int] | None) -> Change:
    """What changed of one number per picture, over pairs."""
    found = paired_difference(base, tuned, groups)
    return Change(found.mean, found.low, found.high, ratio_interval(base, tuned, groups), found.p)


def _turned(features: FeatureSet, *, cosine: bool) -> FeatureSet:
    return directions(features, "pictures") if cosine else np.asarray(features, np.float64)


def _score(name: str, found: Estimate, count: int, better: Better) -> Score:
    return Score(name, found.value, found.low, found.high, count, better, found.note, found.target)


def _changed(change: Estimate, tuned: Estimate, base: Estimate) -> Change:
    known = base.value > 0 and base.low > 0
    ratio = (tuned.value / base.value, tuned.low / base.high, tuned.high / base.low) if known else UNKNOWN
    return Change(change.value, change.low, change.high, ratio)
