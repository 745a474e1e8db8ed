"""A run and its comparison turned into the report page."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from bespoke import page
from bespoke import recipe as recipes
from bespoke.hardware import versions
from bespoke.pipeline import progress, runpage
from bespoke.pipeline.compare import Compared
from bespoke.pipeline.train import Trained
from bespoke.records import Dataset
from bespoke.workspace import Run, relative

EXPLAINED = {
    "kid": "How far the pictures are from the references as a set. Lower is closer; 0 is the same.",
    "agreement": "How well each picture shows what its prompt says, 0 to 100.",
}


def show(
    trained: Trained, compared: Compared, dataset: Dataset, dataset_folder: Path, seconds: Mapping[str, float]
) -> Path:
    """The report page of a run, written."""
    run = Run(trained.run)
    recipe = recipes.load(run.recipe)
    objective, scores = recipe.objective, compared.scores
    verdict = scores.verdict(objective.max_distance_ratio, objective.max_agreement_loss)
    report = page.Report(
        title=recipe.text.trigger or "Your style",
        base_model=recipe.model.base,
        finished=datetime.now().astimezone(),
        seconds=float(sum(seconds.values())),
        adapter=Path(relative(trained.adapter)) if trained.adapter else None,
        hero=page.Hero(compared.hero, compared.requests["hero"][0].prompt),
        findings=tuple(page.Finding(j.question, j.answer, j.ok, j.detail) for j in verdict),
        groups=_groups(compared),
        scores=tuple(
            page.ScoreRow(scores.labels[name], score, scores.tuned[name], EXPLAINED[name.partition("_")[0]])
            for name, score in scores.base.items()
        ),
        model=Path(relative(trained.model)) if trained.model else None,
        training=runpage.training_of(run, progress.wanted(recipe, dataset), trained.reason),
        intake=page.intake_of(dataset, dataset_folder / "set-aside"),
        settings=tuple(runpage.settings(run, recipe)),
        stages=tuple(page.Stage(name, float(value)) for name, value in seconds.items()),
        machine=runpage.machine_facts(),
        versions=tuple(page.Fact(name, version) for name, version in versions().items()),
        snippets=runpage.snippets(run, recipe, compared.requests["hero"][0].prompt),
    )
    page.write(report, run.report)
    return run.report


def _groups(compared: Compared) -> tuple[page.PairGroup, ...]:
    titles = {
        "reference": ("In the style", "Things that the training pictures do not show. The style should be there."),
        "general": ("Without the style's words", "Plain prompts. The style should not be there."),
    }
    return tuple(
        page.PairGroup(title, explanation, tuple(page.Pair(*pair) for pair in compared.pairs(kind)))
        for kind, (title, explanation) in titles.items()
    )
