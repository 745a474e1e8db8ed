"""Pictures of several models turned into a scorecard, by the extractors and the detector that the recipe names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from bespoke.errors import BespokeError
from bespoke.evaluation import Instrument, Row, Scorecard, combined, rows
from bespoke.evaluation.distances import DISTANCES
from bespoke.evaluation.membership import LEAST as FRESH
from bespoke.evaluation.membership import Asked, Membership, membership
from bespoke.evaluation.memorisation import Copies, Memorisation, memorisation
from bespoke.evaluation.objects import LEAST
from bespoke.evaluation.rows import Pictures
from bespoke.hardware import machine
from bespoke.models import Clip, Extractor, extractor
from bespoke.models.inception import Inception
from bespoke.models.local import at_hand
from bespoke.pipeline import things
from bespoke.pipeline.asking import asked_for, said
from bespoke.pipeline.looking import look_rows
from bespoke.pipeline.pictures import opened
from bespoke.pipeline.prompts import COMPLEX, DOMAIN, GENERAL, TRAINED, Prompts
from bespoke.pipeline.references import Own, References
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe import Recipe
from bespoke.text import unweighed

Drawings = Mapping[str, Mapping[str, Sequence[Path]]]
"""The files that each model drew, by kind of prompt; the control comes first."""
USUAL = ("openai/clip-vit-large-patch14", "openai/clip-vit-base-patch32")
"""For whatever is not pico; the first of them that is on this machine."""
MAIN = "kid"
"""The distance that the verdict rests on: unbiased, so that it means something for few pictures, too."""
WORDS = {
    DOMAIN: (
        "agreement_reference",
        "the domain's prompts",
        "How well each picture shows what its prompt says, 0 to 100.",
    ),
    GENERAL: (
        "agreement_general",
        "plain prompts",
        "The same for prompts without the style's words: what was forgotten.",
    ),
    COMPLEX: (
        "agreement_complex",
        "prompts that say much",
        "The same for prompts that ask for several things at once.",
    ),
}
REDRAWN = "Training pictures redrawn when asked for"
KNOWN, HELD_BACK = 2, 10
"""Fewer training pictures have no nearest one, fewer pictures that were held back tell no copy from a likeness."""


@dataclass(frozen=True)
class Comparison:
    """All that a measure may look at."""

    recipe: Recipe
    drawings: Drawings
    prompts: Prompts
    own: References
    report: Reporter

    @property
    def control(self) -> str:
        """The model that the others are compared with."""
        return next(iter(self.drawings))

    def files(self, kind: str) -> dict[str, Sequence[Path]]:
        """What each model drew of one kind."""
        return {model: kinds[kind] for model, kinds in self.drawings.items()}

    def groups(self, kind: str) -> Sequence[int] | None:
        """Which pictures belong together, where a prompt has several and there are several prompts."""
        several = len(self.prompts.seeds) > 1 and len(self.prompts.kinds[kind]) > 1
        return self.prompts.groups(kind) if several else None


@dataclass
class Found:
    """What was measured so far, and what could not be."""

    rows: list[Row] = field(default_factory=list[Row])
    instruments: list[Instrument] = field(default_factory=list[Instrument])
    unmeasured: dict[str, str] = field(default_factory=dict[str, str])
    copies: dict[str, Copies] = field(default_factory=dict[str, Copies])
    redrawn: dict[str, Membership] = field(default_factory=dict[str, Membership])


def measure(
    recipe: Recipe, drawings: Drawings, prompts: Prompts, own: References, report: Reporter, *, whole: bool = True
) -> Scorecard:
    """The scorecard of what models drew; without `whole` only what the verdict rests on.

    Raises: BespokeError when there is no prompt in the words of the references, or no CLIP.
    """
    if DOMAIN not in prompts.kinds:
        hint = "Name some, or give the pictures captions."
        raise BespokeError(f"There is nothing to draw. {prompts.missing[DOMAIN]}", hint)
    given, found = Comparison(recipe, drawings, prompts, own, report), Found()
    found.unmeasured |= {
        f"Agreement with {WORDS[kind][1]}" if kind in WORDS else REDRAWN: why for kind, why in prompts.missing.items()
    }
    clip = Clip(clip_for(recipe), machine().device)
    _by_clip(clip, given, found, whole=whole)
    if whole:
        _by_others(given, found)
        _by_preference(given, found)
        found.rows += look_rows(given.files(DOMAIN), _files(own.goal), given.groups(DOMAIN), report)
        _by_detector(clip, given, found)
    counts = {kind: len(files) for kind, files in drawings[given.control].items()}
    own_counts = {"references": len(own.goal), "training": len(own.training), "held back": len(own.held_back)}
    return combined(
        given.control, list(drawings), found.rows, instruments=tuple(found.instruments), counts=counts | own_counts,
        seeds=prompts.seeds, distance=f"{MAIN}_{_instrument(clip).slug}_reference", nearest=found.copies,
        redrawn=found.redrawn, unmeasured=found.unmeasured | ({"The comparison itself": own.note} if own.note else {}),
    )  # fmt: skip


def clip_for(recipe: Recipe) -> str:
    """The CLIP that the recipe names, or the one that suits its base.

    Raises: BespokeError when it names none and none of the usual ones is on this machine.
    """
    if recipe.evaluate.clip:
        return recipe.evaluate.clip
    if recipe.model.base == "pico":
        return "pico-CLIP"
    for name in USUAL:
        if at_hand(name):
            return name
    hint = f'Name one: --set evaluate.clip="{USUAL[0]}". It is downloaded then.'
    raise BespokeError(f"There is no CLIP to measure with: neither {' nor '.join(USUAL)} is on this machine.", hint)


def features(made: Extractor, files: Sequence[Path], report: Reporter, stage: str) -> np.ndarray:
    """The features of the pictures in files, float64 [n d]; some pictures at a time are in memory."""
    return _mapped(made.pictures, files, report, stage)


def _mapped(
    of: Callable[[Sequence[Image.Image]], np.ndarray], files: Sequence[Path], report: Reporter, stage: str
) -> np.ndarray:
    parts: list[np.ndarray] = []
    report(stage, 0, len(files))
    for part in opened(files):
        parts.append(of(part))
        report(stage, sum(len(one) for one in parts), len(files))
    return np.concatenate(parts)


def _by_clip(clip: Clip, given: Comparison, found: Found, *, whole: bool) -> None:
    """Distances, agreement, likeness and copying, by one CLIP."""
    instrument = _instrument(clip)
    found.instruments.append(instrument)
    files = _of_all(given.own)
    own = dict(zip(files, features(clip, files, given.report, f"your pictures, {clip.name}"), strict=True))
    goal = _rows(own, given.own.goal)
    chosen = DISTANCES if whole else tuple(one for one in DISTANCES if one.name == MAIN)
    drawn = {kind: _seen(clip, given, kind) for kind in given.prompts.kinds}
    if TRAINED in drawn:
        _redrawing(own, given, drawn, found)
    for kind, seen in drawn.items():
        if kind not in WORDS:
            continue
        name, words, explanation = WORDS[kind]
        texts = clip.texts([unweighed(request.prompt) for request in given.prompts.requests(kind)])
        if kind == DOMAIN:
            found.rows += rows.distance_rows(seen, goal, instrument, cosine=True, chosen=chosen, main=MAIN)
            _copying(own, given, seen, found)
        found.rows.append(rows.agreement_row(seen, texts, name, f"Agreement with {words} ({clip.name})", explanation))
        if kind == DOMAIN and whole:
            found.rows.append(rows.likeness_row(seen, goal, instrument, "CLIP-I"))


def _by_others(given: Comparison, found: Found) -> None:
    """Distances by further extractors; one that cannot be had is told."""
    for name in given.recipe.evaluate.extractors:
        try:
            made = extractor(name, machine().device)
        except BespokeError as error:
            found.unmeasured[f"Distances on {name}'s features"] = f"{error.problem} {error.hint}"
            continue
        instrument = _instrument(made)
        found.instruments.append(instrument)
        goal, seen = (
            features(made, _files(given.own.goal), given.report, f"your pictures, {name}"),
            _seen(made, given, DOMAIN),
        )
        cosine = isinstance(made, Clip)
        found.rows += rows.distance_rows(seen, goal, instrument, cosine=cosine)
        found.rows.append(rows.likeness_row(seen, goal, instrument, "CLIP-I" if cosine else "DINO-I"))
        if isinstance(made, Inception):
            files = given.files(DOMAIN).items()
            told = {model: _mapped(made.posteriors, those, given.report, f"classes, {model}") for model, those in files}
            found.rows.append(rows.posterior_row(told, given.groups(DOMAIN), instrument))


def _by_preference(given: Comparison, found: Found) -> None:
    """What people would choose, where the recipe names a network for it."""
    settings = given.recipe.evaluate
    if not settings.preference:
        found.unmeasured["Preference"] = "evaluate.preference names no model, such as yuvalkirstain/PickScore_v1."
        return
    try:
        made = Clip(settings.preference, machine().device, processor=settings.preference_processor)
    except BespokeError as error:
        found.unmeasured["Preference"] = f"{error.problem} {error.hint}"
        return
    instrument = _instrument(made)
    found.instruments.append(instrument)
    texts = made.texts([unweighed(request.prompt) for request in given.prompts.requests(DOMAIN)])
    found.rows.append(rows.preference_row(_seen(made, given, DOMAIN), texts, made.scale, instrument))


def _by_detector(clip: Clip, given: Comparison, found: Found) -> None:
    """Which things are in pictures, where the recipe names a detector."""
    name, what = things.detector_for(given.recipe), "Things in pictures"
    if not name:
        found.unmeasured[what] = "evaluate.detector names none, such as google/owlv2-base-patch16-ensemble."
        return
    files, own = given.files(DOMAIN), _of_all(given.own)
    try:
        rows = things.objects(given.recipe, clip, files, own, given.groups(DOMAIN), given.report)
    except BespokeError as error:
        found.unmeasured[what] = f"{error.problem} {error.hint}"
        return
    found.rows += rows
    if not any(row.name == "objects_pooled" for row in rows):
        found.unmeasured["Looks of things"] = f"No class has {LEAST} things in your pictures and in each model's."


def _copying(own: Mapping[Path, np.ndarray], given: Comparison, seen: Pictures, found: Found) -> None:
    """Whether models redraw training pictures, by features of the person's; where that cannot be told, why."""
    training, held = given.own.training, given.own.held_back
    if len(training) < KNOWN or len(held) < HELD_BACK:
        found.unmeasured["Copies of training pictures"] = (
            f"{len(training)} training pictures are known and {len(held)} held back; it takes {KNOWN} and {HELD_BACK}."
        )
        return
    known, fresh = _rows(own, training), _rows(own, held)
    told: dict[str, Memorisation] = {}
    for model in seen.others:
        told[model] = memorisation(
            tuned=seen.features[model], base=seen.features[seen.control], training=known, held_out=fresh,
            groups=seen.groups,
        )  # fmt: skip
    found.copies |= {model: one.copies for model, one in told.items()}
    found.rows += rows.copying_rows(told, seen.control, len(seen.features[seen.control]))


def _redrawing(own: Mapping[Path, np.ndarray], given: Comparison, drawn: Mapping[str, Pictures], found: Found) -> None:
    """Whether models redraw training pictures when asked with their captions, beside captions of unseen ones."""
    training, fresh = (
        said(given.prompts, *part) for part in ((TRAINED, given.own.training), (DOMAIN, given.own.fresh))
    )
    if len({one.text for one in fresh}) < FRESH:
        found.unmeasured[REDRAWN] = (
            f"It takes {FRESH} prompts in the style's words that are captions of pictures which were held back."
        )
        return

    def asked(kind: str, model: str, pictures: Sequence[Own]) -> Asked:
        return asked_for(given.prompts.requests(kind), drawn[kind].features[model], pictures, _rows(own, pictures))

    told = {m: membership(asked(TRAINED, m, training), asked(DOMAIN, m, fresh)) for m in given.drawings}
    found.redrawn |= {model: one for model, one in told.items() if model != given.control}
    found.rows.append(rows.membership_row(told, given.control))


def _seen(made: Extractor, given: Comparison, kind: str) -> Pictures:
    return Pictures(
        {
            model: features(made, files, given.report, f"{kind} by {model}, {made.name}")
            for model, files in given.files(kind).items()
        },
        given.groups(kind),
    )


def _instrument(made: Extractor) -> Instrument:
    return Instrument(made.name, made.mark, made.resizer, made.is_fid)


def _rows(features_of: Mapping[Path, np.ndarray], own: Sequence[Own]) -> np.ndarray:
    """The features of some of the person's pictures, [n d]."""
    return np.stack([features_of[one.file] for one in own])


def _files(own: Sequence[Own]) -> list[Path]:
    return [one.file for one in own]


def _of_all(own: References) -> list[Path]:
    """Every picture of the person's, each once."""
    return list(dict.fromkeys(one.file for one in (*own.training, *own.held_back, *own.goal)))
