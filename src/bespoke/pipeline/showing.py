"""A run and its comparison turned into the report page."""

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bespoke import page, training
from bespoke import recipe as recipes
from bespoke.hardware import machine, versions
from bespoke.pipeline.compare import Compared
from bespoke.pipeline.train import Trained
from bespoke.records import Curve, Dataset
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
        adapter=Path(relative(trained.adapter)),
        hero=page.Hero(compared.hero, compared.requests["hero"][0].prompt),
        findings=tuple(page.Finding(j.question, j.answer, j.ok, j.detail) for j in verdict),
        groups=_groups(compared),
        scores=tuple(
            page.ScoreRow(scores.labels[name], score, scores.tuned[name], EXPLAINED[name.partition("_")[0]])
            for name, score in scores.base.items()
        ),
        training=_training(run, trained),
        intake=page.intake_of(dataset, dataset_folder / "set-aside"),
        settings=tuple(_settings(run, recipe)),
        stages=tuple(page.Stage(name, float(value)) for name, value in seconds.items()),
        machine=_machine(),
        versions=tuple(page.Fact(name, version) for name, version in versions().items()),
        snippets=_snippets(trained, recipe, compared.requests["hero"][0].prompt),
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


def _training(run: Run, trained: Trained) -> page.Training:
    rows = list(training.read(run.metrics))
    rates = [row["images_per_second"] for row in rows if row["event"] == "step"]
    return page.Training(
        loss=_curve(rows, "step", "loss", "training loss"),
        validation=_curve(rows, "validated", "log_ratio", "validation loss against the base, log-ratio"),
        learning_rate=_curve(rows, "step", "learning_rate", "learning rate"),
        steps=trained.steps,
        best_step=trained.best_step or None,
        images_per_second=sorted(rates)[len(rates) // 2] if rates else None,
        reason=trained.reason,
    )


def _curve(rows: Iterable[Mapping[str, Any]], event: str, key: str, name: str) -> Curve | None:
    points = [(int(row["step"]), float(row[key])) for row in rows if row["event"] == event]
    return Curve(name, tuple(step for step, _ in points), tuple(value for _, value in points)) if points else None


def _settings(run: Run, recipe: recipes.Recipe) -> Iterable[page.Setting]:
    """Every setting; a derived one with the reason that stands beside it in the run's recipe."""
    text = run.recipe.read_text(encoding="utf-8")
    written = tomllib.loads(text)
    reasons = recipes.comments(text)
    for section, values in recipe.model_dump(mode="json").items():
        for key, value in values.items():
            name = f"{section}.{key}"
            given = key in written.get(section, {})
            origin = "derived" if name in reasons else "asked" if given else "default"
            yield page.Setting(name, _shown(value), reasons.get(name, ""), origin)


def _shown(value: object) -> str:
    """A value as the page shows it; of a list of prompts the first, and how many there are."""
    if not isinstance(value, list):
        return str(value)
    return f"{len(value)} prompts, the first: {value[0]}" if value else "none"


def _machine() -> tuple[page.Fact, ...]:
    here = machine()
    facts = {
        "device": f"{here.device} {here.name}".strip(),
        "cores": str(here.cores),
        "memory": f"{here.memory_gb:.0f} GB",
    }
    return tuple(page.Fact(label, value) for label, value in facts.items())


def _snippets(trained: Trained, recipe: recipes.Recipe, prompt: str) -> tuple[page.Snippet, ...]:
    base = "bespoke.models.PICO" if recipe.model.base == "pico" else repr(recipe.model.base)
    lines = ["import torch", "from diffusers import StableDiffusionPipeline"]
    lines += ["import bespoke.models", ""] if recipe.model.base == "pico" else [""]
    drawing = recipe.sample.model_dump(include={"num_inference_steps", "guidance_scale"})
    lines += [
        f"pipe = StableDiffusionPipeline.from_pretrained({base})",
        f"pipe.load_lora_weights({relative(trained.run)!r}, weight_name={trained.adapter.name!r})",
        f"settings = {drawing!r}",
        f"picture = pipe({prompt!r}, generator=torch.Generator().manual_seed(0), **settings).images[0]",
    ]
    command = f"bespoke sample {shlex.quote(relative(trained.run))} {shlex.quote(prompt)} --n 3"
    return page.Snippet("On the command line", command), page.Snippet("In diffusers", "\n".join(lines))
