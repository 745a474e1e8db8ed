"""A dataset turned into the page that shows what came in, what became of it, and what could be better."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median

from bespoke import data, page
from bespoke.data.clean import LOSSY
from bespoke.page import wording
from bespoke.pipeline.datasets import LOOK, settings_of
from bespoke.pipeline.describe import shares, sights
from bespoke.pipeline.describe.advice import advice
from bespoke.pipeline.describe.captions import in_tokens, in_words, usual_beginning, word_counts
from bespoke.pipeline.describe.kinds import kinds
from bespoke.pipeline.describe.shapes import Shaped, shaped
from bespoke.pipeline.describe.view import LOOK_ALIKE, View
from bespoke.pipeline.naming import base_at_hand
from bespoke.pipeline.reporting import Reporter, counting, silent
from bespoke.pipeline.seeing import ask_models
from bespoke.recipe.dataset import Clean
from bespoke.records import Dataset, Picture
from bespoke.workspace import relative

ON_THE_SHEET, HELD_OUT, AT_RANDOM, AT_AN_END, WORDS = 24, 12, 6, 3, 18
"""How many are shown of the pictures, those held out, the captions at random, longest and shortest, and words."""


@dataclass(frozen=True)
class Described:
    """A dataset's report: where it is, and what it advises."""

    report: Path
    dataset: Dataset
    advice: tuple[page.Advice, ...]


def report_data(
    dataset: str | Path,
    *,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Described:
    """A page about a dataset, which is as it was: `index.html` in `out` or, where none is named, in its `report/`.

    Nothing is downloaded: where the base model is not at hand, captions are measured in words.

    Raises: BespokeError when `dataset` is none or is damaged, or the recipe cannot be used.
    """
    folder = Path(dataset)
    settings = settings_of(dataset, recipe, overrides)
    beside = Path(recipe).parent if recipe else folder.resolve().parent
    base = base_at_hand(settings, beside)
    asked = ask_models(folder, settings, beside, base, report)
    found, pictures = data.inspect(folder, settings, counting(report, LOOK))
    texts = sorted({item.picture.text for item in pictures} - {""})
    lengths = in_tokens(base, texts) if base else in_words(texts)
    resolution = settings.data.resolution or (base.resolution if base else None)
    view = View(folder, settings, found, tuple(pictures), lengths, resolution, asked)
    told, path = advice(view), Path(out or folder / "report") / "index.html"
    page.write_dataset(_page(view, told, shaped(view, base)), path, partial(data.preview, side=page.THUMBNAIL))
    return Described(path, found, told)


def _page(view: View, told: tuple[page.Advice, ...], shapes: Shaped) -> page.DatasetReport:
    words = word_counts(view.captions, view.trigger or usual_beginning(view.captions))
    return page.DatasetReport(
        title=view.trigger or "/".join(view.folder.resolve().parts[-2:]),
        facts=tuple(page.Fact(label, value) for label, value in _facts(view).items() if value),
        sheet=_thumbs(view, _at_random(view.dataset.pictures)[:ON_THE_SHEET]),
        advice=told,
        intake=page.intake_of(view.dataset, view.folder / "set-aside"),
        alike=_alike(view),
        doubts=_doubts(view),
        distributions=_distributions(view) + sights.distributions(view),
        sights=sights.sights(view),
        sights_lead=sights.lead(view),
        captions=_captions(view),
        captions_lead=_captions_lead(view),
        kinds=kinds(view),
        words=tuple(page.Part(word, count, len(view.captions)) for word, count in words.most_common(WORDS)),
        words_lead=_words_lead(view, len(words)),
        shares=shares.balance(view),
        repeats=shares.repeats(view.dataset.part("train")),
        split_lead=shares.split_lead(view),
        split_reasons=shares.split_reasons(view),
        together=shares.together(view),
        held_out=_thumbs(view, _at_random(view.dataset.part("validation"))[:HELD_OUT]),
        shapes_lead=shapes.lead,
        shapes=shapes.rows,
        shape_notes=shapes.notes,
        rules=_rules(view),
    )


def _facts(view: View) -> dict[str, str]:
    formats = Counter(item.facts.format for item in view.kept)
    sizes = Counter((item.picture.width, item.picture.height) for item in view.kept)
    (width, height), most = sizes.most_common(1)[0]
    others = f"; {len(sizes) - 1:,} other sizes" if len(sizes) > 2 else "; one other size" if len(sizes) == 2 else ""
    origin = "as the recipe says" if view.recipe.data.resolution else "what the base model was trained at"
    return {
        "Folder": relative(view.folder),
        "Style's words": view.trigger,
        "Base model": view.recipe.model.base,
        "Trained at": f"{view.resolution} pixels, {origin}" if view.resolution else "",
        "Formats": ", ".join(f"{count:,} {name}" for name, count in formats.most_common()),
        "Sizes": f"{width}×{height} ({most:,} pictures){others}" if most > 1 else f"{len(sizes):,}, all different",
        "On disk": wording.file_size(sum(item.facts.bytes for item in view.kept)),
        "Looked at": wording.date(datetime.now().astimezone()),
    }


def _at_random(pictures: Iterable[Picture]) -> list[Picture]:
    """The pictures in an order that has nothing to do with what they are, and is always the same."""
    return sorted(pictures, key=lambda picture: (picture.pixels, picture.file))


def _thumbs(view: View, pictures: Iterable[Picture]) -> tuple[page.Thumb, ...]:
    return tuple(page.Thumb(view.folder / "train" / p.file, p.file, p.text) for p in pictures)


def _alike(view: View) -> tuple[page.Alike, ...]:
    """The groups of pictures that look the same, largest first."""
    copies: dict[str, list[data.Inspected]] = {}
    for item in view.pictures:
        if item.judgement.like:
            copies.setdefault(item.judgement.like, []).append(item)
    chosen = {item.picture.source: item for item in view.pictures}
    groups = [
        page.Alike(_member(view, chosen[name]), tuple(_member(view, copy) for copy in found), why(chosen[name], found))
        for name, found in copies.items()
    ]
    return tuple(sorted(groups, key=lambda group: -len(group.copies)))


def _member(view: View, item: data.Inspected) -> page.Thumb:
    facts, kept = item.facts, item.picture.source in view.kept_names
    rule = next((rule for rule in item.rules if rule in LOOK_ALIKE), "")
    state = ("kept, too" if kept else "") if item.judgement.like else "" if kept else "set aside"
    described = f"{facts.width}×{facts.height} {facts.format}, {wording.file_size(facts.bytes)}"
    path = view.folder / ("train" if kept else "set-aside") / item.picture.file
    return page.Thumb(path, item.picture.file, " · ".join(filter(None, (rule, described, state))))


def why(kept: data.Inspected, copies: Sequence[data.Inspected]) -> str:
    """Why a picture is kept rather than the others that look the same."""
    area = kept.facts.width * kept.facts.height
    rivals = [item for item in copies if not item.picture.restored]
    if not rivals:
        return "All are kept, because you brought the others back."
    rivals = [item for item in rivals if item.facts.width * item.facts.height == area]
    if not rivals:
        return "Kept because it has most pixels."
    lossy = kept.facts.format in LOSSY
    rivals = [item for item in rivals if (item.facts.format in LOSSY) == lossy]
    if not rivals:
        return "Kept because its format loses nothing; it has as many pixels as any of the others."
    if lossy and all(item.facts.bytes < kept.facts.bytes for item in rivals):
        return "Kept because it has most bytes, that is, lost least; it has as many pixels as any of the others."
    return "Kept because it came first; none of the others is better."


def _doubts(view: View) -> tuple[page.AsideGroup, ...]:
    groups = ((rule, items) for rule, items in view.doubtful.items() if rule not in LOOK_ALIKE)
    return tuple(
        page.AsideGroup(rule, tuple(page.Thumb(view.folder / "train" / p.file, p.file, detail) for p, detail in items))
        for rule, items in groups
    )


def _distributions(view: View) -> tuple[page.Distribution, ...]:
    rules, side = view.recipe.clean, view.resolution
    sides = [
        page.Limit(float(rules.minimum_side), "too small"),
        *([page.Limit(float(side), f"trained at {side}")] if side else []),
    ]
    blurry = page.Limit(max(1.0, rules.minimum_sharpness), "blurry")
    narrow = page.Limit(rules.maximum_aspect, "narrow")
    dark, bright = page.Limit(rules.minimum_brightest, "dark"), page.Limit(rules.maximum_darkest, "bright")
    sharpness, high, low = (
        "Variance of the Laplacian, at 512 pixels at most.",
        "The grey level, of 255, that the brightest 5 % reach.",
        "The grey level, of 255, that the darkest 5 % stay below.",
    )
    return (
        _distribution(view, "Shorter side", "In pixels.", lambda f: min(f.width, f.height), *sides, log=True),
        _distribution(view, "Aspect", "Longer side by shorter side.", _aspect, narrow),
        _distribution(view, "Sharpness", sharpness, lambda f: f.sharpness, blurry, log=True),
        _distribution(view, "Bright parts", high, lambda f: f.brightest, dark),
        _distribution(view, "Dark parts", low, lambda f: f.darkest, bright),
        _caption_lengths(view),
    )


def _distribution(
    view: View, title: str, words: str, measure: Callable[[data.Facts], float], *limits: page.Limit, log: bool = False
) -> page.Distribution:
    kept, aside = (tuple(float(measure(item.facts)) for item in items) for items in (view.kept, view.aside))
    words = f"{words} In the middle: {_middle(kept)}."
    return page.Distribution(title, words, kept, aside, limits, least=1.0 if log else -math.inf, log=log)


def _middle(values: Sequence[float]) -> str:
    middle = median(values)
    return f"{middle:,.0f}" if middle >= 100 else wording.number(middle)


def _aspect(facts: data.Facts) -> float:
    return max(facts.width, facts.height) / min(facts.width, facts.height)


def _caption_lengths(view: View) -> page.Distribution:
    of, most = view.lengths.of, view.lengths.most
    kept = tuple(float(of[text].length) for text in view.captions)
    aside = tuple(float(of[item.picture.text].length) for item in view.aside if item.picture.text)
    limits = (page.Limit(float(most), f"one window has {most}"),) if most else ()
    words = f"In {view.lengths.unit}. In the middle: {_middle(kept)}."
    return page.Distribution("Caption length", words, kept, aside, limits, most=200.0, whole=True)


def _captions(view: View) -> tuple[page.CaptionGroup, ...]:
    pictures, of = view.dataset.pictures, view.lengths.of
    by_length = sorted(pictures, key=lambda p: (-of[p.text].length, p.file))
    shown = {
        "Longest": by_length[:AT_AN_END],
        "Shortest": by_length[::-1][:AT_AN_END],
        "At random": _at_random(pictures)[:AT_RANDOM],
    }
    return tuple(page.CaptionGroup(title, tuple(_caption(view, p) for p in chosen)) for title, chosen in shown.items())


def _caption(view: View, picture: Picture) -> page.Caption:
    (thumb,), measured = _thumbs(view, [picture]), view.lengths.of[picture.text]
    length = f"{measured.length} {view.lengths.unit}"
    return page.Caption(thumb, *view.lengths.halves(picture.text), length)


def _captions_lead(view: View) -> str:
    different = f"{len(set(view.captions)):,} different ones for {len(view.captions):,} pictures. "
    if view.lengths.most is None:
        base = view.recipe.model.base
        return f"{different}Lengths are in words: the tokenizer of the base model, {base}, is not on this machine."
    cut = sum(view.lengths.too_long(text) for text in view.captions)
    told = f"{cut:,} are longer: what other programs would cut is underlined" if cut else "none is longer"
    return f"{different}A window has {view.lengths.most} tokens, two of them marks of beginning and end; {told}."


def _words_lead(view: View, different: int) -> str:
    trigger = view.trigger or usual_beginning(view.captions)
    besides = f" besides “{trigger}”" if trigger else ""
    rest = f", the most frequent {WORDS}" if different > WORDS else ""
    return f"{different:,} words that say something{besides}{rest}; in how many captions each stands."


def _rules(view: View) -> tuple[page.Rule, ...]:
    """Each rule with its limit, those that found most first."""
    rules, found = view.recipe.clean, view.found
    table = [
        page.Rule(name, limit, name in ("no caption", *rules.set_aside), found[name])
        for name, limit in limits(rules).items()
    ]
    return tuple(sorted(table, key=lambda rule: -rule.found))


def limits(rules: Clean) -> dict[str, str]:
    """What each rule finds fault with, in words with its limit."""
    return {
        "no caption": "there is none",
        "too small": f"the shorter side has fewer than {rules.minimum_side} pixels",
        "blank": f"the grey levels deviate by less than {rules.minimum_deviation:g} of 255",
        "duplicate": "it has the same pixels as one that is kept",
        "near-duplicate": "it looks the same as one that is kept",
        "mirrored": "it looks in a mirror the same as one that is kept",
        "blurry": f"the sharpness is below {rules.minimum_sharpness:g}",
        "dark": f"95 % of its pixels are darker than {rules.minimum_brightest:g} of 255",
        "bright": f"95 % of its pixels are brighter than {rules.maximum_darkest:g} of 255",
        "little detail": f"its grey levels hold less than {rules.minimum_entropy:g} bits a pixel",
        "narrow": f"one side is more than {rules.maximum_aspect:g} times the other",
        "bars": f"bars on two opposite sides take more than {100 * rules.maximum_bars:.3g} %",
        "JPEG blocks": f"steps on JPEG's grid are more than {100 * rules.maximum_blocks:.3g} % larger than others",
        "cut off": f"more than {100 * rules.maximum_missing:.3g} % of it is the grey that stands for missing parts",
        "broken letters": "the caption was saved in one encoding and read in another",
        "markup": "the caption holds pieces of a web page",
        "other script": f"more than {100 * rules.maximum_foreign_letters:.3g} % of the caption's letters are not Latin",
        "other language": f"a caption of {rules.minimum_words} words or more is surely not in “{rules.language}”",
        "similar": "cropped, brighter or darker, it looks the same as one that is kept",
        "does not fit its caption": f"it agrees less than {rules.minimum_fit:g} deviations better with its caption "
        f"than with others, and {-rules.minimum_agreement:g} deviations less than the middle picture",
        "unlike the others": f"it is more than {rules.maximum_strangeness:g} deviations farther from others than most",
        "unsafe content": f"it is more than {rules.maximum_unsafe:g} above what the safety checker allows",
        "writing": f"writing covers more than {100 * rules.maximum_writing:.3g} % of it",
    }
