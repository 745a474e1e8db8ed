"""What models say about a dataset's pictures turned into what the report shows of it: figures, and who stands out."""

import math
from collections.abc import Callable, Iterable
from statistics import median

from bespoke import page
from bespoke.data import ASIDE, TRAIN, Inspected
from bespoke.data.opinions import Opinion
from bespoke.page import wording
from bespoke.pipeline.describe.view import View

SHOWN = 6
"""How many pictures that stand out are shown of each kind."""
CALLED = {"clip": "CLIP", "safety_checker": "safety checker", "detector": "detector"}

Measure = Callable[[Opinion], float | None]


def distributions(view: View) -> tuple[page.Distribution, ...]:
    """How well pictures agree with their captions, and how far they are from each other, where models told."""
    strange = page.Limit(view.recipe.clean.maximum_strangeness, "unlike the others")
    agreement, distance = (
        "Cosine of CLIP's features of the picture and of its caption.",
        "To the 5 nearest pictures, in standard deviations from the middle.",
    )
    found = (
        _distribution(view, "Agreement with the caption", agreement, lambda said: said.agreement),
        _distribution(view, "Distance from the others", distance, lambda said: said.strangeness, strange),
    )
    return tuple(each for each in found if each.kept or each.aside)


def sights(view: View) -> tuple[page.AsideGroup, ...]:
    """The kept pictures that agree least with their captions, and those that are farthest from the others."""
    fit = _least(view.kept, lambda said: None if said.fit is None else said.agreement)
    far = _least(view.kept, lambda said: None if said.strangeness is None else -said.strangeness)
    groups = (
        page.AsideGroup("Agree least with their captions", tuple(_fit(view, item) for item in fit)),
        page.AsideGroup("Farthest from the others", tuple(_far(view, item) for item in far)),
    )
    return tuple(group for group in groups if group.thumbs)


def lead(view: View) -> str:
    """Which models looked, and what is not known for want of one."""
    models = ", ".join(f"{name} ({CALLED[key]})" for key, name in view.asked.models.items())
    said = f"Looked at by {models}. These are not faults: they are where faults would be. " if models else ""
    return said + " ".join(view.asked.absent)


def _distribution(
    view: View, title: str, words: str, measure: Measure, *limits: page.Limit
) -> page.Distribution:  # fmt: skip
    kept, aside = (tuple(_told(items, measure)) for items in (view.kept, view.aside))
    middle = f" In the middle: {wording.number(median(kept))}." if kept and not limits else ""
    return page.Distribution(title, words + middle, kept, aside, limits)


def _told(items: Iterable[Inspected], measure: Measure) -> Iterable[float]:
    return (value for item in items if (value := measure(item.opinion)) is not None)


def _least(items: Iterable[Inspected], measure: Measure) -> list[Inspected]:
    """The pictures for which the measure is least."""
    told = [(value, item) for item in items if (value := measure(item.opinion)) is not None]
    return [item for _, item in sorted(told, key=lambda pair: (pair[0], pair[1].picture.file))[:SHOWN]]


def _fit(view: View, item: Inspected) -> page.Thumb:
    said = item.opinion
    above = f"{said.fit:.1f} deviations above other captions" if said.fit is not None else ""
    agreement = math.nan if said.agreement is None else said.agreement
    return _thumb(view, item, f"“{item.picture.text}”: {agreement:.2f}, {above}")


def _far(view: View, item: Inspected) -> page.Thumb:
    far = math.nan if item.opinion.strangeness is None else item.opinion.strangeness
    return _thumb(view, item, f"{far:.1f} deviations; “{item.picture.text}”")


def _thumb(view: View, item: Inspected, detail: str) -> page.Thumb:
    kept = item.picture.source in view.kept_names
    return page.Thumb(view.folder / (TRAIN if kept else ASIDE) / item.picture.file, item.picture.file, detail)
