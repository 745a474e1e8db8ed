"""Models turned into a scorecard: the same prompts and seeds drawn by all, measured, judged, and shown on one page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bespoke import page, registry
from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.evaluation import Judgement, Margins, Scorecard, verdict
from bespoke.pipeline import card, scorepage
from bespoke.pipeline.axes import Given
from bespoke.pipeline.compared import Compared, Shown
from bespoke.pipeline.grid import grid as plot
from bespoke.pipeline.measuring import measure
from bespoke.pipeline.naming import Named, named, named_from
from bespoke.pipeline.pictures import drawn, home, opened
from bespoke.pipeline.prompts import DOMAIN, KINDS, prompts
from bespoke.pipeline.protocol import marks, protocol
from bespoke.pipeline.references import references
from bespoke.pipeline.reporting import Reporter, Stopwatch, silent
from bespoke.pipeline.sample import alike, settled
from bespoke.recipe import Recipe
from bespoke.sampling import Request, grid
from bespoke.workspace import Project, Run, atomic_file, write_json

BASE, TUNED = "base", "tuned"


@dataclass(frozen=True)
class Evaluated:
    """A scorecard and where it was written."""

    scorecard: Scorecard
    verdicts: Mapping[str, tuple[Judgement, ...]]
    """By tuned model."""
    pictures: Mapping[str, Mapping[str, tuple[Path, ...]]]
    """By model and kind of prompt."""
    report: Path
    content: Path
    """Everything as JSON."""
    card: Path | None
    """The model card; nothing where what was measured is no run."""
    seconds: Mapping[str, float]


def evaluate(
    models: str | Sequence[str],
    against: str = BASE,
    *,
    reference: str | Path | None = None,
    checkpoints: bool = False,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Evaluated:
    """The scorecard of one or more models against a control: `base`, what the first was trained on, or any model.

    With `checkpoints` all weights kept after epochs of the first model's run are measured, too. Pictures lie in `out`,
    by default the run's folder `evaluation`; what was drawn before is not drawn again.

    Raises: BespokeError when there is no such model, nothing to compare with, or no prompt.
    """
    names = [models] if isinstance(models, str) else list(models)
    folder = Path(reference) if reference else None
    compared = comparison(names, against, folder, checkpoints=checkpoints, out=out, overrides=overrides)
    done = carry_out(compared, report)
    if compared.run and compared.recipe.track.mlflow and "@" not in names[0]:
        _tell(compared.run, compared.recipe, done.scorecard, report)
    return done


def comparison(
    names: Sequence[str],
    against: str = BASE,
    reference: Path | None = None,
    *,
    checkpoints: bool = False,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    kinds: Sequence[str] = KINDS,
    hero: str = "",
    folder: Path = Path(),
) -> Compared:
    """What `evaluate` compares: models, prompts and the person's pictures, before anything is drawn.

    Models are looked up from `folder`.

    Raises: BespokeError as `evaluate`.
    """
    found = {name: named(name, folder) for name in names}
    first = found[names[0]]
    run, at_home = first.run, first.run is not None and not first.registered
    recipe = _recipe(run, overrides)
    control = _control(first, names[0], against)
    if checkpoints:
        found |= _checkpoints(run, names[0])
    called = [TUNED] if len(found) == 1 else list(found)
    if against in called:
        raise BespokeError(f"{against} would be compared with itself.", "Name it once: as MODEL or with --against.")
    own = references(recipe, run.root.parent.parent if run else None, reference)
    return Compared(
        {against: control, **dict(zip(called, found.values(), strict=True))},
        recipe,
        settled(alike(recipe.sample), control.checkpoint),
        prompts(recipe, own.captions, own.learnt, kinds),
        own,
        Path(out) if out else run.root / "evaluation" if run and at_home else Path("evaluation"),
        run if at_home else None,
        hero,
    )


def carry_out(
    compared: Compared, report: Reporter, *, whole: bool = True, seconds: Mapping[str, float] | None = None
) -> Evaluated:
    """The comparison drawn, measured, judged and written; without `whole` only what the verdict rests on is measured.

    `seconds` is what came before it took, for the page.
    """
    watch = Stopwatch()
    with watch.stage("draw"):
        drawings = draw_all(compared, report)
    with watch.stage("measure"):
        made = measure(compared.recipe, drawings, compared.prompts, compared.references, report, whole=whole)
    objective = compared.recipe.objective
    margins = Margins(
        objective.max_distance_ratio, objective.max_agreement_loss, objective.max_copy_rate,
        objective.max_membership,
    )  # fmt: skip
    verdicts = {model: verdict(made, model, margins) for model in made.tuned}
    with watch.stage("grids"):
        sheets = _sheets(compared, report) if whole else ()
    times = {**(seconds or {}), **watch.seconds}
    shown = Shown(compared, made, verdicts, drawings, _hero(compared, drawings, report), sheets)
    page = scorepage.write(shown, times)
    content = page.with_name("report.json")
    write_json(content, _content(made, verdicts) | {"marks": marks(compared), "protocol": protocol(compared, made)})
    first = made.tuned[0]
    described = compared.run and card.write(compared.run, compared.recipe, made, first, verdicts[first])
    return Evaluated(made, verdicts, drawings, page, content, described, times)


def _tell(run: Run, recipe: Recipe, card: Scorecard, report: Reporter) -> None:
    """Tells the run's record in MLflow its scores; that it cannot be reached is no reason to fail."""
    address = recipe.track.store or registry.of_file(Project(run.root.resolve().parent.parent).store)
    scores = {name: score.value for name, score in card.of(card.tuned[0]).items()}
    if trouble := registry.tell_scores(run.root, address, scores):
        report("track", 1, 1, trouble)


def draw_all(compared: Compared, report: Reporter) -> dict[str, dict[str, tuple[Path, ...]]]:
    """The pictures of every model, by kind of prompt; only missing ones are drawn."""
    drawings: dict[str, dict[str, tuple[Path, ...]]] = {}
    for model, source in compared.models.items():
        folder = home(source, compared.settings, compared.out / "pictures")
        drawings[model] = {
            kind: tuple(drawn(source, requests, folder / kind, compared.settings, report, f"draw {kind}, {model}"))
            for kind, requests in compared.requests.items()
        }
    return drawings


def _recipe(run: Run | None, overrides: Sequence[str]) -> Recipe:
    return recipes.load(run.recipe, overrides) if run else recipes.parse(recipes.put({}, *overrides), "--set")


def _control(tuned: Named, name: str, against: str) -> Named:
    if against != BASE:
        return named(against)
    if tuned.recipe is None:
        hint = "Name what to compare it with: --against pico."
        raise BespokeError(f"{name} is no run, so it is not known what its base is.", hint)
    return named_from(name, BASE)[BASE]


def _checkpoints(run: Run | None, name: str) -> dict[str, Named]:
    if run is None:
        raise BespokeError(f"{name} is no run: only runs keep checkpoints.", "Name the models one by one.")
    kept = [f"{run.root}@{folder.name}" for folder in run.checkpoints()]
    if not kept:
        raise BespokeError(f"{run.root} kept no checkpoints.", "Train with train.save_every_n_epochs = 1.")
    return {one: named(one) for one in kept}


def _hero(
    compared: Compared, drawings: Mapping[str, Mapping[str, Sequence[Path]]], report: Reporter
) -> tuple[Path, str]:
    """One prompt drawn three times by the control and the first tuned model, as one picture, and the prompt."""
    prompt = compared.hero or compared.prompts.kinds[DOMAIN][0]
    requests = [Request(prompt, compared.settings.seed + n) for n in range(3)]
    files: list[Path] = []
    for model, source in list(compared.models.items())[:2]:
        folder = drawings[model][DOMAIN][0].parent.parent / "hero"  # as `home` has it, which hashes all weights
        files += drawn(source, requests, folder, compared.settings, report, f"draw hero, {model}")
    path = compared.out / "hero.png"
    with atomic_file(path) as temporary:
        grid([picture for part in opened(files) for picture in part], 3).save(temporary, format="PNG")
    return path, prompt


def _sheets(compared: Compared, report: Reporter) -> tuple[page.Sheet, ...]:
    """Grids over settings for the first tuned model: guidance by steps, and the checkpoints of its run."""
    model, source = list(compared.models.items())[1]
    prompt, settings = compared.prompts.kinds[DOMAIN][0], compared.settings
    guided, steps = settings.guidance_scale or 1.0, settings.num_inference_steps
    axes: dict[str, tuple[str, Given, Given]] = {
        "Guidance by steps": (
            "How strongly the prompt pulls, across, and how many steps a picture takes, down.",
            {"cfg": [round(guided * factor, 2) for factor in (0.5, 0.75, 1, 1.5, 2)]},
            {"steps": [max(1, round(steps * factor)) for factor in (0.25, 0.5, 1, 2)]},
        )
    }
    if compared.run and compared.run.checkpoints():
        words = "The base and all weights that the run kept, across; three first noises, down."
        axes["Checkpoints"] = (words, {"checkpoint": "all"}, {"seed": [settings.seed + n for n in range(3)]})
    made: list[page.Sheet] = []
    for title, (words, x, y) in axes.items():
        folder = compared.out / "grids" / title.lower().replace(" ", "-")
        found = plot(source.name, prompt, x=x, y=y, out=folder, settings=settings, safety_checker=False, report=report)
        made.append(page.Sheet(f"{title}: {prompt}", f"{words} Drawn by {model}.", found.grid, found.page))
    return tuple(made)


def _content(card: Scorecard, verdicts: Mapping[str, Sequence[Judgement]]) -> dict[str, Any]:
    return card.to_json() | {"verdicts": {model: [asdict(one) for one in found] for model, found in verdicts.items()}}
