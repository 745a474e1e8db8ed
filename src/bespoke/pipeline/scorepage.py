"""A comparison of models turned into its page: a run's own report, else one beside the pictures."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bespoke import data, page
from bespoke.data.dataset import record
from bespoke.evaluation import Row
from bespoke.evaluation.memorisation import Neighbour
from bespoke.evaluation.significance import Change
from bespoke.evaluation.verdict import percent
from bespoke.hardware import versions
from bespoke.pipeline import progress, runpage
from bespoke.pipeline.asking import said
from bespoke.pipeline.compared import Shown
from bespoke.pipeline.prompts import COMPLEX, DOMAIN, GENERAL, TRAINED
from bespoke.pipeline.references import Own
from bespoke.pipeline.train import result_of
from bespoke.records import Curve, Score
from bespoke.workspace import Run, relative

GROUPS = {
    DOMAIN: ("In the style", "Prompts in the style's words. The style should be there."),
    GENERAL: ("Without the style's words", "Plain prompts. The style should not be there."),
    COMPLEX: ("Much at once", "Prompts that ask for several things in the style's words. All should be there."),
    TRAINED: ("Training captions", "Asked for your training pictures in their own words. It should not be those."),
}
TABLES = {
    "agreement": ("Do pictures show what prompts say?", ""),
    "distance": (
        "How near to your pictures?",
        "Distances between sets, on the features of one network: those of another cannot be compared with them.",
    ),
    "likeness": ("How like your pictures is each?", ""),
    "copying": ("Does it copy?", "By the likeness of each picture to its nearest training picture."),
    "look": ("How do pictures look?", "Plain statistics of pixels, beside those of your own pictures."),
    "objects": ("Which things are in them?", "What a detector finds, by classes, and how those things look."),
}
"""The tables of the scorecard in their order, by the part that their rows belong to."""
CURVES = 6
"""So many scores at most are drawn over checkpoints."""
NEAREST, MOST_COPIES = 12, 48
"""So many pictures are shown beside their nearest training picture, and at most so many that count as copies."""


def write(shown: Shown, seconds: Mapping[str, float]) -> Path:
    """The page of a comparison, written."""
    compared, card = shown.compared, shown.scorecard
    run, recipe = compared.run, compared.recipe
    hero, prompt = shown.hero
    parts = page.Report(
        title=recipe.text.trigger or "Your style",
        kicker="Scorecard",
        base_model=recipe.model.base,
        finished=datetime.now().astimezone(),
        seconds=float(sum(seconds.values())),
        hero=page.Hero(hero, prompt, f"Above: {card.control}. Below: {card.tuned[0]}, with the same seeds."),
        models=card.models,
        verdicts=tuple(_verdicts(shown)),
        groups=tuple(_groups(shown)),
        tables=tuple(_tables(card.rows, card.models)),
        neighbours=(*_neighbours(shown), *_redrawn(shown)),
        courses=tuple(_courses(shown)),
        sheets=shown.sheets,
        instruments=tuple(_instruments(shown)),
        unmeasured=tuple(page.Fact(what, why) for what, why in card.unmeasured.items()),
        stages=tuple(page.Stage(name, float(value)) for name, value in seconds.items()),
        machine=runpage.machine_facts(),
        versions=tuple(page.Fact(name, version) for name, version in versions().items()),
    )
    path = run.report if run else compared.out / "report" / "index.html"
    page.write(_with_run(parts, run, shown) if run else parts, path)
    return path


def _with_run(report: page.Report, run: Run, shown: Shown) -> page.Report:
    """The page with what the run's own page says, too."""
    recipe, project = shown.compared.recipe, run.root.parent.parent
    folder = project / recipe.data.path
    dataset = record(folder) if (folder / "dataset.json").is_file() else None
    ended = result_of(run)
    requests = progress.wanted(recipe, dataset) if dataset else []
    return replace(
        report,
        adapter=Path(relative(ended.adapter)) if ended and ended.adapter else None,
        model=Path(relative(ended.model)) if ended and ended.model else None,
        training=runpage.training_of(run, requests, ended.reason if ended else ""),
        intake=page.intake_of(dataset, folder / data.ASIDE) if dataset else None,
        settings=tuple(runpage.settings(run, recipe)),
        snippets=runpage.snippets(run, recipe, shown.hero[1]),
    )


def _verdicts(shown: Shown) -> Iterator[page.Verdict]:
    for model, judgements in shown.verdicts.items():
        findings = tuple(page.Finding(j.question, j.answer, j.ok, j.detail) for j in judgements)
        yield page.Verdict(findings, model if len(shown.verdicts) > 1 else "")


def _groups(shown: Shown) -> Iterator[page.PairGroup]:
    """One picture of each prompt by every model, by kind of prompt."""
    drawings, several = shown.drawings, len(shown.scorecard.seeds)
    for kind, requests in shown.compared.requests.items():
        files = zip(*(drawings[model][kind] for model in shown.scorecard.models), strict=True)
        pairs = tuple(page.Pair(request.prompt, those) for request, those in zip(requests, files, strict=True))
        yield page.PairGroup(*GROUPS[kind], pairs[::several])


def _tables(rows: Sequence[Row], models: Sequence[str]) -> Iterator[page.ScoreTable]:
    for part, (title, explanation) in TABLES.items():
        told = tuple(_row(row, models) for row in rows if row.part == part)
        if told:
            yield page.ScoreTable(title, explanation, told)


def _row(row: Row, models: Sequence[str]) -> page.ScoreRow:
    target = next((score.target for score in row.scores.values() if score.target is not None), None)
    own = "" if target is None else f" Your own pictures: {target:.3g}."
    cells = tuple(
        page.Cell(row.scores[model], *_change(row, model)) if model in row.scores else None for model in models
    )
    return page.ScoreRow(row.label, cells, f"{row.explanation}{own}")


def _change(row: Row, model: str) -> tuple[str, bool | None]:
    """What changed in words, and whether it is beyond chance for the better or the worse."""
    change = row.changes.get(model)
    if change is None:
        return "", None
    words = _part(change)
    p = change.corrected if change.corrected is not None else change.p
    words += "" if p is None else f", p = {p:.2g}{' corrected' if change.corrected is not None else ''}"
    if change.low <= 0 <= change.high:
        return words, None
    return words, _better(row.scores[model], change)


def _better(score: Score, change: Change) -> bool | None:
    if score.better == "nearer":
        if score.target is None:
            return None
        return abs(score.value - score.target) < abs(score.value - change.difference - score.target)
    return (change.difference < 0) == (score.better == "lower")


def _part(change: Change) -> str:
    """The change as a part of what it was, where that can be told; else as it is."""
    value, low, high = change.ratio
    if all(math.isfinite(one) for one in (value, low, high)) and 0 < high < 10:
        return f"{_signed(value - 1)} ({_signed(low - 1)} to {_signed(high - 1)})"
    signs = (f"{one:+.3g}".replace("-", "\N{MINUS SIGN}") for one in (change.difference, change.low, change.high))
    return "{} ({} to {})".format(*signs)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + percent(value)


def _neighbours(shown: Shown) -> Iterator[page.NeighbourGroup]:
    training = shown.compared.references.training
    for model, copies in shown.scorecard.nearest.items():
        files = shown.drawings[model][DOMAIN]
        limit = f"{copies.threshold:.3f}"
        pairs = tuple(
            _beside(one, files, training, copies.threshold, f", beyond {limit}")
            for number, one in enumerate(copies.nearest)
            if number < NEAREST or (number < MOST_COPIES and one.similarity > copies.threshold)
        )
        words = (
            f"The pictures nearest to a training picture, the nearest first. Beyond a likeness of {limit} lie about "
            f"{percent(copies.chance)} of pictures that no training saw (at most {percent(copies.chance_high)}): "
            "there a picture counts as a copy."
        )
        yield page.NeighbourGroup(model, words, pairs)


def _redrawn(shown: Shown) -> Iterator[page.NeighbourGroup]:
    """Of each training caption the picture that is most like its own, by every tuned model."""
    for model, found in shown.scorecard.redrawn.items():
        files = shown.drawings[model][TRAINED]
        training = said(shown.compared.prompts, TRAINED, shown.compared.references.training)
        pairs = tuple(_beside(one, files, training, found.most) for one in found.nearest)
        words = (
            "Of each training caption what was drawn most like its own picture, the most alike first. Captions that no "
            f"training was told lead to a likeness of {found.usual:.3f} in the middle and at most {found.most:.3f}; "
            "what lies beyond that is marked."
        )
        yield page.NeighbourGroup(f"{model}, asked with training captions", words, pairs)


def _beside(
    one: Neighbour, files: Sequence[Path], training: Sequence[Own], limit: float, beyond: str = ""
) -> page.Neighbours:
    """A drawn picture and the training picture it is like, marked where they are more alike than `limit`."""
    copied = one.similarity > limit
    words = f"likeness {one.similarity:.3f}{beyond if copied else ''}"
    return page.Neighbours(files[one.picture], training[one.training].file, words, copied)


def _courses(shown: Shown) -> Iterator[page.Course]:
    """Scores over the epochs of a run, where several of its checkpoints were measured."""
    card = shown.scorecard
    epochs = {model: int(model.rpartition("@epoch-")[2]) for model in card.tuned if _is_epoch(model)}
    if len(epochs) < 2:
        return
    told = [row for row in card.rows if row.main or row.name == "copy_rate"][:CURVES]
    for row in told:
        level = row.scores[card.control].value
        yield page.Course(row.label, row.explanation, _course(row, epochs), level)


def _course(row: Row, epochs: Mapping[str, int]) -> tuple[Curve, Curve, Curve]:
    ordered = sorted(epochs, key=lambda model: epochs[model])
    steps = tuple(epochs[model] for model in ordered)
    scores = [row.scores[model] for model in ordered]
    ends = ([s.low for s in scores], [s.value for s in scores], [s.high for s in scores])
    low, middle, high = (Curve(row.name, steps, tuple(values)) for values in ends)
    return low, middle, high


def _is_epoch(model: str) -> bool:
    return model.rpartition("@epoch-")[2].isdecimal()


def _instruments(shown: Shown) -> Iterable[page.Fact]:
    card, settings = shown.scorecard, shown.compared.settings
    for one in card.instruments:
        yield page.Fact(one.name, f"weights {one.mark[:16]}; {one.resizer}")
    counts = ", ".join(f"{count} {name}" for name, count in card.counts.items())
    yield page.Fact("Pictures", counts)
    guided = f"guidance {settings.guidance_scale:g}" if settings.guidance_scale is not None else "its own guidance"
    yield page.Fact(
        "Drawn with", f"{settings.num_inference_steps} steps, {guided}, {len(card.seeds)} seeds of a prompt"
    )
    yield page.Fact("Intervals", "95 %; pictures of one prompt are drawn anew, swapped or left out together")
